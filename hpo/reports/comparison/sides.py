"""Studies side by side: what each had found at equal spending, how far apart that is, and how sure.

Repetitions of one setting with other seeds form one group; every group is held against the first. What can be
said of a difference rests on the studies of the groups; between single studies on the runs of their picked
trials with fresh seeds, which is another question and is told as such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from statistics import median, median_high, median_low
from typing import Any, TypeVar

import numpy as np

from hpo import pareto
from hpo.evaluation.differences import LEVEL, Difference, difference
from hpo.reports import spending
from hpo.reports.facts import Facts
from hpo.reports.spending import HYPERVOLUME, Curve, Unit, spent
from hpo.trial import Direction, Goal, TrialRecord, TrialState
from storage.records import CONFIRM, RETRAIN, Snapshot


@dataclass(frozen=True, eq=False)
class Entrant:
    """One study of a comparison. ``goals`` of its snapshot are those compared, in an order that all share.

    ``identity`` is what makes the study the same (``Plan.identity``); ``picked`` the trial that its own policy
    picks, None while it has no completed one.
    """

    label: str
    snapshot: Snapshot
    identity: Mapping[str, Any]
    picked: int | None = None

    @cached_property
    def facts(self) -> Facts:
        return Facts(self.snapshot, self.picked)

    @property
    def data(self) -> tuple[str, str]:
        """What its values were measured on."""
        return self.snapshot.study.objective, self.snapshot.study.data_fingerprint

    @property
    def is_able(self) -> bool:
        """Whether it has a trial that can be compared."""
        return bool(self.facts.placed)

    @property
    def unended(self) -> int:
        return sum(not trial.state.is_finished for trial in self.facts.trials)

    @property
    def is_open(self) -> bool:
        """Whether it still runs, or its last launch died without a word."""
        return any(launch.ended_at is None for launch in self.snapshot.launches[-1:])


@dataclass(frozen=True, eq=False)
class Group:
    """Studies that repeat one setting, or one study alone."""

    label: str
    entrants: tuple[Entrant, ...]

    @property
    def data(self) -> set[tuple[str, str]]:
        return {entrant.data for entrant in self.entrants}


Samples = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Contest:
    """A group beside the first one, by what their studies had found at equal spending.

    ``found`` is the group's mean minus the first's, None where a study has nothing to give; ``why_not`` says
    why there is no interval. ``holds`` says whether the interval excludes 0 even when it is widened for the
    number of intervals that are looked at (Bonferroni).
    """

    first: str
    second: str
    measure: Goal
    samples: Samples
    found: Difference | None
    why_not: str = ""
    holds: bool = False


@dataclass(frozen=True)
class Rematch:
    """The picked trials of two single studies, each run again with fresh seeds (``series``)."""

    first: str
    second: str
    series: str
    trials: tuple[int, int]
    epochs: tuple[int, int]
    measure: Goal
    samples: Samples
    found: Difference
    holds: bool = False


T = TypeVar("T", Contest, Rematch)


@dataclass(frozen=True)
class Speed:
    """What a group had spent when it was as good as the first one at its end.

    Of several studies in a group the middle counts: ``target`` is what half of the first group reached, and
    ``own`` and ``needed`` are what had been spent when half of a group was as good. ``needed`` is None where
    that never came, within ``within``.
    """

    first: str
    second: str
    measure: Goal
    unit: Unit
    target: float
    own: float
    needed: float | None
    within: float

    @property
    def ratio(self) -> float | None:
        return self.needed / self.own if self.needed is not None and self.own > 0 else None


@dataclass(frozen=True, eq=False)
class SideBySide:
    """The comparison of two or more groups. ``unit`` is the spending at which differences are told.

    ``left_out`` are goals that not all studies have, left out because somebody named the others.
    """

    groups: tuple[Group, ...]
    unit: Unit = Unit.EPOCHS
    left_out: tuple[str, ...] = ()

    @property
    def goals(self) -> tuple[Goal, ...]:
        return self.entrants[0].facts.goals

    @property
    def measures(self) -> tuple[Goal, ...]:
        """What is compared: with several goals the hypervolume first."""
        return ((HYPERVOLUME,) if len(self.goals) > 1 else ()) + self.goals

    @cached_property
    def entrants(self) -> tuple[Entrant, ...]:
        return tuple(entrant for group in self.groups for entrant in group.entrants)

    @cached_property
    def able(self) -> tuple[Entrant, ...]:
        return tuple(entrant for entrant in self.entrants if entrant.is_able)

    @cached_property
    def is_stored(self) -> bool:
        """Whether all studies keep the same reference point; otherwise one is computed over all trials."""
        points = {entrant.snapshot.study.reference_point for entrant in self.entrants}
        return len(points) == 1 and None not in points

    @cached_property
    def reference(self) -> tuple[float, ...] | None:
        """The common reference point of the hypervolume; None with one goal or without a completed trial."""
        values = [trial.values for entrant in self.able for trial in entrant.facts.placed]
        if len(self.goals) < 2 or not values:
            return None
        stored = self.entrants[0].snapshot.study.reference_point
        return stored if self.is_stored else pareto.reference_point(np.array(values), self.goals)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The kinds of spending that are known of every study with something to compare."""
        return tuple(unit for unit in Unit if all(spent(entrant.facts, unit) for entrant in self.able))

    @cached_property
    def _curves(self) -> dict[tuple[str, Goal, Unit], Curve]:
        found = {}
        for entrant in self.able:
            facts = entrant.facts
            values = {goal: spending.best_values(facts, index) for index, goal in enumerate(self.goals)}
            if self.reference is not None:
                values[HYPERVOLUME] = spending.covered(facts, self.reference)
            for measure, best in values.items():
                first = 0.0 if measure == HYPERVOLUME else None
                for unit in self.units:
                    found[entrant.label, measure, unit] = spending.curve(facts, unit, best, first=first)
        return {key: curve for key, curve in found.items() if curve is not None}

    def curve(self, entrant: Entrant, measure: Goal, unit: Unit) -> Curve | None:
        return self._curves.get((entrant.label, measure, unit))

    def middle(self, group: Group, measure: Goal, unit: Unit) -> Curve | None:
        """The median over the studies of a group, where all of them are known and have found something."""
        curves = [curve for entrant in group.entrants if (curve := self.curve(entrant, measure, unit)) is not None]
        if len(curves) < len(group.entrants):
            return None
        end, first = min(curve.end for curve in curves), max(curve.at[0] for curve in curves)
        at = sorted({step for curve in curves for step in curve.at if first <= step <= end})
        values = [median(value for curve in curves if (value := curve.value(step)) is not None) for step in at]
        return Curve(tuple(at), tuple(values), end) if at else None

    def budget(self, unit: Unit) -> float | None:
        """The equal spending: what every study with something to compare has spent; None where unknown."""
        ends = [curve.end for entrant in self.able if (curve := self.curve(entrant, self.goals[0], unit))]
        return min(ends) if ends and unit in self.units else None

    def values(self, group: Group, measure: Goal, unit: Unit) -> list[float | None]:
        """What each study of a group had found at the equal spending; None where it had nothing."""
        budget = self.budget(unit)
        curves = [self.curve(entrant, measure, unit) for entrant in group.entrants]
        return [curve.value(budget) if curve is not None and budget is not None else None for curve in curves]

    @cached_property
    def contests(self) -> list[Contest]:
        """Every other group beside the first, by every measure, at the equal spending of ``unit``."""
        return [self._held(contest) for contest in self._contests]

    @cached_property
    def rematches(self) -> list[Rematch]:
        """Where two groups are single studies: their picked trials over fresh seeds."""
        return [self._held(rematch) for rematch in self._rematches]

    @cached_property
    def n_intervals(self) -> int:
        """All that are shown: what is looked at often is found by chance now and then."""
        found = [*(contest.found for contest in self._contests), *(rematch.found for rematch in self._rematches)]
        return sum(difference is not None and difference.is_known for difference in found)

    def _held(self, each: T) -> T:
        if each.found is None or not each.found.is_known:
            return each
        level = 1 - (1 - LEVEL) / self.n_intervals
        wide = difference(*each.samples, level=level, paired=each.found.paired)
        return replace(each, holds=wide.excludes_zero)

    @cached_property
    def _contests(self) -> list[Contest]:
        first, *others = self.groups
        return [self._contest(first, group, measure) for group in others for measure in self.measures]

    @cached_property
    def _rematches(self) -> list[Rematch]:
        first, *others = self.groups
        return [rematch for group in others for rematch in _rematches(first, group, self.goals)]

    def _contest(self, first: Group, second: Group, measure: Goal) -> Contest:
        why_not = self._why_not(first, second, measure)
        a, b = (self.values(group, measure, self.unit) for group in (first, second))
        samples = ([v for v in a if v is not None], [v for v in b if v is not None])
        is_whole = None not in a and None not in b and not self.can_not(first, second)
        found = difference(*samples) if is_whole else None
        if found is not None and not found.is_known and not why_not:
            why_not = "all runs of each came to the same"
        return Contest(first.label, second.label, measure, samples, found, why_not)

    def _why_not(self, first: Group, second: Group, measure: Goal) -> str:
        if other := self.can_not(first, second):
            return other
        for group in (first, second):
            missing = [e.label for e, v in zip(group.entrants, self.values(group, measure, self.unit), strict=True)
                       if v is None]  # fmt: skip
            if missing:
                return f"{missing[0]} has no completed trial by then"
        sizes = [len(group.entrants) for group in (first, second)]
        if sizes == [1, 1]:
            return "one run each"
        alone = [group.label for group in (first, second) if len(group.entrants) == 1]
        return f"one run of {alone[0]}" if alone else ""

    def can_not(self, first: Group, second: Group) -> str:
        """Why the values of two groups cannot be compared at all; empty where they can."""
        return "values of other data cannot be compared" if len(first.data | second.data) > 1 else ""

    def speed(self, unit: Unit) -> list[Speed]:
        """Every other group against the first one's final values, as far as it can be told."""
        first, *others = self.groups
        able = [group for group in others if not self.can_not(first, group)]
        found = [self._speed(first, group, measure, unit) for group in able for measure in self.measures]
        return [speed for speed in found if speed is not None]

    def _speed(self, first: Group, second: Group, measure: Goal, unit: Unit) -> Speed | None:
        theirs, ours = ([self.curve(e, measure, unit) for e in group.entrants] for group in (first, second))
        if None in theirs or None in ours:
            return None
        half = median_high if measure.direction is Direction.MAXIMIZE else median_low
        target = half([curve.values[-1] for curve in theirs if curve is not None])
        reached = [
            median_low([_or_never(curve.reaches(target, measure)) for curve in curves if curve is not None])
            for curves in (theirs, ours)
        ]
        needed = reached[1] if math.isfinite(reached[1]) else None
        within = max(curve.end for curve in ours if curve is not None)
        return Speed(first.label, second.label, measure, unit, target, reached[0], needed, within)


def grouped(entrants: Sequence[Entrant]) -> tuple[Group, ...]:
    """Studies that differ in nothing but name and seed together; each alone where that would leave one group."""
    found: list[list[Entrant]] = []
    for entrant in entrants:
        same = next((group for group in found if _setting(group[0]) == _setting(entrant)), None)
        found.append([entrant]) if same is None else same.append(entrant)
    return labelled(found if len(found) > 1 else [[entrant] for entrant in entrants])


def labelled(groups: Sequence[Sequence[Entrant]]) -> tuple[Group, ...]:
    """Groups named by what the names of their studies begin with."""
    names = [_common([entrant.label for entrant in group]) for group in groups]
    return tuple(
        Group(name if names.count(name) == 1 else _listing(group), tuple(group))
        for name, group in zip(names, groups, strict=True)
    )


def _setting(entrant: Entrant) -> dict[str, Any]:
    return {name: value for name, value in entrant.identity.items() if name != "seed"}


def _common(labels: Sequence[str]) -> str:
    """``tpe`` of ``tpe-1`` and ``tpe-12``."""
    if len(labels) == 1:
        return labels[0]
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*labels, strict=False))
    shared = re.sub(r"[-_.]+\d*$", "", "".join(column[0] for column in columns))
    return shared or f"{labels[0]} and {len(labels) - 1} more"


def _listing(group: Sequence[Entrant]) -> str:
    more = len(group) - 1
    return group[0].label + (f" and {more} more" if more else "")


def _or_never(amount: float | None) -> float:
    return math.inf if amount is None else amount


def _rematches(first: Group, second: Group, goals: Sequence[Goal]) -> list[Rematch]:
    """Of the retrained runs where both have two or more, else of the confirming ones; by goal, on the test set too.

    Runs of equal seeds are pairs.
    """
    if len(first.entrants) > 1 or len(second.entrants) > 1 or len(first.data | second.data) > 1:
        return []
    (a,), (b,) = first.entrants, second.entrants
    measures = (*goals, *(Goal("test_" + goal.metric.removeprefix("val_"), goal.direction) for goal in goals))
    for series in (RETRAIN, CONFIRM):
        mine, yours = _repeats(a, series), _repeats(b, series)
        if a.picked is not None and b.picked is not None and min(len(mine), len(yours)) > 1:
            sides = [(measure, *_samples(mine, yours, measure)) for measure in measures]
            return [
                Rematch(
                    first.label, second.label, series, (a.picked, b.picked), (mine[0].epochs, yours[0].epochs),
                    measure, samples, difference(*samples, paired=paired),
                )
                for measure, samples, paired in sides if min(map(len, samples)) > 1
            ]  # fmt: skip
    return []


def _samples(mine: Sequence[TrialRecord], yours: Sequence[TrialRecord], measure: Goal) -> tuple[Samples, bool]:
    """The finite values of two sets of runs; where they share seeds, those alone, as pairs."""
    a, b = (
        {run.seed: value for run in runs if math.isfinite(value := run.metrics.get(measure.metric, math.nan))}
        for runs in (mine, yours)
    )
    shared = sorted(set(a) & set(b))
    if len(shared) > 1:
        return ([a[seed] for seed in shared], [b[seed] for seed in shared]), True
    return (list(a.values()), list(b.values())), False


def _repeats(entrant: Entrant, series: str) -> list[TrialRecord]:
    """The completed runs of the picked trial in a series, over the epochs of the newest."""
    runs = [run for run in entrant.snapshot.others.get(series, ()) if run.subject == entrant.picked]
    runs = [run for run in runs if run.state is TrialState.COMPLETE]
    return [run for run in runs if run.epochs == runs[-1].epochs]
