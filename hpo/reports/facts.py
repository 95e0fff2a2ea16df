"""What can be said about a study, computed once from its snapshot; words and pictures draw on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hpo import costs, pareto
from hpo.costs import Cost
from hpo.pareto import ParetoFront
from hpo.reports.wording import moment
from hpo.trial import Goal, StopKind, TrialRecord, TrialState, goal_values
from storage.records import Snapshot


class Ending(StrEnum):
    """How a trial stands, finer than its state: the word is what the page says."""

    COMPLETE = "complete"
    EARLY = "early stopped"
    TIME_LIMIT = "time limit"
    PRUNED = "pruned"
    FAILED = "failed"
    RUNNING = "running"
    QUEUED = "queued"
    INTERRUPTED = "interrupted"  # of an attempt only: the trial itself is then queued again

    @property
    def slug(self) -> str:
        """The word as a CSS class and variable name."""
        return self.value.replace(" ", "-")


_BY_STATE = {
    TrialState.COMPLETE: Ending.COMPLETE,
    TrialState.PRUNED: Ending.PRUNED,
    TrialState.FAIL: Ending.FAILED,
    TrialState.RUNNING: Ending.RUNNING,
    TrialState.QUEUED: Ending.QUEUED,
}


def ending_of(trial: TrialRecord) -> Ending:
    if trial.state is TrialState.COMPLETE and trial.reason is not None:
        if trial.reason.kind is StopKind.EARLY:
            return Ending.EARLY
        if trial.reason.kind is StopKind.TIME_LIMIT:
            return Ending.TIME_LIMIT
    return _BY_STATE[trial.state]


def last_vector(trial: TrialRecord, goals: Sequence[Goal]) -> tuple[float, ...] | None:
    """Where a trial without values stood when it stopped: its last point, joined with what was measured once."""
    latest = trial.points[-1].metrics if trial.points else {}
    return goal_values(goals, {**trial.metrics, **latest})


def newest_runs(repeats: Iterable[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Of the runs that repeat one trial those that may be averaged: completed, over as many epochs as the newest."""
    done = sorted((run for run in repeats if run.state is TrialState.COMPLETE), key=lambda run: run.number)
    return tuple(run for run in done if run.epochs == done[-1].epochs)


@dataclass(frozen=True)
class History:
    """A figure over the placed trials: each trial's own value (if it has one) and the running best."""

    numbers: tuple[int, ...]
    values: tuple[float, ...]  # empty for the hypervolume, which belongs to no single trial
    best: tuple[float, ...]

    def gain_of_last(self, n: int) -> float | None:
        """The share by which the last ``n`` trials moved the best; None while there are not more than ``n``."""
        if len(self.best) <= n:
            return None
        before, now = self.best[-n - 1], self.best[-1]
        return abs(now - before) / abs(before) if before else (math.inf if now != before else 0.0)


@dataclass(frozen=True)
class Spending:
    """Epochs: what the finished trials could have taken, what they took, and why it was less."""

    horizon: int  # epochs a full trial takes
    assumed: bool  # the study file did not say; the longest completed trial stands in
    planned: int
    run: int
    saved_by_pruning: int
    saved_by_early_stopping: int
    lost_to_failures: int


@dataclass(frozen=True)
class Facts:
    """A study's snapshot and what follows from it. Everything is in number order.

    ``chosen`` is the trial that somebody above has picked with more knowledge (from the
    confirmation runs, as ``hpo best`` does); None leaves it to the study file's policy.
    """

    snapshot: Snapshot
    chosen: int | None = None

    @property
    def goals(self) -> tuple[Goal, ...]:
        return self.snapshot.study.goals

    @cached_property
    def trials(self) -> tuple[TrialRecord, ...]:
        return tuple(sorted(self.snapshot.trials, key=lambda trial: trial.number))

    @cached_property
    def by_number(self) -> dict[int, TrialRecord]:
        return {trial.number: trial for trial in self.trials}

    @cached_property
    def endings(self) -> dict[int, Ending]:
        return {trial.number: ending_of(trial) for trial in self.trials}

    def ended(self, *endings: Ending) -> list[TrialRecord]:
        return [trial for trial in self.trials if self.endings[trial.number] in endings]

    @cached_property
    def placed(self) -> list[TrialRecord]:
        """The measured trials that keep to every constraint: those that can be compared."""
        return [trial for trial in self.measured if trial.is_feasible]

    @cached_property
    def infeasible(self) -> list[TrialRecord]:
        """The measured trials that break a constraint."""
        return [trial for trial in self.measured if not trial.is_feasible]

    @cached_property
    def measured(self) -> list[TrialRecord]:
        """The completed trials with a finite value for every goal."""
        return [
            trial
            for trial in self.trials
            if trial.state is TrialState.COMPLETE
            and trial.values is not None
            and len(trial.values) == len(self.goals)
            and all(map(math.isfinite, trial.values))
        ]

    @cached_property
    def front(self) -> ParetoFront:
        return ParetoFront.of(self.placed, self.goals)

    @cached_property
    def policy(self) -> str | dict[str, float]:
        """How a trial is picked: by the study file's ``retrain.pick`` (as retraining does), else the knee."""
        if len(self.goals) == 1:
            return self.goals[0].metric
        policy = self.setting("retrain", "pick")
        known = {"knee", *(goal.metric for goal in self.goals)}
        if isinstance(policy, str) and policy in known:
            return policy
        if isinstance(policy, dict) and set(policy) <= known - {"knee"}:
            weights = list(policy.values())
            if any(weights) and all(isinstance(weight, (int, float)) and weight >= 0 for weight in weights):
                return policy
        return "knee"

    @cached_property
    def promising(self) -> TrialRecord | None:
        """The trial that ``policy`` picks from the front by its first values; None while none is complete."""
        return self.by_number[self.front.pick(self.policy)] if self.front.numbers else None

    @cached_property
    def recommended(self) -> TrialRecord | None:
        """The chosen trial, else the most promising."""
        return self.promising if self.chosen is None else self.by_number.get(self.chosen, self.promising)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The study file, parsed; empty when it cannot be: a report must not fail over it."""
        try:
            # The parser that reads study files: to YAML 1.1 (PyYAML) 1e-5 would be text.
            parsed = YAML(typ="safe", pure=True).load(self.snapshot.study.spec_yaml)
        except (YAMLError, ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}

    def setting(self, *path: str) -> Any:
        """``setting("budget", "epochs")``: what the study file says there, or None."""
        at: Any = self.spec
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        return at

    @cached_property
    def param_names(self) -> list[str]:
        """Every parameter that any trial has: in the study file's order, then by first use."""
        used: dict[str, None] = {}
        for trial in self.trials:
            used.update(dict.fromkeys(trial.params))
        space = self.setting("search_space") or self.setting("space")
        order = [name for name in space if name in used] if isinstance(space, dict) else []
        return list(dict.fromkeys([*order, *used]))

    @cached_property
    def epoch_metrics(self) -> list[str]:
        """The metrics of the curves: the monitored one first, then goals, then the rest by name."""
        seen = {name for trial in self.trials for point in trial.points for name in point.metrics}
        first = [self.snapshot.study.monitor.metric, *(goal.metric for goal in self.goals)]
        return list(dict.fromkeys([*(name for name in first if name in seen), *sorted(seen)]))

    def finite_values(self, metric: str) -> list[float]:
        """Every finite value of an epoch metric, over all trials: what an axis must hold."""
        found = (point.metrics.get(metric, math.nan) for trial in self.trials for point in trial.points)
        return [value for value in found if math.isfinite(value)]

    def history(self, goal: int) -> History:
        """Each placed trial's value of one goal, and the best so far."""
        values = [trial.values[goal] for trial in self.placed if trial.values is not None]
        turned = np.array(values) * pareto.signs(self.goals)[goal]
        best = np.minimum.accumulate(turned) * pareto.signs(self.goals)[goal] if values else []
        return History(tuple(t.number for t in self.placed), tuple(values), tuple(float(b) for b in best))

    @cached_property
    def reference(self) -> tuple[float, ...] | None:
        """The hypervolume's reference point: the study's own, else one from all completed trials."""
        if self.snapshot.study.reference_point is not None:
            return self.snapshot.study.reference_point
        if not self.placed:
            return None
        return pareto.reference_point(np.array([trial.values for trial in self.placed]), self.goals)

    @cached_property
    def hypervolume(self) -> History:
        """The hypervolume after each placed trial."""
        values = np.array([trial.values for trial in self.placed])
        grown = pareto.volumes(values, self.goals, self.reference) if self.reference is not None else []
        return History(tuple(t.number for t in self.placed), (), tuple(grown))

    @cached_property
    def horizon(self) -> int | None:
        """Epochs that a trial would take if nothing stopped it; None when nothing tells."""
        epochs = self.setting("budget", "epochs")
        if isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0:
            return epochs
        return max((trial.last_step for trial in self.ended(Ending.COMPLETE)), default=0) or None

    @cached_property
    def spending(self) -> Spending | None:
        """None while no trial has ended, or the horizon is unknown."""
        done = [trial for trial in self.trials if trial.state.is_finished]
        if not done or self.horizon is None:
            return None
        horizon = self.horizon

        def unspent(trials: Iterable[TrialRecord]) -> int:
            return sum(max(0, horizon - trial.last_step) for trial in trials)

        return Spending(
            horizon=horizon,
            assumed=not isinstance(self.setting("budget", "epochs"), int),
            planned=horizon * len(done),
            run=sum(trial.last_step for trial in done),
            saved_by_pruning=unspent(self.ended(Ending.PRUNED)),
            saved_by_early_stopping=unspent(self.ended(Ending.EARLY)),
            lost_to_failures=unspent(self.ended(Ending.FAILED)),
        )

    @cached_property
    def worked_s(self) -> dict[int, float]:
        """Seconds of work per trial: its attempts, so that pauses between them do not count."""
        spans: dict[int, float] = {}
        for attempt in self.snapshot.attempts:
            seconds = seconds_between(attempt.started_at, attempt.ended_at)
            if seconds is not None:
                spans[attempt.number] = spans.get(attempt.number, 0.0) + seconds
        for trial in self.trials:
            seconds = seconds_between(trial.started_at, trial.finished_at)
            if trial.number not in spans and seconds is not None:
                spans[trial.number] = seconds
        return spans

    @cached_property
    def costs(self) -> dict[int, Cost]:
        """What each trial cost, by number: seconds, and seconds times the devices that it held."""
        return costs.of_trials(self.snapshot)


def seconds_between(start: str | None, end: str | None) -> float | None:
    first, last = moment(start), moment(end)
    return (last - first).total_seconds() if first and last else None
