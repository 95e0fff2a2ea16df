"""A search space for trials that were run elsewhere: from Optuna's distributions, or from values alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from hpo.errors import DataError, SpaceError
from hpo.trial import Params
from search_spaces import Choice, Float, Int, SearchSpace
from search_spaces.parameters import Parameter, is_number


def from_values(points: Iterable[Params]) -> SearchSpace:
    """The smallest space that holds every point: whole numbers are ints, other numbers floats, the rest choices.

    Raises:
        DataError: there is no parameter, or a value that no space can hold.
    """
    seen: dict[str, list[Any]] = {}
    for params in points:
        for name, value in params.items():
            if not isinstance(value, (str, int, float, bool, type(None))):
                raise DataError(f"{name}: a parameter is text, a number, true, false or null; got {value!r}.")
            seen.setdefault(name, []).append(value)
    return _space({name: _around(name, values) for name, values in seen.items()})


def from_distributions(found: Mapping[str, Iterable[str]]) -> tuple[SearchSpace, list[str]]:
    """The space of Optuna's ``distribution_json`` by parameter, and a note for each that had several.

    Raises:
        DataError: there is no parameter, or a distribution that has no place here.
    """
    parameters, notes = {}, []
    for name, texts in found.items():
        different = list(dict.fromkeys(_parameter(name, text) for text in texts))
        parameters[name] = _joined(name, different)
        if len(different) > 1:
            notes.append(f"{name} had {len(different)} ranges; the space has {parameters[name]}.")
    return _space(parameters), notes


def _space(parameters: Mapping[str, Parameter]) -> SearchSpace:
    if not parameters:
        raise DataError("No finished trial has a parameter, so there is no search space to import.")
    try:
        return SearchSpace(parameters)
    except SpaceError as error:
        raise DataError(f"The trials fit into no search space: {error}") from None


def _around(name: str, values: list[Any]) -> Parameter:
    distinct = _distinct(values)
    if len(distinct) == 1 or not all(is_number(value) for value in distinct):
        return _choice(name, distinct)
    if not all(math.isfinite(value) for value in distinct):
        raise DataError(f"{name}: a parameter is finite; got {next(v for v in distinct if not math.isfinite(v))!r}.")
    kind = Int if all(isinstance(value, int) for value in distinct) else Float
    return kind(min(distinct), max(distinct))


def _distinct(values: list[Any]) -> list[Any]:
    """Each value once, in the order seen; True is not 1."""
    return list({(isinstance(value, bool), value): value for value in values}.values())


def _parameter(name: str, text: str) -> Parameter:
    fields = json.loads(text)
    kind, attributes = fields["name"], fields["attributes"]
    if kind == "CategoricalDistribution":
        return _choice(name, attributes["choices"])
    if kind not in ("FloatDistribution", "IntDistribution"):
        raise DataError(f"{name}: {kind} is of an Optuna before version 3; upgrade the storage with Optuna's own tool.")
    low, high = attributes["low"], attributes["high"]
    if low == high:
        return _choice(name, [low])
    options = {key: attributes[key] for key in ("log", "step") if attributes.get(key)}
    if options.get("log"):
        options.pop("step", None)  # Optuna gives every int a step, of 1 on a log scale
    try:
        return Int(low, high, **options) if kind == "IntDistribution" else Float(low, high, **options)
    except SpaceError as error:
        raise DataError(f"{name}: {error}") from None


def _joined(name: str, parameters: list[Parameter]) -> Parameter:
    """One parameter that holds what all of them do."""
    if len(parameters) == 1:
        return parameters[0]
    values: list[Any] = [v for p in parameters for v in (p.choices if isinstance(p, Choice) else (p.low, p.high))]
    # A range of one value is a choice here; beside wider ranges it is a number again.
    if any(isinstance(p, Choice) and len(p.choices) > 1 for p in parameters) or not all(map(is_number, values)):
        return _choice(name, _distinct(values))
    kind = Int if all(isinstance(value, int) for value in values) else Float
    ranges = [p for p in parameters if not isinstance(p, Choice)]
    return kind(min(values), max(values), log=bool(ranges) and all(p.log for p in ranges) and min(values) > 0)


def _choice(name: str, values: list[Any]) -> Choice:
    try:
        return Choice(tuple(values))
    except SpaceError as error:
        raise DataError(f"{name}: {error}") from None
