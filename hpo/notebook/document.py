"""A study given as a dictionary: the study file that says the same."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hpo.errors import UserError
from hpo.service import StudyText
from hpo.spec import StudySpec
from objectives.adopted import Adopted
from objectives.base import Objective
from search_spaces import Choice, Float, Int, SearchSpace

SOURCE = "the study"  # what errors call it
_HEAD = "# Written from a Python dictionary.\n"
_PARAMETERS = (Choice, Float, Int)


def written(fields: Mapping[str, Any]) -> StudyText:
    """The study file of ``fields``, in the order of docs/study-file.md: equal studies give equal texts.

    Besides what YAML knows, ``objective`` may be a class, a function or what ``adopt`` made, ``search_space`` a
    ``SearchSpace`` or a mapping with parameters as objects, and any value a tuple, a path, an enumeration's member
    or a NumPy scalar.

    Raises:
        UserError: a value has no place in a study file, or the objective is none or has no name.
    """
    named = dict(fields)
    if not isinstance(named.get("objective", ""), str):
        named["objective"] = objective_name(named["objective"])
    if "search_space" in named:
        named["search_space"] = _space(named["search_space"])
    order = [*(name for name in StudySpec.model_fields if name in named), *named]
    try:
        document = {name: _plain(named[name], str(name)) for name in dict.fromkeys(order)}
    except RecursionError:
        raise UserError(f"{SOURCE} holds itself somewhere, and so cannot be written down.") from None
    text = io.StringIO(_HEAD)
    text.seek(0, io.SEEK_END)
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(document, text)
    return StudyText(text.getvalue(), SOURCE, str(Path.cwd()))


def objective_name(given: object) -> str:
    """``package.module:NAME`` of an objective or a function; what a notebook's cell defines is in ``__main__``.

    Raises:
        UserError: it is neither, or no name leads to it.
    """
    is_class = isinstance(given, type) and issubclass(given, Objective)
    if not (is_class or inspect.isfunction(given) or isinstance(given, Adopted)):
        raise UserError(
            "objective: give a name, 'package.module:Class', a class that derives from Objective, or a function "
            f"train(params, report), adopted or not; got {given!r}."
        )
    own = (getattr(given, "__module__", None), getattr(given, "__qualname__", None))
    places = sorted(_places(given), key=lambda place: (place != own, place[0] == "__main__", place))
    if not places:
        raise UserError(f"objective: {own[1] or given!r} must have a name at the top of its module or cell.")
    return ":".join(places[0])


def _places(given: object) -> Iterator[tuple[str, str]]:
    """Every module that has it, and under which name; a leading ``_`` is a notebook's memory of its outputs."""
    for module in list(sys.modules.values()):
        held = dict(getattr(module, "__dict__", {}))
        for name, value in held.items():
            if value is given and not name.startswith("_"):
                yield str(held["__name__"]), name  # which __mp_main__, the same module once more, has not


def _space(given: Any) -> Any:
    """As it is written in a study file."""
    if isinstance(given, Mapping) and given and all(isinstance(value, _PARAMETERS) for value in given.values()):
        return SearchSpace(given).to_dict()
    return given


def _plain(value: Any, where: str) -> Any:
    """``value`` as YAML has it: mappings, lists, text, numbers, truth values and nothing."""
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise UserError(f"{SOURCE}: {where}: {type(value).__name__} has no place in a study file; got {value!r}.")
