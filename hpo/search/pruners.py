"""Every pruner by name: one function each, which builds a judge of one watched metric.

The rules are Optuna's own; what is added is the sentence that says why. Optuna counts
steps from 0 and we from 1, so its warm-up is ours plus one.
"""

# No "from __future__ import annotations": the options' types are read off the signatures.
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import numpy as np
from pydantic import Field

from hpo.errors import StudyFileError
from hpo.search.options import checked
from hpo.trial import Direction, Goal

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Judge(Protocol):
    """Decides about a trial from its own curve and those of completed trials.

    ``others`` hold one curve each, ``{step: value of the watched metric}``. Returns the
    reason to prune as a sentence, or None to go on.
    """

    def __call__(self, trial: "FrozenTrial", others: "Sequence[FrozenTrial]") -> str | None: ...


def none(goal: Goal) -> Judge:
    return lambda trial, others: None


def median(goal: Goal, *, startup_trials: Natural = 5, warmup_steps: Natural = 0, interval: Count = 1) -> Judge:
    """Worse than the median of completed trials at the same step (Golovin et al. 2017, Vizier)."""
    return percentile(
        goal, percentile=50.0, startup_trials=startup_trials, warmup_steps=warmup_steps, interval=interval
    )


def percentile(
    goal: Goal,
    *,
    percentile: Annotated[float, Field(gt=0, lt=100)],
    startup_trials: Natural = 5,
    warmup_steps: Natural = 0,
    interval: Count = 1,
) -> Judge:
    """Outside the best ``percentile`` per cent of completed trials at the same step."""

    @cache
    def rule() -> "BasePruner":
        from optuna.pruners import PercentilePruner

        return PercentilePruner(percentile, startup_trials, warmup_steps + 1, interval)

    what = "median" if percentile == 50 else f"best {percentile:g} %"

    def judge(trial: "FrozenTrial", others: "Sequence[FrozenTrial]") -> str | None:
        if not _prunes(rule, goal, trial, others):
            return None
        step = cast(int, trial.last_step)
        own = [v for v in trial.intermediate_values.values() if not math.isnan(v)]
        if not own:
            return f"{goal.metric} has been NaN at every step up to {step}"
        best = min(own) if goal.direction is Direction.MINIMIZE else max(own)
        at_step = [t.intermediate_values[step] for t in others if step in t.intermediate_values]
        share = percentile if goal.direction is Direction.MINIMIZE else 100 - percentile
        bound = float(np.nanpercentile(at_step, share))
        return (
            f"best {goal.metric} up to step {step} is {best:.6g}, worse than the {what} ({bound:.6g}) "
            f"of {len(at_step)} completed trials at that step"
        )

    return judge


def patient(
    goal: Goal,
    *,
    patience: Count,
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
    startup_trials: Natural = 5,
    warmup_steps: Natural = 0,
) -> Judge:
    """As ``median``, but only once the metric has not improved for ``patience`` steps."""
    inner = median(goal, startup_trials=startup_trials, warmup_steps=warmup_steps)

    @cache
    def waiting() -> "BasePruner":
        from optuna.pruners import PatientPruner

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return PatientPruner(None, patience, min_delta)

    def judge(trial: "FrozenTrial", others: "Sequence[FrozenTrial]") -> str | None:
        if not _prunes(waiting, goal, trial, others):
            return None
        why = inner(trial, others)
        return why and f"no better {goal.metric} for {patience} steps, and {why}"

    return judge


def threshold(
    goal: Goal, *, lower: Number | None = None, upper: Number | None = None, warmup_steps: Natural = 0
) -> Judge:
    """Outside [lower, upper], or NaN, after the warm-up."""
    if lower is None and upper is None:
        raise StudyFileError("pruner threshold needs lower, upper, or both.")
    if lower is not None and upper is not None and not lower < upper:
        raise StudyFileError(f"pruner threshold needs lower below upper; got {lower:g} and {upper:g}.")

    @cache
    def rule() -> "BasePruner":
        from optuna.pruners import ThresholdPruner

        return ThresholdPruner(lower=lower, upper=upper, n_warmup_steps=warmup_steps + 1)

    def judge(trial: "FrozenTrial", others: "Sequence[FrozenTrial]") -> str | None:
        if not _prunes(rule, goal, trial, others):
            return None
        step = cast(int, trial.last_step)
        value = trial.intermediate_values[step]
        side = (
            "not a number"
            if math.isnan(value)
            else (f"below {lower:g}" if lower is not None and value < lower else f"above {upper:g}")
        )
        return f"{goal.metric} at step {step} is {value:.6g}, {side}"

    return judge


PRUNERS: Mapping[str, Callable[..., Judge]] = {
    "median": median,
    "none": none,
    "patient": patient,
    "percentile": percentile,
    "threshold": threshold,
}


def build(name: str, options: Mapping[str, Any], watched: Goal) -> Judge:
    """The judge called ``name`` over the watched metric.

    Raises:
        UnknownName, StudyFileError: the pruner or one of its options is wrong.
    """
    values = checked("pruner", name, PRUNERS, options)
    return PRUNERS[name](watched, **values)


class _Curves:
    """All that Optuna's percentile, patient and threshold pruners ask of a study."""

    def __init__(self, goal: Goal, completed: "Sequence[FrozenTrial]") -> None:
        from optuna.study import StudyDirection

        self.direction = StudyDirection[goal.direction.name]
        self._completed = completed

    def get_trials(self, deepcopy: bool = True, states: object = None) -> "Sequence[FrozenTrial]":
        return self._completed


def _prunes(
    rule: "Callable[[], BasePruner]", goal: Goal, trial: "FrozenTrial", others: "Sequence[FrozenTrial]"
) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's "All-NaN slice"
        return rule().prune(cast("Study", _Curves(goal, others)), trial)
