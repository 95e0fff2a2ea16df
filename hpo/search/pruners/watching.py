"""Rules that watch one metric. They are Optuna's own; what is added is the sentence that says why.

Optuna counts steps from 0 and we from 1, so its warm-up is ours plus one.
"""

# No "from __future__ import annotations": the options' types are read off the signatures.
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
from pydantic import Field

from hpo.errors import StudyFileError
from hpo.search.options import Count, Natural, Number
from hpo.search.pruners.judge import Aims, Curve, Judge, Verdict, completed
from hpo.trial import Direction, Goal

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study, StudyDirection
    from optuna.trial import FrozenTrial


def none(aims: Aims) -> Judge:
    """Never."""
    return lambda trial, others: None


def median(aims: Aims, *, startup_trials: Natural = 5, warmup_steps: Natural = 0, interval: Count = 1) -> Judge:
    """Worse than the median of completed trials at the same step (Golovin et al. 2017, Vizier)."""
    return percentile(
        aims, percentile=50.0, startup_trials=startup_trials, warmup_steps=warmup_steps, interval=interval
    )


def percentile(
    aims: Aims,
    *,
    percentile: Annotated[float, Field(gt=0, lt=100)],
    startup_trials: Natural = 5,
    warmup_steps: Natural = 0,
    interval: Count = 1,
) -> Judge:
    """Outside the best ``percentile`` per cent of completed trials at the same step."""
    goal = aims.watched

    @cache
    def rule() -> "BasePruner":
        from optuna.pruners import PercentilePruner

        return PercentilePruner(percentile, startup_trials, warmup_steps + 1, interval)

    what = "median" if percentile == 50 else f"best {percentile:g} %"

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        if not _prunes(rule, goal, trial, others):
            return None
        step = trial.last_step
        best = trial.best(goal)
        if best is None:
            return Verdict(f"{goal.metric} has been NaN at every step up to {step}", {goal.metric: math.nan})
        at_step = _at_step(goal, step, others)
        share = percentile if goal.direction is Direction.MINIMIZE else 100 - percentile
        bound = float(np.nanpercentile(list(at_step.values()), share))
        return Verdict(
            f"best {goal.metric} up to step {step} is {best:.6g}, worse than the {what} ({bound:.6g}) "
            f"of {len(at_step)} completed trials at that step",
            {goal.metric: best},
            {number: {goal.metric: value} for number, value in at_step.items()},
            [number for number, value in at_step.items() if goal.is_better(value, best)],
            {"percentile": percentile, "threshold": bound},
        )

    return judge


def patient(
    aims: Aims,
    *,
    patience: Count,
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
    startup_trials: Natural = 5,
    warmup_steps: Natural = 0,
) -> Judge:
    """As ``median``, but only once the metric has not improved for ``patience`` steps."""
    goal = aims.watched
    inner = median(aims, startup_trials=startup_trials, warmup_steps=warmup_steps)

    @cache
    def waiting() -> "BasePruner":
        from optuna.pruners import PatientPruner

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return PatientPruner(None, patience, min_delta)

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        verdict = inner(trial, others) if _prunes(waiting, goal, trial, others) else None
        if verdict is None:
            return None
        return Verdict(
            f"no better {goal.metric} for {patience} steps, and {verdict.why}",
            verdict.vector,
            verdict.against,
            verdict.dominated_by,
            {**verdict.facts, "patience": patience},
        )

    return judge


def threshold(
    aims: Aims, *, lower: Number | None = None, upper: Number | None = None, warmup_steps: Natural = 0
) -> Judge:
    """Outside [lower, upper], or NaN, after the warm-up."""
    goal = aims.watched
    if lower is None and upper is None:
        raise StudyFileError("pruner threshold needs lower, upper, or both.")
    if lower is not None and upper is not None and not lower < upper:
        raise StudyFileError(f"pruner threshold needs lower below upper; got {lower:g} and {upper:g}.")

    @cache
    def rule() -> "BasePruner":
        from optuna.pruners import ThresholdPruner

        return ThresholdPruner(lower=lower, upper=upper, n_warmup_steps=warmup_steps + 1)

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        if not _prunes(rule, goal, trial, others):
            return None
        step = trial.last_step
        value = trial.series[goal.metric][step]
        side = (
            "not a number"
            if math.isnan(value)
            else (f"below {lower:g}" if lower is not None and value < lower else f"above {upper:g}")
        )
        why = f"{goal.metric} at step {step} is {value:.6g}, {side}"
        return Verdict(why, {goal.metric: value}, facts={"lower": lower, "upper": upper})

    return judge


def _at_step(goal: Goal, step: int, others: Sequence[Curve]) -> dict[int, float]:
    """The watched metric of completed trials at a step, the best first."""
    told = {other.number: other.series[goal.metric] for other in completed(others)}
    values = {number: series[step] for number, series in told.items() if step in series}
    turn = 1 if goal.direction is Direction.MINIMIZE else -1
    return dict(sorted(values.items(), key=lambda item: (math.isnan(item[1]), turn * item[1], item[0])))


@dataclass(frozen=True)
class _Shown:
    """All that Optuna's percentile, patient and threshold pruners ask of a trial."""

    intermediate_values: dict[int, float]

    @property
    def last_step(self) -> int:
        return max(self.intermediate_values)


class _Curves:
    """All that they ask of a study."""

    def __init__(self, direction: "StudyDirection", trials: "list[FrozenTrial]") -> None:
        self.direction = direction
        self._trials = trials

    def get_trials(self, deepcopy: bool = True, states: object = None) -> "list[FrozenTrial]":
        return self._trials


def _prunes(rule: "Callable[[], BasePruner]", goal: Goal, trial: Curve, others: Sequence[Curve]) -> bool:
    from optuna.study import StudyDirection

    if trial.last_step not in trial.series[goal.metric]:
        return False
    shown = [cast("FrozenTrial", _Shown(other.series[goal.metric])) for other in completed(others)]
    study = cast("Study", _Curves(StudyDirection[goal.direction.name], shown))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's "All-NaN slice"
        return rule().prune(study, cast("FrozenTrial", _Shown(trial.series[goal.metric])))
