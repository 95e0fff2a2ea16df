"""Which points of a space have been tried: so that none is run twice, and to know when none is left."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import Any

from hpo.trial import Params
from search_spaces import Choice, Int, SearchSpace
from search_spaces.parameters import Parameter, same

MAX_LISTED = 100_000  # points that are still listed one by one
REPLACED = "hpo:replaced"  # in a trial's sampler_state: how many proposals were thrown away for it


class TriedPoints:
    """The points of a study so far, told apart after rounding to their steps."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._keys: set[Hashable] = set()

    def add(self, params: Params) -> None:
        self._keys.add(self._key(params))

    def __contains__(self, params: Params) -> bool:
        return self._key(params) in self._keys

    @property
    def are_all(self) -> bool:
        """Whether no point of the space is left."""
        return self._size is not None and len(self._keys) >= self._size

    def untried(self, seed: int) -> Params | None:
        """A point drawn evenly among those left; None when they are too many to list."""
        if self._size is None or self._size > MAX_LISTED:
            return None
        left = [point for point in points(self._space) if point not in self]
        return random.Random(seed).choice(left) if left else None

    @cached_property
    def _size(self) -> int | None:
        return size(self._space)

    def _key(self, params: Params) -> Hashable:
        return tuple((name, _place(self._space[name], params[name])) for name in self._space if name in params)


def points(space: SearchSpace) -> Iterator[Params]:
    """Every point of a finite space, conditions respected, the last parameter changing fastest."""
    names = list(space)

    def from_name(i: int, params: Params) -> Iterator[Params]:
        if i == len(names):
            yield params
        elif not space.is_active(names[i], params):
            yield from from_name(i + 1, params)
        else:
            for value in space[names[i]].grid() or ():
                yield from from_name(i + 1, {**params, names[i]: within(space[names[i]], value)})

    return from_name(0, {})


def size(space: SearchSpace) -> int | None:
    """How many points a space has; None when there is no end of them, or conditions and too many to list."""
    counts = [parameter.count() for parameter in space.values()]
    if None in counts:
        return None
    most = math.prod(count or 0 for count in counts)
    if not any(parameter.when for parameter in space.values()):
        return most
    return sum(1 for _ in points(space)) if most <= MAX_LISTED else None


def within(parameter: Parameter, value: Any) -> Any:
    """``value`` as the parameter has it: a whole number, or no further than its bounds.

    A grid's last value may be past the bound by rounding.
    """
    if isinstance(parameter, Choice):
        return value
    return int(value) if isinstance(parameter, Int) else min(max(value, parameter.low), parameter.high)


def _place(parameter: Parameter, value: Any) -> Hashable:
    """The same for values that are the same: a choice's or a step's index, or the number."""
    if isinstance(parameter, Choice):
        return next((i for i, choice in enumerate(parameter.choices) if same(choice, value)), value)
    if isinstance(parameter, Int) or parameter.step is None:
        return float(value)
    return round((value - parameter.low) / parameter.step)
