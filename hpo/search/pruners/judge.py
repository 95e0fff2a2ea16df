"""What a pruner is given and what it gives: aims, curves of vectors, a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from hpo.trial import Goal, Metrics, Point, TrialRecord, TrialState

NAMED = 50  # of the trials that one was held against, so many are kept with its end


@dataclass(frozen=True)
class Aims:
    """What a study is judged by.

    ``watched`` is the metric of the rules for one goal. ``once`` names the metrics that are
    measured once per trial and stay as they are (speed, memory). ``epochs`` is the horizon
    of a trial, where it is known.
    """

    goals: tuple[Goal, ...]
    watched: Goal
    once: frozenset[str] = frozenset()
    epochs: int | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The goals' metrics and the watched one, each once."""
        return tuple(dict.fromkeys(goal.metric for goal in (*self.goals, self.watched)))


@dataclass
class Curve:
    """What one trial has told so far of the metrics that matter.

    ``series`` has a curve for each of them, ``{metric: {step: value}}``. ``once`` names those that
    are measured once. ``values`` are those of the goals, when the trial is complete.
    """

    number: int
    series: dict[str, dict[int, float]]
    once: frozenset[str] = frozenset()
    last_step: int = 0
    state: TrialState = TrialState.RUNNING
    values: tuple[float, ...] | None = None
    is_feasible: bool = True
    _best: dict[tuple[str, int | None], float | None] = field(default_factory=dict, repr=False)

    def add(self, point: Point) -> None:
        """Take in a step. What is measured once holds for the steps that do not repeat it."""
        if point.step <= self.last_step:
            # A new attempt began before the dead one's last step: that never happened.
            for told in self.series.values():
                for step in [step for step in told if step >= point.step]:
                    del told[step]
        for metric, told in self.series.items():
            if metric in point.metrics:
                told[point.step] = point.metrics[metric]
            elif metric in self.once and told:
                told[point.step] = told[max(told)]
        self.last_step = point.step

    def end(self, record: TrialRecord) -> None:
        self.state, self.values, self.is_feasible = record.state, record.values, record.is_feasible

    def at(self, step: int, goals: Sequence[Goal]) -> tuple[float, ...] | None:
        """The vector of the goals at a step (n_goals,); None while one is missing. May hold NaN."""
        values = [self.series[goal.metric].get(step) for goal in goals]
        return None if None in values else tuple(value for value in values if value is not None)

    def so_far(self, step: int, goals: Sequence[Goal]) -> tuple[float, ...] | None:
        """As ``at``, with the best value of each goal up to the step: what a trial would be worth if it ended."""
        if self.at(step, goals) is None:
            return None
        best = [self.best(goal, step) for goal in goals]
        return tuple(math.nan if value is None else value for value in best)

    def best(self, goal: Goal, step: int | None = None) -> float | None:
        """The best value of a goal up to and with a step (or of all); None when there was none.

        Of what is measured once, the newest: after a recovery it is measured again.
        """
        if (goal.metric, step) in self._best:
            return self._best[goal.metric, step]
        best = math.nan
        for at, value in self.series[goal.metric].items():
            if step is not None and at > step:
                break
            if goal.is_better(value, best) or (goal.metric in self.once and not math.isnan(value)):
                best = value
        found = None if math.isnan(best) else best
        if self.state.is_finished:  # and so will not change any more
            self._best[goal.metric, step] = found
        return found


@dataclass(frozen=True)
class Verdict:
    """Why a trial is not worth going on: in words, and what was looked at.

    ``against`` are the trials it was held against, those that say most first;
    ``dominated_by`` those of them that are no worse at any goal and better at one.
    ``facts`` are the rule's own figures, JSON values only.
    """

    why: str
    vector: Metrics
    against: Mapping[int, Metrics] = field(default_factory=dict)
    dominated_by: Sequence[int] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def details(self, rule: str, step: int) -> dict[str, Any]:
        """All of it as JSON values; a number that is not finite becomes None."""
        named = dict(islice(self.against.items(), NAMED))
        return {
            "rule": rule,
            "step": step,
            "vector": _finite(self.vector),
            "against": {str(number): _finite(vector) for number, vector in named.items()},
            "against_count": len(self.against),
            "dominated_by": [number for number in self.dominated_by if number in named],
            **{name: _finite(fact) if isinstance(fact, Mapping) else fact for name, fact in self.facts.items()},
        }


class Judge(Protocol):
    """Decides about a trial at its last step, from its own curve and those it may see.

    ``others`` are in number order and in any state; None means go on.
    """

    def __call__(self, trial: Curve, others: Sequence[Curve]) -> Verdict | None: ...


def completed(others: Iterable[Curve]) -> list[Curve]:
    return [other for other in others if other.state is TrialState.COMPLETE]


def named(goals: Sequence[Goal], vector: Iterable[float]) -> Metrics:
    return {goal.metric: float(value) for goal, value in zip(goals, vector, strict=True)}


def _finite(vector: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in vector.items()}
