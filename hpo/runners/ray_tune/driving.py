"""The driver's side: jobs from the source to free workers, their news back. Knows no Ray."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hpo.errors import RunnerFailed
from hpo.roles import JobSource
from hpo.runners.limits import GRACE_S, Limits
from hpo.runners.ray_tune.words import Answer, Ended, Gone, Here, Word
from hpo.trial import GO_ON, Decision, Job, Outcome, Point, StopKind, StopReason, Wait

_LOST = StopReason(StopKind.LOST, "its worker died; goes on from its last checkpoint")
_NOT_BEGUN = StopReason(StopKind.INTERRUPTED, "asked to stop before a worker was free; goes on at the next launch")
_NO_WORKER = StopReason(StopKind.INTERRUPTED, "the runner failed before a worker was free; goes on at the next launch")
_TURN_S = 0.2  # how often the driver looks at the clock and for a wish to stop


class CrewRole(Protocol):
    """Workers, as the driver sees them: see ``hpo.runners.ray_tune.crew``."""

    def want(self, workers: int) -> None: ...
    def room(self) -> int: ...
    def hear(self, timeout_s: float) -> tuple[str, Word] | None: ...
    def answer(self, worker: str, answer: Answer) -> None: ...
    def ask_to_stop(self, worker: str, job: Job) -> None: ...
    def kill(self, worker: str) -> None: ...


@dataclass
class _Run:
    """A job in the hands of a worker."""

    job: Job
    limits: Limits
    verdict: StopReason | None = None  # what it is to end with, should it stop or die from now on
    is_asked_to_stop: bool = False
    is_killed: bool = False


class Driver:
    """Runs every job of ``source``, up to ``workers`` at a time.

    All calls of the source come from the thread that calls ``drive``. The job of a worker that
    is gone is lost, once, and nothing is reported of it any more.
    """

    def __init__(self, source: JobSource, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._workers = workers
        self._clock = clock
        self._ready: deque[Job] = deque()  # started, and waiting for a worker
        self._free: deque[str] = deque()
        self._runs: dict[str, _Run] = {}
        self._where: dict[str, str] = {}
        self._is_news = True  # whether the source may answer otherwise than last time

    @property
    def has_work(self) -> bool:
        """Whether a job is to be run; asks the source for a first one."""
        if not self._in_flight:
            self._ask(1)
        return self._in_flight > 0

    @property
    def _in_flight(self) -> int:
        return len(self._ready) + len(self._runs)

    def drive(self, crew: CrewRole) -> None:
        """Until no job is left."""
        self._crew = crew
        listened = self._clock()
        while True:
            self._ask(min(self._workers, max(1, crew.room())))
            self._hand_out()
            if not self._in_flight:
                return
            crew.want(self._in_flight)
            for run in self._runs.values():
                run.limits.nobody_listened(self._clock() - listened)
            self._look_at_the_clock()
            began = self._clock()
            heard = crew.hear(_TURN_S)
            listened = min(self._clock(), began + _TURN_S)  # more than a turn: this process was held up
            if heard is not None:
                self._take(*heard)

    def give_up(self) -> None:
        """The runner has failed: what waited for a worker has not begun, and what ran is lost."""
        self._source.request_stop()
        while self._ready:
            self._finish(self._ready.popleft(), Outcome(_NO_WORKER))
        while self._runs:
            _, run = self._runs.popitem()
            self._finish(run.job, Outcome(run.verdict or _LOST))

    def _ask(self, up_to: int) -> None:
        """Start jobs until ``up_to`` are in flight, or the source has none for now."""
        while self._is_news and self._in_flight < up_to:
            answer = self._source.ask()
            if isinstance(answer, Job):
                self._ready.append(answer)
                continue
            if isinstance(answer, Wait) and not self._in_flight:
                raise RunnerFailed(f"The study waits though no trial is running: {answer.reason}.")
            self._is_news = False

    def _hand_out(self) -> None:
        if self._source.stop_requested:
            while self._ready:
                self._finish(self._ready.popleft(), Outcome(_NOT_BEGUN))
        while self._ready and self._free:
            worker, job = self._free.popleft(), self._ready.popleft()
            self._runs[worker] = _Run(job, Limits(job, self._clock))
            self._source.working(job.number, self._where[worker])
            self._crew.answer(worker, job)

    def _take(self, worker: str, word: Word) -> None:
        match word:
            case Here():
                self._where[worker] = word.where
                self._free.append(worker)
            case Gone():
                self._lose(worker, word.reason)
            case Point():
                self._crew.answer(worker, self._report(worker, word))
            case Ended():
                self._end(worker, word.outcome)

    def _report(self, worker: str, point: Point) -> Decision:
        run = self._runs[worker]
        decision = self._source.report(run.job.number, point)
        run.limits.heard(point.step)  # only now: the database may have been waited for
        self._is_news = True
        run.verdict = decision.stop or run.limits.passed() or run.verdict
        return Decision(run.verdict) if run.verdict else GO_ON

    def _end(self, worker: str, outcome: Outcome) -> None:
        run = self._runs.pop(worker)
        if run.verdict is not None and outcome.reason.kind is StopKind.INTERRUPTED:
            outcome = Outcome(run.verdict, outcome.metrics, outcome.events)
        self._finish(run.job, outcome)
        self._free.append(worker)

    def _lose(self, worker: str, reason: StopReason | None) -> None:
        self._where.pop(worker, None)
        if worker in self._free:
            self._free.remove(worker)
        run = self._runs.pop(worker, None)
        if run is not None:
            self._finish(run.job, Outcome(run.verdict or reason or _LOST))

    def _finish(self, job: Job, outcome: Outcome) -> None:
        self._source.finish(job.number, outcome)
        self._is_news = True

    def _look_at_the_clock(self) -> None:
        """Ask those to stop who should, and end those who do not."""
        for worker, run in self._runs.items():
            over = run.limits.passed()
            run.verdict = run.verdict or over
            if (over or self._source.stop_requested) and not run.is_asked_to_stop:
                run.is_asked_to_stop = True
                self._crew.ask_to_stop(worker, run.job)
            if run.limits.passed(after_s=GRACE_S) and not run.is_killed:
                run.is_killed = True
                self._crew.kill(worker)
