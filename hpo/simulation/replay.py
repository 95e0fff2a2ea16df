"""Recorded trials once more, under another pruner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hpo.simulation.clock import Clock, Script, simulate
from hpo.training.settings import TrainerSettings
from hpo.trial import (
    GO_ON,
    Decision,
    Done,
    Goal,
    Job,
    Outcome,
    Point,
    StopKind,
    StopReason,
    TrialRecord,
    Wait,
)

_FINISHED = StopReason(StopKind.FINISHED, "ran all its epochs")


class JudgingRole(Protocol):
    """Who says when a trial is to be pruned: ``hpo.search.judging.Judging``, or another's method."""

    def begin(self, number: int) -> None: ...
    def report(self, number: int, point: Point) -> StopReason | None: ...
    def finished(self, record: TrialRecord) -> None: ...


@dataclass(frozen=True)
class Replayed:
    """What became of recorded trials, by number, and the virtual seconds until the last one ended."""

    trials: tuple[TrialRecord, ...]
    wall_s: float


class Replay:
    """A ``JobSource`` of recorded trials in their order, judged anew.

    A trial that is stopped becomes PRUNED at that step; any other ends as it is recorded, so one that
    was pruned when it ran is pruned at the end of its curve.

    Args:
        trials: ended ones, with their points.
        concurrency, deterministic: of the study; in a deterministic one a trial begins only when
            all it may see have ended.
        timeout_s: no trial begins later than that on ``clock``.
    """

    def __init__(
        self,
        trials: Sequence[TrialRecord],
        judging: JudgingRole,
        *,
        concurrency: int = 1,
        deterministic: bool = False,
        timeout_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._waiting = sorted(trials, key=lambda trial: trial.number, reverse=True)
        self._judging = judging
        self._concurrency = concurrency
        self._deterministic = deterministic
        self._timeout_s = timeout_s
        self._clock = clock or Clock()
        self._running: dict[int, TrialRecord] = {}
        self._ended: dict[int, TrialRecord] = {}
        self.stop_requested = False

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Those that have ended, in number order."""
        return tuple(trial for _, trial in sorted(self._ended.items()))

    def ask(self) -> Job | Wait | Done:
        if self.stop_requested or not self._waiting:
            return Done("every recorded trial has been started")
        if self._timeout_s is not None and self._clock() >= self._timeout_s:
            return Done(f"the time limit of {self._timeout_s:g} s has passed")
        number = self._waiting[-1].number
        if self._deterministic and any(running <= number - self._concurrency for running in self._running):
            return Wait("deterministic: an earlier trial must end first")
        trial = self._running[number] = self._waiting.pop()
        self._judging.begin(number)
        return recorded_job(trial)

    def report(self, number: int, point: Point) -> Decision:
        stop = self._judging.report(number, point)
        if stop is None:
            return GO_ON
        self._running[number] = _cut(self._running[number], point.step, stop)
        return Decision(stop)

    def finish(self, number: int, outcome: Outcome) -> None:
        trial = self._ended[number] = self._running.pop(number)
        self._judging.finished(trial)

    def working(self, number: int, worker: str) -> None:
        """Nobody is told who runs a trial."""

    def request_stop(self) -> None:
        self.stop_requested = True

    def drain(self) -> None:
        self.stop_requested = True


def replay(
    trials: Sequence[TrialRecord],
    judging: JudgingRole,
    *,
    workers: int = 1,
    seconds: Mapping[int, float] | None = None,
    concurrency: int = 1,
    deterministic: bool = False,
    timeout_s: float | None = None,
) -> Replayed:
    """Let recorded trials run again on so many ``workers``; see ``Replay``.

    Args:
        seconds: of one step, by trial number; 1 each when left out.
    """
    clock = Clock()
    source = Replay(
        trials, judging, concurrency=concurrency, deterministic=deterministic, timeout_s=timeout_s, clock=clock
    )
    scripts = {trial.number: _script(trial, 1.0 if seconds is None else seconds[trial.number]) for trial in trials}
    wall_s = simulate(source, scripts, workers, clock)
    return Replayed(source.trials, wall_s)


def _script(trial: TrialRecord, step_s: float) -> Script:
    return Script(trial.points, (step_s,) * len(trial.points), Outcome(trial.reason or _FINISHED))


def _cut(trial: TrialRecord, step: int, stop: StopReason) -> TrialRecord:
    """A trial as it would be, had it been stopped at a step."""
    points = tuple(point for point in trial.points if point.step <= step)
    return replace(
        trial, state=stop.state, reason=stop, values=None, violations=(), points=points, last_step=step,
        best_step=None, metrics={},
    )  # fmt: skip


def recorded_job(trial: TrialRecord) -> Job:
    """A job that nobody works on: only its number is looked at."""
    return Job(
        study="", series="", number=trial.number, objective="", params=trial.params, data={},
        trainer=TrainerSettings(), goals=(), monitor=Goal(""), seed=trial.seed, data_seed=0,
        epochs=trial.epochs, folder="",
    )  # fmt: skip
