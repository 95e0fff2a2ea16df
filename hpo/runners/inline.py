"""One trial after the other, in this process: for tests, small machines and debugging."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from copy import deepcopy
from types import TracebackType

from hpo.errors import RunnerFailed
from hpo.roles import JobSource
from hpo.runners import HERE, Site
from hpo.runners.limits import Limits
from hpo.runners.worker import pick_device, run_job
from hpo.trial import Decision, Job, Outcome, Point, TrialStopped, Wait


class _DriverFailedError(BaseException):
    """Carries an error of the study (its database is gone) through the objective's own ``except``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def run(source: JobSource, *, workers: int = 1, cpus: float = 1, gpus: float = 0, site: Site = HERE) -> None:
    """Run every job of ``source``. ``workers``, ``cpus`` and ``site`` are not used: there is one process."""
    device = pick_device(gpus)
    while isinstance(answer := source.ask(), Job | Wait):
        if isinstance(answer, Wait):
            raise RunnerFailed(f"The study waits though no trial is running: {answer.reason}.")
        _run(source, answer, device)


def _run(source: JobSource, job: Job, device: str) -> None:
    alarm = _Alarm(job)

    def send(point: Point) -> Decision:
        with alarm.held():  # the study's own work is never broken off
            try:
                decision = source.report(job.number, point)
            except Exception as error:
                raise _DriverFailedError(error) from error
            alarm.limits.heard(point.step)  # only now: the database may have been waited for
            return Decision(decision.stop or alarm.limits.passed())

    source.working(job.number, "inline")
    try:
        # What an objective prints is not the command's output, which may be JSON.
        with contextlib.redirect_stdout(sys.stderr), alarm:
            # A copy, as a worker elsewhere would get: objectives take their parameters to pieces.
            outcome = run_job(deepcopy(job), send, device=device, stop_requested=lambda: source.stop_requested)
    except _DriverFailedError as failed:
        raise failed.error from None
    except TrialStopped as stopped:  # by the alarm, when the objective had just ended
        outcome = Outcome(stopped.reason)
    source.finish(job.number, outcome)


class _Alarm:
    """Ends a job that passes a limit: ``TrialStopped`` comes out of whatever line it stands at.

    A signal does that (SIGALRM), which only the main thread hears; elsewhere a limit is seen
    at the next report. A call that never comes back to Python cannot be ended like this.
    """

    def __init__(self, job: Job) -> None:
        self.limits = Limits(job)
        self._works = threading.current_thread() is threading.main_thread() and self.limits.left_s() is not None

    def __enter__(self) -> None:
        if self._works:
            self._before = signal.signal(signal.SIGALRM, self._ring)
            self._set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Not while this is open."""
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, 0)
        yield
        if self._works:
            self._set()

    def _set(self) -> None:
        # A time of 0 would switch it off; a limit that has passed rings at once.
        signal.setitimer(signal.ITIMER_REAL, max(self.limits.left_s() or 0.0, 1e-3))

    def _ring(self, number: int, frame: object) -> None:
        over = self.limits.passed()
        if over is not None:
            raise TrialStopped(over)
        self._set()  # rounded down
