"""When a search ends before its budget is spent: no improvement, a target reached, hours used up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from hpo.pareto import signs
from hpo.spec import StopSpec
from hpo.trial import Goal, TrialRecord, TrialState


class StopRules:
    """The rules of a study's ``stop``; fulfils ``StoppingRole``.

    Trials are taken in as they end. With a ``lag`` (the concurrency of a deterministic
    study) trial *n* looks only at trials up to *n - lag*, in number order, so that the
    search ends at the same trial with any number of workers. A rule that has been met stays
    met, whatever the trials that were still running come to.

    Args:
        lag: None outside deterministic studies.
        worked_s: seconds of work on a trial that has ended; asked only where hours are limited.
    """

    def __init__(
        self,
        goals: Sequence[Goal],
        stop: StopSpec,
        *,
        lag: int | None = None,
        worked_s: Callable[[int], float | None] = lambda number: None,
    ) -> None:
        self._stop = stop
        self._lag = lag
        self._worked_s = worked_s
        self._work_s = 0.0
        self._rules: list[_Rule] = []
        if stop.target:
            self._rules.append(_Target(goals, stop.target))
        if stop.no_improvement is not None:
            self._rules.append(_NoImprovement(goals, stop.no_improvement))
        self._waiting: dict[int, TrialRecord] = {}  # with a lag: ended, not yet taken in
        self._next = 0  # with a lag: the first trial that has not been taken in
        self._met: str | None = None

    def finished(self, record: TrialRecord) -> None:
        """Take in how a trial ended; one that is to go on later has not."""
        if not record.state.is_finished:
            return
        if self._stop.hours is not None:
            self._work_s += self._worked_s(record.number) or 0.0
        if self._lag is None:
            self._take(record)
        else:
            self._waiting[record.number] = record

    def spent(self, number: int) -> str | None:
        """Why trial ``number`` is not to be started any more; None when it is."""
        if self._lag is not None:
            while self._next <= number - self._lag and self._next in self._waiting:
                self._take(self._waiting.pop(self._next))
                self._next += 1
        if self._met is None and self._stop.hours is not None and self._work_s >= self._stop.hours * 3600:
            self._met = f"{self._work_s / 3600:.3g} hours of work are done, of {self._stop.hours:g} allowed"
        return self._met

    def _take(self, record: TrialRecord) -> None:
        for rule in self._rules:
            self._met = self._met or rule.take(record)


class _Rule(ABC):
    """A rule over trials, one after the other."""

    @abstractmethod
    def take(self, record: TrialRecord) -> str | None:
        """Why the search ends with this trial; None when it goes on."""


class _Target(_Rule):
    """One completed, feasible trial is at least as good in every goal that the target names."""

    def __init__(self, goals: Sequence[Goal], target: Mapping[str, float]) -> None:
        self._goals = [(i, goal, target[goal.metric]) for i, goal in enumerate(goals) if goal.metric in target]

    def take(self, record: TrialRecord) -> str | None:
        if not _counts(record) or record.values is None:
            return None
        values = record.values
        if any(goal.is_better(bound, values[i]) for i, goal, bound in self._goals):
            return None
        reached = ", ".join(f"{goal.metric} {values[i]:g} for {bound:g}" for i, goal, bound in self._goals)
        return f"trial {record.number} reached the target ({reached})"


class _NoImprovement(_Rule):
    """So many trials in a row without a better best value, or without a trial that the front takes in.

    With several goals an improvement is a completed, feasible trial that no earlier one
    equals or beats in every goal: exactly then the hypervolume grows, for a reference point
    that is worse than every trial. A stored reference point is not used, because it comes
    with the end of a launch, and an interrupted study would end elsewhere than an unbroken one.

    Counting begins with the first completed, feasible trial. Trials that failed say nothing
    about the search and are not counted.
    """

    def __init__(self, goals: Sequence[Goal], trials: int) -> None:
        self._signs = [float(sign) for sign in signs(goals)]
        self._what = "better value" if len(goals) == 1 else "larger hypervolume"
        self._limit = trials
        self._front: list[tuple[float, ...]] = []  # turned so that lower is better
        self._last = 0  # the trial that improved last
        self._without = 0

    def take(self, record: TrialRecord) -> str | None:
        if record.state is TrialState.FAIL:
            return None
        if self._improves(record):
            self._last, self._without = record.number, 0
        elif self._front:
            self._without += 1
        if self._without < self._limit:
            return None
        return f"no {self._what} in {self._without} trials (since trial {self._last})"

    def _improves(self, record: TrialRecord) -> bool:
        if not _counts(record) or record.values is None:
            return False
        new = tuple(sign * value for sign, value in zip(self._signs, record.values, strict=True))
        if any(_covers(old, new) for old in self._front):
            return False
        self._front = [old for old in self._front if not _covers(new, old)] + [new]
        return True


def _counts(record: TrialRecord) -> bool:
    return record.state is TrialState.COMPLETE and record.is_feasible


def _covers(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether ``a`` is at least as good as ``b`` in every goal (lower is better)."""
    return all(x <= y for x, y in zip(a, b, strict=True))
