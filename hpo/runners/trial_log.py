"""The log of a trial: ``log.txt`` in its folder, one line after the other while it runs.

It holds what the trial writes to ``sys.stdout`` and ``sys.stderr`` (warnings among it), the records of
``logging``, each reported step, and how each attempt began and ended. All of it also goes where it
would have gone. What a C library or a program of its own writes to the file descriptors is not seen.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hpo.trial import Decision, Event, Job, Outcome, Point

FILE = "log.txt"
LIMIT_BYTES = 10 * 2**20  # of what a trial prints, over all its attempts

_BAR_EVERY_S = 10.0  # between two states of a progress bar that are kept
_LONGEST = 2**16  # characters of a line; what goes on without an end is cut
_FORMAT = logging.Formatter("%(levelname)s %(name)s: %(message)s")
# Sequences that colour or move on a terminal, and control characters but the tab.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class TrialLog:
    """The log of one attempt at a job; what is printed inside the ``with`` statement goes into it.

    A log that cannot be written (no room, no permission) fails nothing: ``trouble`` says so then.
    Each line is a time (UTC), who speaks (``hpo``, ``step``, ``out``, ``err``, ``log``), and the text.
    """

    def __init__(self, job: Job, device: str) -> None:
        self._job, self._device = job, device
        self._path = Path(job.folder) / FILE
        self._began = time.monotonic()
        self._lock = threading.RLock()  # a signal handler may print in the middle of a print
        self._cutters = {who: _Cutter() for who in ("out", "err", "log")}
        self._bar: tuple[str, str, str] | None = None  # the newest state of a progress bar: time, who, text
        self._bar_kept = self._began
        self._handle: int | None = None
        self._is_full = False
        self.trouble: Event | None = None

    def __enter__(self) -> Self:
        self._open()
        job = self._job
        after = f", after step {job.reported}" if job.reported else ""
        self.say(
            f"attempt {job.attempt} at {job.series} trial {job.number} of study {job.study} begins{after}: "
            f"{socket.gethostname()}, process {os.getpid()}, {self._device}\n"
            f"params {_numbers(job.params)}, seed {job.seed}"
        )
        _streams.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _streams.end(self)
        if kind is not None:
            self.say(f"attempt {self._job.attempt} was broken off by {kind.__name__}")
        self._close()

    def passing(self, send: Callable[[Point], Decision]) -> Callable[[Point], Decision]:
        """``send``, with each point in the log first. What is printed while it is answered is not the trial's."""

        def reported(point: Point) -> Decision:
            self._told("step", f"{point.step}/{self._job.epochs} {_numbers(point.metrics)}")
            for event in point.events:
                self.say(f"{event.kind}: {event.message}")
            with _streams.aside():
                return send(point)

        return reported

    def ended(self, outcome: Outcome) -> None:
        """How the attempt ended, as far as its worker knows."""
        for event in outcome.events:
            self.say(f"{event.kind}: {event.message}")
        took = f"{time.monotonic() - self._began:.1f} s"
        reason = outcome.reason
        self.say(f"attempt {self._job.attempt} ended after {took}, {reason.kind}: {reason.message}")

    def say(self, text: str) -> None:
        """A word of hpo's own; there is always room for it."""
        self._told("hpo", text, always=True)

    def take(self, who: str, text: str) -> None:
        """What was written to a stream; a line is kept when it has ended."""
        with self._lock:
            for line, is_bar in self._cutters[who].feed(text):
                if is_bar:
                    self._hold(who, line)
                else:
                    self._told(who, line)

    def _told(self, who: str, text: str, always: bool = False) -> None:
        with self._lock:
            self._keep_bar()
            moment = _now()
            for line in text.splitlines():
                self._write(moment, who, line, always)

    def _hold(self, who: str, line: str) -> None:
        self._bar = (_now(), who, line)
        if time.monotonic() - self._bar_kept >= _BAR_EVERY_S:
            self._keep_bar()

    def _keep_bar(self) -> None:
        if self._bar is not None:
            moment, who, line = self._bar
            self._bar, self._bar_kept = None, time.monotonic()
            self._write(moment, who, line)

    def _write(self, moment: str, who: str, line: str, always: bool = False) -> None:
        if self._handle is None or (self._is_full and not always):
            return
        line = _CONTROL.sub("", line).rstrip()
        if not line:
            return
        data = f"{moment} {who:<4} {line}\n".encode("utf-8", "backslashreplace")
        try:
            if not always and os.fstat(self._handle).st_size + len(data) > LIMIT_BYTES:
                self._is_full = True
                line = f"this log has its {LIMIT_BYTES >> 20} MB; what the attempt prints from here on is left out"
                data = f"{moment} hpo  {line}\n".encode()
            os.write(self._handle, data)
        except OSError as error:
            self._fail(error)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Appended line by line without a buffer, so that forked data workers may write to it, too.
            self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self._fail(error)

    def _close(self) -> None:
        with self._lock:
            for who, cutter in self._cutters.items():
                for line, is_bar in cutter.rest():
                    if is_bar:
                        self._hold(who, line)
                    else:
                        self._told(who, line)
            self._keep_bar()
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def _fail(self, error: OSError) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self.trouble = Event("log_failed", f"{self._path} could not be written: {error.strerror}. The trial went on.")

    def after_fork(self) -> None:
        """Another thread may have held the lock when this process was forked."""
        self._lock = threading.RLock()


class _Cutter:
    """What one stream is given, as lines. Of a bar that redraws itself with carriage returns, the last state."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> Iterator[tuple[str, bool]]:
        """The lines that ``text`` ends, and the state of a bar that goes on; each with whether it is a bar."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            yield _state(line.removesuffix("\r"))
        if "\r" in self._pending:
            state = _state(self._pending)[0]
            self._pending = f"{state}\r" if self._pending.endswith("\r") else f"\r{state}"
            yield state, True
        elif len(self._pending) > _LONGEST:
            yield self._pending, False
            self._pending = ""

    def rest(self) -> Iterator[tuple[str, bool]]:
        """The line that has not ended."""
        if self._pending:
            yield _state(self._pending)
            self._pending = ""


def _state(line: str) -> tuple[str, bool]:
    if "\r" not in line:
        return line, False
    return next((part for part in reversed(line.split("\r")) if part.strip()), ""), True


class _Streams:
    """The process's ``sys.stdout``, ``sys.stderr`` and ``logging`` while a trial with a log runs in it.

    A thread that runs a trial writes into the log of that trial, any other into the newest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: list[tuple[int, TrialLog]] = []  # with the thread that runs the trial
        self._aside: set[int] = set()  # threads that do what is not the trial's
        self._tees = (_Tee(self, "out", "stdout"), _Tee(self, "err", "stderr"))
        os.register_at_fork(after_in_child=self._after_fork)

    def begin(self, log: TrialLog) -> None:
        with self._lock:
            if not self._logs:
                self._install()
            self._logs.append((threading.get_ident(), log))

    def end(self, log: TrialLog) -> None:
        with self._lock:
            self._logs = [pair for pair in self._logs if pair[1] is not log]
            if not self._logs:
                self._uninstall()

    def log(self) -> TrialLog | None:
        """The log that this thread writes to."""
        me, logs = threading.get_ident(), self._logs
        if not logs or me in self._aside:
            return None
        return next((log for thread, log in reversed(logs) if thread == me), logs[-1][1])

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What this thread writes meanwhile is in no log."""
        me = threading.get_ident()
        is_new = me not in self._aside
        self._aside.add(me)
        try:
            yield
        finally:
            if is_new:
                self._aside.discard(me)

    def _install(self) -> None:
        for tee in self._tees:
            tee.install()
        self._call_handlers = logging.Logger.callHandlers
        # A handler of our own would switch off basicConfig() and the handler of last resort.
        logging.Logger.callHandlers = self._tapped(self._call_handlers)  # type: ignore[method-assign]

    def _uninstall(self) -> None:
        logging.Logger.callHandlers = self._call_handlers  # type: ignore[method-assign]
        for tee in self._tees:
            tee.uninstall()

    def _tapped(self, call_handlers: Callable[..., None]) -> Callable[..., None]:
        """``call_handlers``, with the record in the log; what handlers make of it is not there again."""

        def call(logger: logging.Logger, record: logging.LogRecord) -> None:
            log = self.log()
            if log is None:
                return call_handlers(logger, record)
            try:
                text = _FORMAT.format(record)
            except Exception as error:  # arguments that do not fit; handlers say it at length
                text = f"{record.levelname} {record.name}: {record.msg!r} ({error})"
            log.take("log", f"{text}\n")
            with self.aside():
                return call_handlers(logger, record)

        return call

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for _, log in self._logs:
            log.after_fork()


class _Tee:
    """Stands for ``sys.stdout`` or ``sys.stderr``: what is written goes there and into the trial's log.

    One for the whole life of the process: who has kept it writes to standard error when no
    trial runs, and into the log of the next one that does.
    """

    def __init__(self, streams: _Streams, who: str, name: str) -> None:
        self._streams, self._who, self._name = streams, who, name
        self._behind: Any = None

    def install(self) -> None:
        self._behind = getattr(sys, self._name)
        setattr(sys, self._name, self)

    def uninstall(self) -> None:
        setattr(sys, self._name, self._behind)
        self._behind = None

    def write(self, text: str) -> int:
        target = self._target()
        if target is not None:
            target.write(text)
        log = self._streams.log()
        if log is not None:
            log.take(self._who, text)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        target = self._target()
        if target is not None:
            target.flush()

    def _target(self) -> Any:
        found = self._behind if self._behind is not None else sys.stderr
        return None if found is self else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target(), name)


_streams = _Streams()


def _numbers(values: Any) -> str:
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
