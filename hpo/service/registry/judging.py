"""The metrics of some test samples of a bundle, as retraining would have measured them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.evaluation.versions import standard_metrics
from hpo.export.evidence import Evidence
from hpo.export.manifest import MainGoal
from hpo.service.registry.sides import FindTestSet, Sides
from hpo.service.registry.test_sets import TestSet
from hpo.trial import Direction

if TYPE_CHECKING:
    from hpo.evaluation.intervals import JudgeOfRows
    from hpo.export.bundle import ModelBundle

_REPRODUCED = 1e-3  # relative; a figure that comes out again, be it on another device or from another format
_PREFIX = "test_"

Array = np.ndarray[Any, Any]
Metrics = Callable[[Array, Array], Mapping[str, float]]
Known = list[tuple[Metrics, frozenset[str]]]


def recorded(bundle: ModelBundle) -> dict[str, float]:
    """The shipped run's figures of the test set; NaN for one that was no number."""
    shipped = bundle.metrics.get("shipped")
    found = shipped if isinstance(shipped, Mapping) else {}
    return {
        name: math.nan if value is None else float(value) for name, value in found.items() if name.startswith(_PREFIX)
    }


def directions(bundle: ModelBundle, goal: MainGoal) -> Callable[[str], Direction | None]:
    """Which way a metric is better; that of a group as that of all samples. None where nobody says."""
    told = bundle.metrics.get("directions")
    known = {name: Direction(way) for name, way in told.items()} if isinstance(told, Mapping) else {}
    known[goal.metric] = goal.direction

    def direction(metric: str) -> Direction | None:
        bases = [name for name in known if metric == name or metric.startswith(f"{name}_")]
        return known[max(bases, key=len)] if bases else None

    return direction


@dataclass(frozen=True)
class Judge:
    """The metrics of some of the samples of ``sides``, as the new one's test set has them.

    ``known``: usual metrics, each with the names under which it gives what the new one's run recorded; they
    need no data. ``own``: those of the test set itself, where it was needed and could be built again.
    """

    sides: Sides
    known: Known
    own: JudgeOfRows | None

    @classmethod
    def of(cls, sides: Sides, new: ModelBundle, goal: MainGoal, test_set: FindTestSet) -> Judge:
        """With the test set's own metrics where the main one is not known, or a part of the samples is compared."""
        known, own = _known(sides, new, goal), None
        if not sides.are_recorded or all(goal.metric not in names for _, names in known):
            test = test_set()
            own = test.judge if isinstance(test, TestSet) else None
        return cls(sides, known, own)

    def everything(self, outputs: Array) -> dict[str, float]:
        """All metrics of all samples."""
        found: dict[str, float] = {}
        if self.own is not None:
            found.update(self.own(outputs, self.sides.targets, self.sides.rows))
        for metrics, names in self.known:
            values = metrics(self.sides.said(outputs), self.sides.targets)
            found.update({name: values[name.removeprefix(_PREFIX)] for name in sorted(names)})
        return found

    def metric(self, name: str) -> Callable[[Array, Array], float] | None:
        """One metric, from outputs of some samples and their numbers; None where nobody has it."""
        for metrics, names in self.known:
            if name in names:
                bare = name.removeprefix(_PREFIX)
                return partial(self._of_known, metrics, bare)
        own = self.own
        if own is None:
            return None
        return lambda outputs, rows: own(outputs, self.sides.targets[rows], self.sides.rows[rows]).get(name, math.nan)

    def _of_known(self, metrics: Metrics, name: str, outputs: Array, rows: Array) -> float:
        return metrics(self.sides.said(outputs), self.sides.targets[rows]).get(name, math.nan)


def _known(sides: Sides, new: ModelBundle, goal: MainGoal) -> Known:
    """Where the recorded figures themselves are of these samples, the main one alone."""
    kept = Evidence.read(new.folder)
    if kept is not None:
        said, targets = kept.said, kept.targets
    elif sides.is_whole:
        said, targets = sides.said(sides.new), sides.targets
    else:
        return []
    wanted, found = recorded(new), Known()
    missing = {goal.metric} & wanted.keys() if sides.are_recorded else set(wanted)
    for metrics in standard_metrics(sides.kind):
        if not missing:
            break
        try:
            values = metrics(said, targets)
        except ValueError:  # outputs of another shape than is usual
            continue
        names = {_PREFIX + name for name, value in values.items() if _is(value, wanted.get(_PREFIX + name))} & missing
        if names:
            found.append((metrics, frozenset(names)))
            missing -= names
    return found


def _is(value: float, wanted: float | None) -> bool:
    return wanted is not None and math.isclose(value, wanted, rel_tol=_REPRODUCED, abs_tol=1e-9)
