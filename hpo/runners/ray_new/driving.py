"""The driver's side: jobs from the source to free workers, their news back. Knows no Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from hpo.errors import RunnerFailed
from hpo.roles import JobSource
from hpo.runners.limits import Limits
from hpo.runners.ray_tune.office import Answer, Ended, Gone, Hello, Word
from hpo.trial import GO_ON, Decision, Job, Outcome, Point, StopKind, StopReason, Wait

_LOST = StopReason(StopKind.LOST, "its worker died; goes on from its last checkpoint")
_NOT_BEGUN = StopReason(StopKind.INTERRUPTED, "asked to stop before a worker was free; goes on at the next launch")
_TURN_S = 0.2  # how often the driver looks at the clock and for a wish to stop


class CrewRole(Protocol):
    """Workers, as the driver sees them."""

    def want(self, workers: int) -> None:
        """Have so many workers, if there is room; none that is there is sent away."""

    def room(self) -> int:
        """How many workers there is room for."""

    def hear(self, timeout_s: float) -> Iterable[tuple[str, Word]]:
        """What workers have said since, each by its name; waits for the first."""

    def answer(self, worker: str, answer: Answer) -> None: ...
    def ask_to_stop(self, worker: str, job: Job) -> None: ...
    def kill(self, worker: str) -> None: ...


@dataclass
class _Run:
    """A job in the hands of a worker."""

    job: Job
    limits: Limits
    verdict: StopReason | None = None  # what it was told to stop for; Ray's workers may die of telling us
    asked_to_stop: bool = False


class Driver:
    """Runs every job of ``source``, up to ``workers`` at a time.

    All calls of the source come from the thread that calls ``drive``. A worker that is gone,
    or that nobody knows, is never reported for.
    """

    def __init__(self, source: JobSource, workers: int) -> None:
        self._source = source
        self._workers = workers
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
        while True:
            self._ask(min(self._workers, crew.room()))
            self._hand_out()
            if not self._in_flight:
                return
            crew.want(self._in_flight)
            for worker, word in crew.hear(_TURN_S):
                self._take(worker, word)
            self._look_at_the_clock()

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
            self._runs[worker] = _Run(job, Limits(job))
            self._source.working(job.number, self._where[worker])
            self._crew.answer(worker, job)

    def _take(self, worker: str, word: Word) -> None:
        match word:
            case Hello():
                self._where[worker] = word.where
                self._free.append(worker)
            case Gone():
                self._lose(worker)
            case Point():
                self._crew.answer(worker, self._report(worker, word))
            case Ended():
                self._end(worker, word.outcome)

    def _report(self, worker: str, point: Point) -> Decision:
        run = self._runs.get(worker)
        if run is None:  # thought to be dead
            return Decision(_LOST)
        run.limits.heard()
        decision = self._source.report(run.job.number, point)
        self._is_news = True
        if decision.stop is None and run.verdict is not None:
            decision = Decision(run.verdict)
        run.verdict = decision.stop
        return decision if decision.stop else GO_ON

    def _end(self, worker: str, outcome: Outcome) -> None:
        run = self._runs.pop(worker, None)
        if run is None:
            return
        if run.verdict is not None and outcome.reason.kind is StopKind.INTERRUPTED:
            outcome = Outcome(run.verdict, outcome.metrics, outcome.events)
        self._finish(run.job, outcome)
        self._free.append(worker)

    def _lose(self, worker: str) -> None:
        self._where.pop(worker, None)
        if worker in self._free:
            self._free.remove(worker)
        run = self._runs.pop(worker, None)
        if run is not None:
            self._finish(run.job, Outcome(run.verdict or _LOST))

    def _finish(self, job: Job, outcome: Outcome) -> None:
        self._source.finish(job.number, outcome)
        self._is_news = True

    def _look_at_the_clock(self) -> None:
        for worker, run in self._runs.items():
            if self._source.stop_requested and not run.asked_to_stop:
                self._ask_to_stop(worker, run)
            over = run.limits.passed()
            if over is None:
                continue
            if run.verdict is None:
                run.verdict = over
            ...
