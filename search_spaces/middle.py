"""A point in the middle of a search space, for trying one out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search_spaces.parameters import Choice, Float, Parameter, Value
from search_spaces.space import SearchSpace


def middle(parameter: Parameter) -> Value:
    """The middle of a parameter's range: the geometric mean on a log scale, of a list the middle value.

    On a grid it is the nearest point of it, the lower of two.
    """
    if isinstance(parameter, Choice):
        return parameter.choices[(len(parameter.choices) - 1) // 2]
    low, high, step = parameter.low, parameter.high, parameter.step
    if isinstance(parameter, Float):
        if parameter.log:
            between = math.exp((math.log(low) + math.log(high)) / 2)
            return min(max(between, low), high)  # rounding must not leave the range
        if step is None:
            return low + (high - low) / 2
    elif parameter.log:
        return round(math.exp((math.log(low) + math.log(high)) / 2))
    count = parameter.count() or 1
    return low + (count - 1) // 2 * (step or 1)


def complete(space: SearchSpace, *points: Mapping[str, Any]) -> dict[str, Any]:
    """A whole point of ``space``: each value from the first of ``points`` that has a legal one, else the middle.

    Conditions hold: a parameter is there exactly where the values before it make it so.
    """
    params: dict[str, Any] = {}
    for name, parameter in space.items():
        if space.is_active(name, params):
            given = (point[name] for point in points if name in point and parameter.contains(point[name]))
            params[name] = next(given, middle(parameter))
    return params
