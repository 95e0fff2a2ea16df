"""One trial after the other, in this process: for tests, small machines and debugging."""

from __future__ import annotations

from functools import partial

from hpo.errors import RunnerFailed
from hpo.runners.worker import pick_device, run_job
from hpo.study import JobSource
from hpo.trial import Job, Wait


def run(source: JobSource, *, workers: int = 1, cpus: float = 1, gpus: float = 0) -> None:
    """Run every job of ``source``. ``workers`` and ``cpus`` are not used: there is one process."""
    device = pick_device(gpus)
    while isinstance(answer := source.ask(), Job | Wait):
        if isinstance(answer, Wait):
            raise RunnerFailed(f"The study waits though no trial is running: {answer.reason}.")
        source.working(answer.number, "inline")
        outcome = run_job(
            answer, partial(source.report, answer.number), device=device, stop_requested=lambda: source.stop_requested
        )
        source.finish(answer.number, outcome)
