"""A search space: named parameters, some of them conditional on others."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.errors import SpaceError, UnknownName
from search_spaces.parameters import Choice, Float, Int, Parameter, same

MAX_NAME = 200  # characters; Optuna's column has 512
_TYPES: dict[Any, Any] = {"float": Float, "int": Int, "categorical": Choice}
_NAMES = {Float: "float", Int: "int", Choice: "categorical"}


class SearchSpace(Mapping[str, Parameter]):
    """Parameters by name, in an order where a condition comes before what depends on it.

    Raises:
        SpaceError: no parameter at all, a name that no table could show, a condition on an
            unknown parameter, on a value that it never takes, or conditions in a circle.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if not parameters:
            raise SpaceError("A search space needs at least one parameter.")
        for name, parameter in parameters.items():
            _check_name(name)
            _check_conditions(name, parameter, parameters)
        self._parameters = _in_order(dict(parameters))

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __or__(self, other: Mapping[str, Parameter]) -> SearchSpace:
        """Both spaces; where a name stands in both, ``other`` wins."""
        return SearchSpace({**self._parameters, **other})

    def narrow(self, **parameters: Parameter) -> SearchSpace:
        """This space with some parameters replaced; every name must exist already."""
        for name in parameters:
            if name not in self:
                raise UnknownName("parameter", name, self)
        return self | parameters

    def is_active(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether the conditions of ``name`` hold among ``params``."""
        return all(
            other in params and any(same(params[other], value) for value in values) for other, values in self[name].when
        )

    def check(self, params: Mapping[str, Any], *, partial: bool = False) -> None:
        """Refuse a point that is not in the space.

        ``partial`` allows parameters to be left out (the sampler fills them in).

        Raises:
            SpaceError: an unknown parameter, a value outside, an inactive parameter that
                was given, or (unless ``partial``) a missing one.
        """
        for name, value in params.items():
            if name not in self:
                raise SpaceError(str(UnknownName("parameter", name, self)))
            if not self[name].contains(value):
                raise SpaceError(f"{name} must be {self[name]}; got {value!r}.")
            known = all(other in params for other, _ in self[name].when)
            if not self.is_active(name, params) and (known or not partial):
                raise SpaceError(f"{name} exists only when {_spoken(self[name])}; this point has not.")
        if not partial:
            for name in self:
                if self.is_active(name, params) and name not in params:
                    raise SpaceError(f"{name} is missing; it must be {self[name]}.")

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The space as it is written in a study file."""
        return {name: _to_dict(parameter) for name, parameter in self.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The space that a study file writes out, ``{name: {type: float, low: ..., ...}}``."""
        return cls({name: _parameter(str(name), fields) for name, fields in data.items()})


def _parameter(name: str, fields: object) -> Parameter:
    if not isinstance(fields, Mapping):
        raise SpaceError(f"{name}: write a parameter as {{type: ..., ...}}; got {fields!r}.")
    rest = dict(fields)
    kind = rest.pop("type", None)
    if kind not in _TYPES:
        raise SpaceError(f"{name}: {UnknownName('type', kind, _TYPES)}")
    allowed = _TYPES[kind].__dataclass_fields__
    for field in rest:
        if field not in allowed:
            raise SpaceError(f"{name}: {UnknownName('field', field, ['type', *allowed])}")
    if "when" in rest and not isinstance(rest["when"], Mapping):
        raise SpaceError(f"{name}: write when as {{parameter: value}}; got {rest['when']!r}.")
    for field in ("choices",) if kind == "categorical" else ("low", "high"):
        if field not in rest:
            raise SpaceError(f"{name}: a {kind} parameter needs {field}.")
    try:
        return _TYPES[kind](**rest)
    except SpaceError as error:
        raise SpaceError(f"{name}: {error}") from None


def _to_dict(parameter: Parameter) -> dict[str, Any]:
    data: dict[str, Any] = {"type": _NAMES[type(parameter)]}
    for field, definition in parameter.__dataclass_fields__.items():
        value = getattr(parameter, field)
        if field == "when":
            value = {name: list(values) for name, values in value}
        if value != definition.default and value != {}:
            data[field] = list(value) if isinstance(value, tuple) else value
    return data


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise SpaceError(f"A parameter's name is text; got {name!r}.")
    if len(name) > MAX_NAME:
        raise SpaceError(
            f"A parameter's name has at most {MAX_NAME} characters; got {len(name)}, beginning {name[:40]!r}."
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise SpaceError(f"A parameter's name has no control characters; got {name!r}.")


def _check_conditions(name: str, parameter: Parameter, known: Mapping[str, Parameter]) -> None:
    for other, values in parameter.when:
        if other not in known:
            raise SpaceError(f"{name}: when names an unknown parameter. {UnknownName('parameter', other, known)}")
        for value in values:
            if not known[other].contains(value):
                raise SpaceError(f"{name}: when {other} is {value!r}, but {other} is {known[other]}.")


def _in_order(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """Every parameter after those its conditions name; the given order otherwise."""
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [n for n, p in waiting.items() if all(other in ordered for other, _ in p.when)]
        if not ready:
            raise SpaceError(f"The conditions of {', '.join(sorted(waiting))} form a circle.")
        ordered[ready[0]] = waiting.pop(ready[0])
    return ordered


def _spoken(parameter: Parameter) -> str:
    return " and ".join(f"{n} is {' or '.join(map(repr, v))}" for n, v in parameter.when)
