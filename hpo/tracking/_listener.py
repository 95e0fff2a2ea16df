"""A study told to a tracker, trial by trial, beside the study and never in its way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from hpo.aside import Aside
from hpo.errors import WorkError
from hpo.tracking._roles import Run, Tracker
from hpo.trial import Job, Point, TrialRecord

_LONGEST = 200  # characters of a library's own message
_SLOW_S, _PAUSE = 0.1, 10  # a failure that takes longer is followed by a pause of so many times as long


@dataclass
class _Trial:
    job: Job
    pending: deque[Point] = field(default_factory=deque)  # reported, and not told yet
    run: Run | None = None


class TrackingListener:
    """Has a tracker told what a study does, in the thread of ``aside``. Listens to a study.

    A tracker that falls behind gets several steps in one call. What it could not take when it was
    reported, it is told again at the trial's end, and that end again at the launch's.

    Args:
        open_tracker: called in the thread at the first trial, and again until it succeeds.
        hide: takes what is secret out of a message.
    """

    def __init__(self, aside: Aside, open_tracker: Callable[[], Tracker], hide: Callable[[str], str]) -> None:
        self._aside, self._open, self._hide = aside, open_tracker, hide
        self._trials: dict[int, _Trial] = {}
        # From here on the thread's alone.
        self._tracker: Tracker | None = None
        self._unended: dict[tuple[str, int], tuple[_Trial, TrialRecord]] = {}  # by series and number
        self._failures: dict[type[BaseException], str] = {}
        self._down: BaseException | None = None  # the last failure, until there has been time to mend it
        self._down_until = 0.0

    def started(self, job: Job) -> None:
        trial = self._trials[job.number] = _Trial(job)
        self._do(partial(self._run, trial))

    def reported(self, number: int, point: Point) -> None:
        trial = self._trials[number]
        trial.pending.append(point)
        self._do(partial(self._flush, trial))

    def finished(self, record: TrialRecord) -> None:
        self._do(partial(self._end, self._trials.pop(record.number), record))

    def close(self) -> None:
        """Wait until the tracker knows everything, as long as ``Aside.close`` waits."""
        self._aside.do(partial(self._call, self._close))
        self._aside.close()

    def _do(self, call: Callable[[], object]) -> None:
        self._aside.do(partial(self._call, call))
        self._aside.tell()

    def _call(self, call: Callable[[], object]) -> None:
        try:
            self._attempt(call)
        except (Exception, SystemExit) as error:
            # One message per kind of failure: what differs is an address, a run, a query.
            message = self._failures.setdefault(type(error), one_line(error, self._hide))
            raise WorkError(message) from None

    def _attempt(self, call: Callable[[], object]) -> None:
        """Make a call; what fails by waiting is then left alone for a while, or a launch would end far behind."""
        began = time.monotonic()
        try:
            call()
        except (Exception, SystemExit) as error:
            took = time.monotonic() - began
            if error is not self._down and took >= _SLOW_S:
                self._down, self._down_until = error, began + _PAUSE * took
            raise

    def _run(self, trial: _Trial) -> Run:
        if self._down is not None and time.monotonic() < self._down_until:
            raise self._down.with_traceback(None)  # or it would grow with each time
        if self._tracker is None:
            self._tracker = self._open()
        if trial.run is None:
            trial.run = self._tracker.begin(trial.job)
        return trial.run

    def _flush(self, trial: _Trial) -> None:
        points = [trial.pending.popleft() for _ in range(len(trial.pending))]
        if points:
            _tell(self._run(trial), points)

    def _end(self, trial: _Trial, record: TrialRecord) -> None:
        key = trial.job.series, trial.job.number
        self._unended[key] = trial, record
        self._finish(trial, record)
        del self._unended[key]

    def _finish(self, trial: _Trial, record: TrialRecord) -> None:
        run = self._run(trial)
        _tell(run, [point for point in record.points if point.step not in run.told])
        run.end(record)

    def _close(self) -> None:
        self._down = None
        failure: BaseException | None = None
        try:
            for trial, record in self._unended.values():
                try:
                    self._attempt(partial(self._finish, trial, record))
                except (Exception, SystemExit) as error:
                    failure = error
            if failure is not None:
                raise failure
        finally:
            if self._tracker is not None:
                self._tracker.close()


def one_line(error: BaseException, hide: Callable[[str], str]) -> str:
    """What a library's failure says, short and without what is secret."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    line = hide(text.strip().splitlines()[0]).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _tell(run: Run, points: Sequence[Point]) -> None:
    """Tell ``points`` in stretches of rising steps; a step that comes again voids those after it."""
    while points:
        first = points[0].step
        if first in run.told:
            run.rewind(first)
            run.told -= {step for step in run.told if step >= first}
        length = next((i for i in range(1, len(points)) if points[i].step <= points[i - 1].step), len(points))
        run.tell(points[:length])
        run.told |= {point.step for point in points[:length]}
        points = points[length:]
