"""Use case: two versions of a model on the same test samples; which is better, by how much, and how sure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.errors import HpoError, UserError
from hpo.evaluation.groups import split_by_group
from hpo.evaluation.versions import Figure, Wins, change_interval, row_errors, wins
from hpo.export.manifest import MainGoal
from hpo.service.registry.judging import Judge, directions, recorded
from hpo.service.registry.sides import FindTestSet, Sides, sides
from hpo.service.registry.test_sets import TestSet
from hpo.trial import Direction

if TYPE_CHECKING:
    from hpo.export.bundle import ModelBundle

_SEED = 0  # of the resampling: the same two bundles always give the same interval
_MOST_SINGLE = 10_000  # samples; a metric asked about more of them, one by one, would take minutes

Array = np.ndarray[Any, Any]
Metric = Callable[[Array, Array], float]  # of some samples: their outputs, and their numbers among those compared


@dataclass(frozen=True)
class ModelDiff:
    """What two bundles show on the same test samples.

    ``fall``: the share by which the new one's main metric (``goal``) is worse than the old one's; 0 or
    negative when it is not, infinite where no share can be taken of an old value of 0 or the new one has
    none. None when nothing can be said; ``reason`` then, and the rest as far as it is known.
    ``samples`` are those compared, ``left_out`` those of the new one's test set that could not be.
    ``wins`` by sample, the error to count by first; ``figures``: each metric of the test set, the main one first.
    """

    fall: float | None = None
    reason: str | None = None
    goal: MainGoal | None = None
    samples: int = 0
    left_out: int = 0
    wins: Sequence[Wins] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()

    @property
    def main(self) -> Figure | None:
        return next((one for one in self.figures if self.goal is not None and one.metric == self.goal.metric), None)

    @property
    def groups(self) -> list[Figure]:
        """Those of ``figures`` that are of one group of the samples."""
        _, grouped = split_by_group([figure.metric for figure in self.figures])
        return [figure for figure in self.figures if figure.metric in grouped]

    @property
    def lines(self) -> list[str]:
        """All of it but the other metrics as sentences, for people."""
        if not self.samples:
            return [f"Nothing can be said: {self.reason}."]
        left_out = f"; {self.left_out} more stand in the new one's test set alone" if self.left_out else ""
        return [
            f"Compared on {self.samples} test samples{left_out}.",
            *([] if self.main is None else [self.main.line]),
            *([] if self.reason is None else [f"By how much it is better or worse cannot be said: {self.reason}."]),
            *(one.line for one in self.wins),
            *self.notes,
        ]


def diff(old: ModelBundle, new: ModelBundle, *, import_from: Path | None = None) -> ModelDiff:
    """Hold ``new`` against ``old`` on the test samples that neither has learnt from.

    From what both bundles keep of the test set; where that does not do, the new one's test set is built
    again and the old model asked about it. ``import_from`` is where an objective named
    ``package.module:Class`` is looked for; None looks in no folder.

    Raises:
        BundleError: ``import_from`` lies in a bundle.
        UserError: the two are of different objectives, or the old one lacks the new one's main metric.
    """
    for bundle in (old, new):
        bundle.refuse_inside(import_from)
    folder = None if import_from is None else str(import_from.resolve())
    goal = new.manifest.goal
    _check_comparable(old, new)
    if goal is None:
        return ModelDiff(reason="the new one has no figure of a test set to be compared by")

    @cache
    def test_set() -> TestSet | str:
        try:
            return TestSet.of(new, folder)
        except HpoError as error:
            return f"the new one's test set cannot be built again: {_clause(error)}"

    try:
        found = sides(old, new, test_set)
    except HpoError as error:
        found = _clause(error)
    if isinstance(found, str):
        return ModelDiff(reason=found, goal=goal)
    return _compared(old, new, goal, found, test_set)


def _compared(old: ModelBundle, new: ModelBundle, goal: MainGoal, both: Sides, test_set: FindTestSet) -> ModelDiff:
    judge = Judge.of(both, new, goal, test_set)
    found = _figures(old, new, goal, both, judge)
    main = found[0] if found and found[0].metric == goal.metric else None
    return ModelDiff(
        fall=None if main is None else main.fall,
        reason=_why_no_fall(main, goal),
        goal=goal,
        samples=len(both.rows),
        left_out=both.size - len(both.rows),
        wins=_wins(both, judge.metric(goal.metric), goal),
        figures=tuple(found),
        notes=both.notes,
    )


def _figures(old: ModelBundle, new: ModelBundle, goal: MainGoal, both: Sides, judge: Judge) -> list[Figure]:
    """Every metric that both have, the main one first, with the interval of its change."""
    if both.are_recorded:
        was, now = recorded(old), recorded(new)
    else:
        was, now = judge.everything(both.old), judge.everything(both.new)
    better = directions(new, goal)
    found = [Figure(name, better(name), was[name], now[name]) for name in now if name in was]
    found.sort(key=lambda figure: figure.metric != goal.metric)
    metric = judge.metric(goal.metric)
    if metric is not None and found and found[0].metric == goal.metric:
        sure = change_interval(metric, both.old, both.new, goal.direction, seed=_SEED, clusters=both.clusters)
        found[0] = replace(found[0], interval=sure)
    return found


def _wins(both: Sides, metric: Metric | None, goal: MainGoal) -> tuple[Wins, ...]:
    was, now = (row_errors(both.kind, both.said(side), both.targets) for side in (both.old, both.new))
    if both.kind in ("gaussian", "other") and metric is not None and len(both.rows) <= _MOST_SINGLE:
        before, after = (_single(metric, side, both, goal) for side in (both.old, both.new))
        if before is not None and after is not None:
            name = f"{goal.metric} of each sample"
            was, now = {name: before}, {name: after}
    return tuple(
        wins(by, was[by], now[by], atol=both.atol, rtol=both.rtol, clusters=both.clusters) for by in now if by in was
    )


def _single(metric: Metric, outputs: Array, both: Sides, goal: MainGoal) -> Array | None:
    """The main metric of every sample by itself, turned so that smaller is better.

    None where one sample has no value, or, for outputs whose samples have an error of another kind,
    where the metric is not the mean over samples, as a distance in metres is.
    """
    rows = np.arange(len(both.rows))
    values = np.array([metric(outputs[i : i + 1], rows[i : i + 1]) for i in rows])
    if not np.isfinite(values).all():
        return None
    if both.kind != "other" and not math.isclose(values.mean(), metric(outputs, rows), rel_tol=1e-6):
        return None
    return values if goal.direction is Direction.MINIMIZE else -values


def _check_comparable(old: ModelBundle, new: ModelBundle) -> None:
    was, now = old.manifest.objective, new.manifest.objective
    if was != now:
        raise UserError(
            f"Versions are compared that do the same; {old.folder} is of {was} and {new.folder} of {now}. "
            "Publish them under different names."
        )
    goal = new.manifest.goal
    if goal is not None and goal.metric not in recorded(old):
        raise UserError(
            f"Versions are compared by the new one's main metric, {goal.metric}; {old.folder} has no such figure: "
            f"it has {', '.join(recorded(old)) or 'none of a test set'}. Retrain both by the same goals."
        )


def _why_no_fall(main: Figure | None, goal: MainGoal) -> str | None:
    if main is None:
        return f"{goal.metric} cannot be computed on these samples without the data"
    return None if main.fall is not None else f"the old one's {goal.metric} is no number"


def _clause(error: HpoError) -> str:
    """A message as a part of a sentence."""
    return str(error).strip().rstrip(".")
