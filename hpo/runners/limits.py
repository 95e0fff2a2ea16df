"""How long a job may go on before it is ended from outside, even one that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpo.trial import Job, StopKind, StopReason

GRACE_S = 5.0  # between asking a job to stop with a checkpoint and ending its process


class Limits:
    """The limits of one attempt at a job; the clock runs from when this is made.

    ``time`` counts earlier attempts too; ``silence`` is the time since the last report, or
    since the attempt began, without the time in which nobody listened.
    """

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._job, self._clock = job, clock
        self._began = self._heard = clock()
        self._steps = job.reported

    def heard(self, step: int) -> None:
        """The job has reported."""
        self._heard, self._steps = self._clock(), step

    def nobody_listened(self, seconds: float) -> None:
        """For so long; the driver waited for its database, say. That is no silence of the job."""
        self._heard = min(self._heard + seconds, self._clock())

    def passed(self, after_s: float = 0.0) -> StopReason | None:
        """The limit that was passed ``after_s`` seconds ago or earlier; None as long as there is none."""
        job, now = self._job, self._clock() - after_s
        if job.time_limit_s is not None and job.spent_s + now - self._began >= job.time_limit_s:
            return self._time_is_up(job.time_limit_s)
        if job.silence_limit_s is not None and now - self._heard >= job.silence_limit_s:
            return StopReason(
                StopKind.ERROR,
                f"reported nothing for {job.silence_limit_s:g} s, which is as long as limits.silence allows; "
                f"{self._steps} of {job.epochs} epochs are done",
            )
        return None

    def left_s(self) -> float | None:
        """Seconds until the first limit is passed, 0 when one is; None without limits."""
        job, now = self._job, self._clock()
        left = []
        if job.time_limit_s is not None:
            left.append(job.time_limit_s - job.spent_s - (now - self._began))
        if job.silence_limit_s is not None:
            left.append(job.silence_limit_s - (now - self._heard))
        return max(0.0, min(left)) if left else None

    def _time_is_up(self, limit_s: float) -> StopReason:
        if not self._steps:
            return StopReason(
                StopKind.ERROR, f"its time limit of {limit_s:g} s passed before its first report; raise limits.time"
            )
        return StopReason(
            StopKind.TIME_LIMIT,
            f"its time limit of {limit_s:g} s has passed; {self._steps} of {self._job.epochs} epochs are done",
        )
