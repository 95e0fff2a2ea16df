"""A function ``train(params, report)`` as an objective: what it is given, and how what it tells is understood."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from hpo.errors import DataError, TrialFailed, UserError
from hpo.trial import Job, Metrics, Outcome, Params, StopKind, StopReason, TrialContext, TrialStopped
from objectives.adopted import Adopted, Goals, Space, ended, trial_process
from objectives.base import DataFacts

# What a function gets beside params and report, where it has an argument of that name.
GIVEN: Mapping[str, Callable[[Job, TrialContext], Any]] = {
    "data": lambda job, context: dict(job.data),
    "data_seed": lambda job, context: job.data_seed,
    "device": lambda job, context: context.device,
    "epochs": lambda job, context: job.epochs,
    "folder": lambda job, context: Path(job.folder),
    "resume": lambda job, context: job.resume,
    "seed": lambda job, context: job.seed,
    "use_test": lambda job, context: job.use_test,
}
_FROM_ZERO = "epochs-count-from-0"  # a file in the trial's folder: an attempt that goes on cannot tell by itself


class FunctionObjective(Adopted):
    """``function(params, report, ...)`` as an objective; calling it calls the function, as if nothing had happened.

    Raises:
        UserError: the function cannot be called like this; see also ``Adopted``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        goals: Goals | None = None,
        space: Space | None = None,
        metrics: Goals | None = None,
        defaults: Params | None = None,
    ) -> None:
        name = getattr(function, "__qualname__", repr(function))
        self._given = given_to(function, "report")
        summary = (inspect.getdoc(function) or f"the function {name}").partition("\n")[0]
        super().__init__(name, summary, goals=goals, space=space, metrics=metrics, defaults=defaults)
        functools.update_wrapper(self, function, updated=())
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        if data and "data" not in self._given:
            raise DataError(f"data: {self.name} has no argument named data to get it by; leave it out.")
        return super().check_data(data)

    def run(self, job: Job, context: TrialContext) -> Outcome:
        report = Report(context, goes_on="resume" in self._given)
        given = {name: GIVEN[name](job, context) for name in self._given}
        with trial_process(job, context):
            try:
                returned = self.function(dict(job.params), report, **given)
            except (Exception, SystemExit):
                if report.stopped is None:
                    raise
            if report.stopped is not None:  # it caught what should have ended it
                raise report.stopped
        final = self._final(returned, job, context)
        self._check_goals(job, report, final)
        outcome = ended(report.last_step or job.reported, job.epochs)
        return Outcome(outcome.reason, final)

    def _final(self, returned: object, job: Job, context: TrialContext) -> Metrics:
        """The metrics among what the function returned; the rest is left out, which an event says."""
        if isinstance(returned, Mapping):
            told = {str(name): _number(value) for name, value in returned.items()}
        elif _number(returned) is not None and len(job.goals) == 1:
            told = {job.goals[0].metric: _number(returned)}
        else:
            told = {} if returned is None else {f"a {type(returned).__name__}": None}
        left_out = [name for name, value in told.items() if value is None]
        if left_out:
            context.event("left_out", f"{self.name} returned what is no metric: {', '.join(left_out)}")
        return {name: value for name, value in told.items() if value is not None}

    def _check_goals(self, job: Job, report: Report, final: Metrics) -> None:
        """Name what was told instead of a goal, which is most often a goal with another spelling."""
        known = {*report.names, *final}
        missing = [goal.metric for goal in job.goals if goal.metric not in known]
        if missing and not job.reported:
            told = ", ".join(sorted(known)) or "nothing"
            raise TrialFailed(f"{self.name} never reported {', '.join(missing)}, a goal. It reported: {told}.")


class Report:
    """What a function calls after every epoch: ``report(epoch, val_loss=0.3)`` or ``report({"val_loss": 0.3})``.

    Epochs count from 0 or from 1; without one they are numbered. hpo's steps count from 1.
    ``stopped`` is set once the trial was told to stop; every further call says so again.
    """

    def __init__(self, context: TrialContext, *, goes_on: bool = False) -> None:
        """``goes_on``: a later attempt may begin with any epoch, and must count as this one does."""
        self._context = context
        self._goes_on = goes_on
        self._marker = Path(context.folder) / _FROM_ZERO
        self._shift = int(context.job.resume and self._marker.exists())
        self.last_step = 0
        self.names: set[str] = set()
        self.stopped: TrialStopped | None = None

    def __call__(self, *told: Any, **metrics: Any) -> None:
        """Tell the metrics of an epoch.

        Raises:
            TrialStopped: the trial is to end. No ``Exception``: let it pass.
            ValueError: it is called in another form, or with something that is no number.
        """
        if self.stopped is not None:
            raise self.stopped
        epoch, numbers = _understood(told, metrics)
        step = self.last_step + 1 if epoch is None else self._step(epoch)
        self._check_budget(step)
        self.names |= set(numbers)
        try:
            self._context.report(step, **numbers)
        except TrialStopped as stopped:
            self.stopped = stopped
            raise
        finally:
            self.last_step = step

    def _step(self, epoch: int) -> int:
        if epoch == 0 and self.last_step == 0 and not self._shift:
            self._shift = 1
            if self._goes_on:
                self._marker.touch()
        return epoch + self._shift

    def _check_budget(self, step: int) -> None:
        epochs = self._context.job.epochs
        if step <= epochs:
            return
        if not self.last_step and not self._context.job.reported:
            raise ValueError(
                f"report: the first step is {step}, but the study gives a trial {epochs} epochs (budget.epochs). "
                "Report epochs, not updates, or raise it."
            )
        self.stopped = TrialStopped(StopReason(StopKind.FINISHED, f"ran all {epochs} epochs of the budget"))
        raise self.stopped


def given_to(function: Callable[..., Any], second: str) -> tuple[str, ...]:
    """Which of ``GIVEN`` a function wants beside its first two arguments, ``params`` and ``second``.

    Raises:
        UserError: it does not take those two, or wants what hpo cannot give.
    """
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise UserError(
            f"adopt {name}: a generator or coroutine runs nothing when it is called; write a plain function."
        )
    parameters = list(inspect.signature(function).parameters.values())
    listed = f"{name}{inspect.signature(function)}"
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [p for p in parameters[:2] if p.kind in by_place]
    if len(first) < 2 or first[1].name in GIVEN:
        raise UserError(f"adopt {name}: its first two arguments must be params and {second}; it is {listed}.")
    wanted = []
    for parameter in parameters[2:]:
        if parameter.name in GIVEN and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            wanted.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD,
        ):  # fmt: skip
            raise UserError(
                f"adopt {name}: hpo cannot give the argument {parameter.name!r}; it gives {', '.join(GIVEN)}. "
                "Give it a default, or take it from params."
            )
    return tuple(wanted)


def _understood(told: tuple[Any, ...], metrics: Mapping[str, Any]) -> tuple[int | None, Metrics]:
    """The epoch, where one was told, and the numbers by name."""
    rest = list(told)
    epoch = rest.pop(0) if rest and isinstance(rest[0], Integral) and not isinstance(rest[0], bool) else None
    named = dict(rest.pop(0)) if rest and isinstance(rest[0], Mapping) else {}
    named.update(metrics)
    if rest or not named:
        raise ValueError(
            'report is called as report(epoch, val_loss=0.3) or report({"val_loss": 0.3}); '
            f"got report({', '.join(map(_short, told))})."
        )
    numbers: Metrics = {}
    for name, value in named.items():
        number = _number(value)
        if number is None:
            raise ValueError(f"report: {name} must be a number; got {_short(value)}.")
        numbers[str(name)] = number
    return None if epoch is None else int(epoch), numbers


def _number(value: Any) -> float | None:
    """A number as a float, a tensor or array of one element included; None for anything else."""
    if isinstance(value, (str, bytes, bytearray)) or value is None:
        return None
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        return None
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _short(value: object) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
