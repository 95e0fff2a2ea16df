"""One trial in several processes: they are started, listened to, and none of them stays.

Each builds the task from the job itself and trains its share (``hpo.training.team.member``).
Rank 0's reports are passed on to the trial's own context here, and the answers back. The
processes meet in a file of a temporary folder and speak over the loopback interface.
Knows no torch.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import IO, Any, cast

from hpo.errors import OutOfMemory, TrialFailed
from hpo.training.settings import TrainerSettings
from hpo.trial import GO_ON, Decision, Event, Job, Outcome, Point, TrialContext, TrialStopped

_LOOK_EVERY_S = 0.1
_GRACE_S = 5.0  # in which the others may say what one of them died of, on a busy machine too
_UNWIND_S = 10.0

# What they say to each other


@dataclass(frozen=True)
class Start:
    """The first word to a process."""

    rank: int
    size: int
    device: str  # "cpu", or "cuda" for the GPU of its rank
    job: Job
    store: str
    make_task: Callable[[Job], Any]


@dataclass(frozen=True)
class Stop:
    """Somebody wants the trial to stop."""


@dataclass(frozen=True)
class Ended:
    """A process is done; rank 0 with an outcome, unless a report was answered with a stop."""

    outcome: Outcome | None


@dataclass(frozen=True)
class Failed:
    """A process cannot go on. ``lost_peer``: only because another one is gone."""

    message: str
    trace: str
    lost_peer: bool
    events: tuple[Event, ...] = ()
    out_of_memory: bool = False


def refusal(settings: TrainerSettings) -> str | None:
    """What in ``settings`` does not go with several devices, as a sentence."""
    if settings.devices == 1:
        return None
    if settings.compile:
        return f"compile works with one device; devices is {settings.devices}. Leave one of them out."
    if settings.strategy == "fsdp" and settings.optimizer == "adamw8bit":
        return "adamw8bit does not know the sharded parameters of strategy fsdp; choose adamw, or strategy ddp."
    return None


def run_together(job: Job, context: TrialContext, make_task: Callable[[Job], Any]) -> Outcome:
    """Train ``job`` in as many processes as its setting ``devices`` says.

    Args:
        make_task: builds the task in each process; a function of a module, as it goes there by name.

    Raises:
        TrialFailed: a process failed or was killed; the message is the first real cause.
        TrialStopped: a report was answered with a stop.
    """
    settings = job.trainer.with_params(job.params)
    refused = refusal(settings)
    if refused is not None:
        raise TrialFailed(refused)
    with tempfile.TemporaryDirectory(prefix="hpo-team-") as folder:
        team: list[_Member] = []
        try:
            for rank in range(settings.devices):
                environment = _environment(settings, context.device, rank, Path(folder))
                team.append(_Member(rank, environment))
            for member in team:
                store = str(Path(folder) / "store")
                member.say(Start(member.rank, len(team), context.device, job, store, make_task))
            return _listen(team, context)
        finally:
            for member in team:
                member.kill()


class _Member:
    """One of the processes, in a session of its own: Ctrl-C reaches this process alone, and
    what it starts itself (data workers) ends with it."""

    def __init__(self, rank: int, environment: dict[str, str]) -> None:
        self.rank = rank
        self.ended: Ended | None = None
        self.failed: Failed | None = None
        self.connection: Connection | None
        self.connection, theirs = Pipe()
        with theirs:
            # -P keeps the current folder off sys.path unless it was there.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hpo.training.team.member", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        self._echo = threading.Thread(target=self._pass_on_what_it_prints, daemon=True)
        self._echo.start()

    @property
    def is_lost(self) -> bool:
        """Whether it left without a word."""
        return self.connection is None and self.ended is None and self.failed is None

    def say(self, word: object) -> None:
        if self.connection is not None:
            with suppress(BrokenPipeError, ConnectionResetError):  # it died; what of, is seen when listening
                self.connection.send(word)

    def hear(self) -> object | None:
        """The next word; None when there will be no more."""
        if self.connection is None:
            return None
        try:
            word: object = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.hang_up()
            return None
        if isinstance(word, Ended):
            self.ended = word
        if isinstance(word, Failed):
            self.failed = word
        return word

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # also what a dead one left running
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.hang_up()
        self._echo.join(_GRACE_S)

    def _pass_on_what_it_prints(self) -> None:
        """To standard error, which the trial's log sees; the processes after the first one are named."""
        name = f"[process {self.rank + 1}] " if self.rank else ""
        printed = cast(IO[bytes], self.process.stdout)  # it was started with a pipe
        for line in io.TextIOWrapper(printed, "utf-8", "replace", newline=""):  # a bar's \r ends one, too
            sys.stderr.write(f"{name}{line}")

    def death(self) -> str:
        try:
            code = self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code >= 0:
            return f"ended with {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (", as a system does that has no memory left" if name == "SIGKILL" else "")


def _listen(team: Sequence[_Member], context: TrialContext) -> Outcome:
    """Pass words on until rank 0 has an outcome."""
    stop_told = False
    while True:
        if not stop_told and context.stop_requested:
            team[0].say(Stop())
            stop_told = True
        for member in _heard_of(team):
            word = member.hear()
            if isinstance(word, Point):
                _pass_on(word, team, context)
        if any(member.failed or member.is_lost for member in team):
            raise _failure(team, context)
        if team[0].ended is not None and team[0].ended.outcome is not None:
            _let_end(team)
            return team[0].ended.outcome
        if all(member.ended for member in team):
            raise TrialFailed(f"The {len(team)} processes that train this trial ended without an outcome.")


def _heard_of(team: Iterable[_Member], timeout_s: float = _LOOK_EVERY_S) -> list[_Member]:
    """Those who said something or are gone."""
    team = [member for member in team if member.connection is not None]
    ready = wait([member.connection for member in team if member.connection is not None], timeout_s)
    for member in team:
        # A data worker of a dead process may still hold the other end of its pipe.
        line = member.connection
        if line is not None and line not in ready and member.process.poll() is not None and not line.poll():
            member.hang_up()
    return [member for member in team if member.connection in ready]


def _pass_on(point: Point, team: Sequence[_Member], context: TrialContext) -> None:
    """Report a point of rank 0 as the trial's own, and answer.

    Raises:
        TrialStopped: the answer is a stop; the processes have unwound before.
    """
    if point.rewinds:
        context.rewind(point.step - 1)
    for event in point.events:
        context.event(event.kind, event.message, **event.details)
    if point.checkpoint is not None:
        context.checkpoint_saved(point.checkpoint)
    try:
        context.report(point.step, **point.metrics)
    except TrialStopped as stopped:
        team[0].say(Decision(stopped.reason))
        _let_end(team)
        raise
    team[0].say(GO_ON)


def _let_end(team: Sequence[_Member]) -> None:
    """Give the processes a moment to end by themselves."""
    until = time.monotonic() + _UNWIND_S
    for member in team:
        with suppress(subprocess.TimeoutExpired):
            member.process.wait(max(0.0, until - time.monotonic()))


def _failure(team: Sequence[_Member], context: TrialContext) -> TrialFailed:
    """What the team failed of: what a process said itself, else that one was killed, else a lost connection."""
    until = time.monotonic() + _GRACE_S
    while not any(m.failed and not m.failed.lost_peer for m in team) and time.monotonic() < until:
        if all(member.connection is None for member in team):
            break
        for member in _heard_of(team):
            member.hear()
    for event in team[0].failed.events if team[0].failed else ():
        context.event(event.kind, event.message, **event.details)
    said = sorted((m for m in team if m.failed), key=lambda m: m.failed is not None and m.failed.lost_peer)
    lost = [member for member in team if member.is_lost]
    if said and said[0].failed and (not said[0].failed.lost_peer or not lost):
        failure = (OutOfMemory if said[0].failed.out_of_memory else TrialFailed)(said[0].failed.message)
        failure.__cause__ = _Trace(f"in process {said[0].rank + 1} of {len(team)}:\n{said[0].failed.trace}")
        return failure
    return TrialFailed(f"Process {lost[0].rank + 1} of {len(team)} that train this trial {lost[0].death()}.")


class _Trace(Exception):
    """The traceback of another process, to be shown as the cause."""


def _environment(settings: TrainerSettings, device: str, rank: int, folder: Path) -> dict[str, str]:
    """Ours, with our ``sys.path``, threads of its own share, and sockets on the loopback interface alone."""
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")
    own = {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "OMP_NUM_THREADS": str(settings.threads or 1),
        "PYTHONUNBUFFERED": "1",
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }
    if device == "cpu" and rank:
        # All are on one device, which rank 0 holds for them: with a share each, a measurement
        # would wait for one that waits for another that stands aside.
        own["HPO_LOCK_DIR"] = str(folder / f"locks-{rank}")
    return {**os.environ, **own}
