"""JSON for the database: NaN and infinities become text, so that every server accepts it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dump(value: Any) -> str:
    """``value`` as strict JSON; a non-finite float becomes ``{"float": "NaN"}``."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        return json.dumps(_spell(value), allow_nan=False, ensure_ascii=False)


def load(text: str) -> Any:
    """What ``dump`` was given (tuples come back as lists)."""
    # Calling the hook for every object is most of what reading a study's curves would cost.
    return json.loads(text, object_hook=_unspell) if '"float"' in text else json.loads(text)


def load_all(texts: Iterable[str]) -> list[Any]:
    """``load`` of each text; for many small ones this takes less than half the time."""
    return list(load(f"[{','.join(texts)}]"))


def storable(text: str) -> str:
    """``text`` as every server takes it: NUL and lone surrogates are spelled out.

    In JSON a surrogate so spelled is the same value still.
    """
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def now() -> str:
    """This moment in UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def moment(text: str) -> str:
    """A moment in ISO 8601 as ``now`` writes it; one without a time zone is taken for UTC.

    Raises:
        ValueError: it is no moment.
    """
    found = datetime.fromisoformat(text)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="microseconds")


def seconds_between(first: str, last: str) -> float:
    """Between two moments as ``now`` gives them."""
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def _spell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {key: _spell(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell(inner) for inner in value]
    return value


def _unspell(data: dict[str, Any]) -> Any:
    if set(data) == {"float"} and data["float"] in _WORDS:
        return _WORDS[data["float"]]
    return data
