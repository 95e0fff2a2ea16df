"""What a launch of a study changed against the one before it, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from storage.records import LaunchRecord

_ABSENT = object()


def changes(launches: Sequence[LaunchRecord]) -> list[list[str]]:
    """For each launch, the oldest first, what differs from the one before: ``budget.trials: was 20, is 40``.

    Settings, runner, workers and host; of the environment (packages, Python, GPUs, git) what both
    launches have a record of. The first launch changed nothing.
    """
    found = [_changed(before, after) for before, after in pairwise(launches)]
    return [[], *found] if launches else []


def _changed(before: LaunchRecord, after: LaunchRecord) -> list[str]:
    was = {**_flat(before.settings), "runner": before.runner, "workers": before.workers, "host": before.host}
    now = {**_flat(after.settings), "runner": after.runner, "workers": after.workers, "host": after.host}
    ran_on, runs_on = _flat(before.environment), _flat(after.environment)
    both = [name for name in runs_on if name in ran_on]
    pairs = [(name, was.get(name, _ABSENT), now.get(name, _ABSENT)) for name in dict.fromkeys([*was, *now])]
    pairs += [(name, ran_on[name], runs_on[name]) for name in both]
    return [f"{name}: was {_said(old)}, is {_said(new)}" for name, old, new in pairs if old != new]


def _flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """``{"budget": {"trials": 20}}`` as ``{"budget.trials": 20}``."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found


def _said(value: Any) -> str:
    if value is _ABSENT or value is None or value in ([], ""):
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
