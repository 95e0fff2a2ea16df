"""One trial after the other, in this process: for tests, small machines and debugging."""

from __future__ import annotations

import contextlib
import sys

from hpo.errors import RunnerFailed
from hpo.roles import JobSource
from hpo.runners.worker import pick_device, run_job
from hpo.trial import Decision, Job, Point, Wait


class _DriverFailedError(BaseException):
    """Carries an error of the study (its database is gone) through the objective's own ``except``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def run(source: JobSource, *, workers: int = 1, cpus: float = 1, gpus: float = 0) -> None:
    """Run every job of ``source``. ``workers`` and ``cpus`` are not used: there is one process."""
    device = pick_device(gpus)
    while isinstance(answer := source.ask(), Job | Wait):
        if isinstance(answer, Wait):
            raise RunnerFailed(f"The study waits though no trial is running: {answer.reason}.")
        _run(source, answer, device)


def _run(source: JobSource, job: Job, device: str) -> None:
    def send(point: Point) -> Decision:
        try:
            return source.report(job.number, point)
        except Exception as error:
            raise _DriverFailedError(error) from error

    source.working(job.number, "inline")
    try:
        # What an objective prints is not the command's output, which may be JSON.
        with contextlib.redirect_stdout(sys.stderr):
            outcome = run_job(job, send, device=device, stop_requested=lambda: source.stop_requested)
    except _DriverFailedError as failed:
        raise failed.error from None
    source.finish(job.number, outcome)
