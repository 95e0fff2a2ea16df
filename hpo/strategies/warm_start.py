"""Points of an earlier study, mapped onto the space of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpo.trial import Params, TrialRecord
from search_spaces import Choice, SearchSpace
from search_spaces.parameters import Int, Parameter, Value, is_number


@dataclass(frozen=True)
class WarmPoints:
    """The points that come first, and what became of the trials they are from.

    ``trials`` are the earlier study's numbers, one per point. ``clipped`` counts values
    moved into the new space; ``dropped`` trials left out for a value outside, ``same``
    those whose point stands there already. ``open`` are parameters of the new space that a
    point leaves to the sampler.
    """

    points: tuple[Params, ...]
    trials: tuple[int, ...]
    clipped: int = 0
    dropped: tuple[int, ...] = ()
    same: tuple[int, ...] = ()
    open: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [f"{len(self.points)} points, of trials {', '.join(map(str, self.trials))}"]
        if self.clipped:
            told.append(f"{self.clipped} values moved into the new space")
        if self.dropped:
            told.append(f"{len(self.dropped)} trials left out for a value outside")
        if self.same:
            told.append(f"{len(self.same)} left out, their point being there already")
        if self.open:
            told.append(f"filled in by the sampler: {', '.join(self.open)}")
        return "; ".join(told)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the points as they are."""
        return asdict(self)


def map_points(best: Sequence[TrialRecord], space: SearchSpace, *, clip: bool) -> WarmPoints:
    """The parameters of ``best`` as points of ``space``, in their order.

    Parameters are matched by name. A value outside goes to the nearest value of the space, or
    (without ``clip``) its trial is left out; one that has no nearest, such as a text among
    numbers, is left to the sampler, as are parameters that the earlier study had not. A
    parameter whose condition does not hold, or is left to the sampler, is no part of a point.
    """
    points: list[Params] = []
    trials: list[int] = []
    dropped: list[int] = []
    same: list[int] = []
    clipped = 0
    for record in best:
        point, moved = _point(record.params, space)
        if not point or (moved and not clip):
            dropped.append(record.number)
        elif point in points:
            same.append(record.number)
        else:
            points.append(point)
            trials.append(record.number)
            clipped += moved
    open_ = [name for name in space if any(_is_open(name, space, point) for point in points)]
    return WarmPoints(tuple(points), tuple(trials), clipped, tuple(dropped), tuple(same), tuple(open_))


def _point(params: Mapping[str, Any], space: SearchSpace) -> tuple[Params, int]:
    """The point, and how many of its values were outside."""
    point: Params = {}
    moved = 0
    for name, parameter in space.items():
        if name not in params or not space.is_active(name, point):
            continue
        value = params[name]
        if not parameter.contains(value):
            moved += 1
            value = _nearest(parameter, value)
            if not parameter.contains(value):
                continue
        point[name] = value
    return point, moved


def _is_open(name: str, space: SearchSpace, point: Params) -> bool:
    return name not in point and space.is_active(name, point)


def _nearest(parameter: Parameter, value: Value) -> Value:
    """The value of ``parameter`` nearest to ``value``, the lower of two; ``value`` itself where there is none."""
    if not is_number(value):
        return value
    number = float(value)  # type: ignore[arg-type]
    if isinstance(parameter, Choice):
        numbers = sorted(float(choice) for choice in parameter.choices if is_number(choice))  # type: ignore[arg-type]
        nearest = min(numbers, key=lambda choice: abs(choice - number), default=None)
        return next((choice for choice in parameter.choices if is_number(choice) and choice == nearest), value)
    inside = min(max(number, parameter.low), parameter.high)
    if parameter.step is not None:
        steps = round((inside - parameter.low) / parameter.step)
        inside = parameter.low + min(steps, (parameter.count() or 1) - 1) * parameter.step
    return int(inside) if isinstance(parameter, Int) else float(inside)
