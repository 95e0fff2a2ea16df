"""A search space narrowed to where the best trials lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hpo.trial import Params
from search_spaces import Choice, Float, Int, SearchSpace
from search_spaces.parameters import Parameter, When, same

MARGIN = 0.05  # of the old range, added on both sides
_DIGITS = 3  # of a new bound
_ROUNDING = 1e-9  # of a step: what is nearer to one is on it


def narrowed(space: SearchSpace, best: Sequence[Params]) -> SearchSpace:
    """The part of ``space`` where the points ``best`` lie, each of which it still contains.

    A range goes from the lowest to the highest value of ``best``, and a twentieth of the old
    range (of its logarithm on a log scale) further on both sides; whole numbers and steps
    go to the next value outwards. Of a choice, the values that some point has stay. A
    parameter whose condition can no longer hold is left out; one that no point has, though
    it could, stays as it was.
    """
    kept: dict[str, Parameter] = {}
    for name, parameter in space.items():
        when = _still_possible(parameter.when, kept)
        if when is not None:
            values = [point[name] for point in best if name in point]
            kept[name] = replace(_around(parameter, values) if values else parameter, when=when)
    return SearchSpace(kept)


def _still_possible(when: When, kept: dict[str, Parameter]) -> When | None:
    """The conditions with the values that are still there; None when one can no longer hold."""
    left = []
    for other, values in when:
        possible = tuple(value for value in values if other in kept and kept[other].contains(value))
        if not possible:
            return None
        left.append((other, possible))
    return tuple(left)


def _around(parameter: Parameter, values: Sequence[Any]) -> Parameter:
    if isinstance(parameter, Choice):
        used = tuple(choice for choice in parameter.choices if any(same(choice, value) for value in values))
        return replace(parameter, choices=used)
    low, high = _widened(parameter, min(values), max(values))
    if isinstance(parameter, Float) and parameter.step is None:
        low, high = max(_rounded(low, math.floor), parameter.low), min(_rounded(high, math.ceil), parameter.high)
        return replace(parameter, low=low, high=high)
    step, last = parameter.step or 1, (parameter.count() or 1) - 1
    first = max(math.floor((low - parameter.low) / step + _ROUNDING), 0)
    last = min(math.ceil((high - parameter.low) / step - _ROUNDING), last)
    if isinstance(parameter, Int):
        return replace(
            parameter, low=parameter.low + first * parameter.step, high=parameter.low + last * parameter.step
        )
    return replace(parameter, low=parameter.low + first * step, high=parameter.low + last * step)


def _widened(parameter: Float | Int, low: float, high: float) -> tuple[float, float]:
    """``low`` and ``high`` with the margin, in the scale in which the parameter is searched."""
    if parameter.log:
        factor = (parameter.high / parameter.low) ** MARGIN
        return low / factor, high * factor
    margin = (parameter.high - parameter.low) * MARGIN
    return low - margin, high + margin


def _rounded(value: float, outwards: Any) -> float:
    """``value`` to three digits, ``outwards`` (floor or ceil)."""
    if value == 0:
        return 0.0
    digits = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    scaled = outwards(value * 10.0**digits)
    return float(f"{scaled}e{-digits}")
