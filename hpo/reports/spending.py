"""What a study had found by what it had spent: step functions over trials, epochs and time.

A trial counts once it has ended, in the order in which trials ended: what it spent and what it found
come together, so nothing is known between two steps and nothing is drawn there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise

import numpy as np

from hpo import pareto
from hpo.reports.facts import Facts, seconds_between
from hpo.reports.wording import duration, moment
from hpo.trial import Direction, Goal, TrialRecord
from storage.records import LaunchRecord

HYPERVOLUME = Goal("hypervolume", Direction.MAXIMIZE)


class Unit(StrEnum):
    """What spending is counted in.

    ``TIME`` is wall-clock, in seconds from the first launch's begin, the time between launches left out;
    ``WORK`` is the seconds of work of all trials together, whoever did it.
    """

    TRIALS = "trials"
    EPOCHS = "epochs"
    TIME = "time"
    WORK = "work"

    @property
    def spelled(self) -> str:
        return "wall-clock time" if self is Unit.TIME else self.value

    @property
    def is_seconds(self) -> bool:
        return self in (Unit.TIME, Unit.WORK)

    def shown(self, amount: float) -> str:
        """``1,000 epochs``, ``1 trial``, ``12 min 5 s of wall-clock time``."""
        if self.is_seconds:
            return f"{duration(amount)} of {self.spelled}"
        return f"{amount:,.0f} {self.value if amount != 1 else self.value.removesuffix('s')}"


@dataclass(frozen=True)
class Curve:
    """A step function of the spending: ``values[i]`` holds from ``at[i]`` on; known up to ``end``."""

    at: tuple[float, ...]
    values: tuple[float, ...]
    end: float

    def value(self, spent: float) -> float | None:
        """What had been found by then; None where nothing had."""
        index = bisect_right(self.at, spent) - 1
        return self.values[index] if index >= 0 else None

    def reaches(self, target: float, goal: Goal) -> float | None:
        """What had been spent when the curve first was as good as ``target``; None if it never was."""
        return next((s for s, v in zip(self.at, self.values, strict=True) if not goal.is_better(target, v)), None)


def spent(facts: Facts, unit: Unit) -> list[float] | None:
    """By ended trial, in the order in which they ended, all that had been spent; None where it is not known."""
    trials = ended(facts)
    if unit is Unit.TRIALS:
        return [float(n) for n in range(1, len(trials) + 1)]
    if unit is Unit.EPOCHS:
        total = list(accumulate(float(trial.last_step) for trial in trials))
        return total if not total or total[-1] else None
    if unit is Unit.WORK:
        worked = [facts.worked_s.get(trial.number) for trial in trials]
        return None if None in worked else list(accumulate(seconds or 0.0 for seconds in worked))
    return _wall_clock(facts, trials)


def ended(facts: Facts) -> list[TrialRecord]:
    """The ended trials in the order in which they ended; in number order where times are missing."""
    trials = [trial for trial in facts.trials if trial.state.is_finished]
    times = {trial.number: at for trial in trials if (at := moment(trial.finished_at)) is not None}
    return sorted(trials, key=lambda trial: times[trial.number]) if len(times) == len(trials) else trials


def best_values(facts: Facts, goal: int) -> list[float]:
    """The best value of one goal after each trial that can be compared, in the order in which they ended."""
    sign = float(pareto.signs(facts.goals)[goal])
    return [value * sign for value in accumulate((t.values[goal] * sign for t in placed(facts) if t.values), min)]


def covered(facts: Facts, reference: Sequence[float]) -> list[float]:
    """The hypervolume from ``reference`` after each trial that can be compared, in the order in which they ended."""
    values = np.array([trial.values for trial in placed(facts)]).reshape(-1, len(facts.goals))
    return pareto.volumes(values, facts.goals, reference, most=len(values))


def placed(facts: Facts) -> list[TrialRecord]:
    """The trials that can be compared, in the order in which they ended."""
    numbers = {trial.number for trial in facts.placed}
    return [trial for trial in ended(facts) if trial.number in numbers]


def curve(facts: Facts, unit: Unit, values: Sequence[float], *, first: float | None = None) -> Curve | None:
    """The steps at which ``values``, one per placed trial, change; None where ``unit`` is not known.

    ``first`` is what there is before any trial has ended, such as a hypervolume of 0.
    """
    total = spent(facts, unit)
    if total is None:
        return None
    numbers = {trial.number for trial in facts.placed}
    at = [amount for amount, trial in zip(total, ended(facts), strict=True) if trial.number in numbers]
    steps = [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    start = [] if first is None else [(0.0, first)]
    points = [*start, *((at[i], values[i]) for i in steps)]
    return Curve(tuple(x for x, _ in points), tuple(y for _, y in points), total[-1] if total else 0.0)


def _wall_clock(facts: Facts, trials: Sequence[TrialRecord]) -> list[float] | None:
    """None where a time is missing, or trials ended before the first launch, as imported ones did."""
    launches = sorted(facts.snapshot.launches, key=lambda launch: launch.started_at)
    if not launches or any(moment(trial.finished_at) is None for trial in trials):
        return None
    gaps = [_gap(a, b, trials) for a, b in pairwise(launches)]
    amounts = []
    for trial in trials:
        begun = sum((seconds_between(launch.started_at, trial.finished_at) or 0) >= 0 for launch in launches)
        if not begun:
            return None
        since = seconds_between(launches[0].started_at, trial.finished_at) or 0.0
        amounts.append(since - sum(gaps[: begun - 1]))
    return amounts


def _gap(launch: LaunchRecord, following: LaunchRecord, trials: Sequence[TrialRecord]) -> float:
    """Seconds between two launches; one that died without a word lasted until its last trial ended."""
    ends = [trial.finished_at for trial in trials if (trial.finished_at or "") <= following.started_at]
    end = launch.ended_at or max((at for at in ends if at and at >= launch.started_at), default=launch.started_at)
    return max(0.0, seconds_between(end, following.started_at) or 0.0)
