"""Measuring alone on a device that several trials share.

Two files per device. ``<device>.lock``: every trial that trains holds it shared.
``<device>.want``: who wants to measure holds it exclusively and puts one byte into it;
the trials look at its size between updates (a ``stat``, about 2 µs), and step aside while
it is not empty. Locks are ``flock``, so the kernel frees them when a process dies, and a
byte left by a dead measurer is wiped by the first trial that gets the want-file shared.

There is no deadlock: ``.lock`` is taken exclusively only while holding ``.want``
exclusively, and nobody waits for ``.want`` while holding ``.lock``.

Knows nothing of training. POSIX only (``fcntl``).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch

from hpo.errors import WorkError

_held = threading.local()  # path of a lock -> the DeviceLock that this thread holds on it


class DeviceLock:
    """A trial's share of a device. ``paused_s`` sums the seconds that it stood aside or waited for its turn.

    Files are opened anew for every hold, because cleaners of temporary folders may have
    removed them meanwhile, and because ``flock`` belongs to the open file.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock, self._want = _files(device)
        self._fd: int | None = None
        self.paused_s = 0.0

    def take(self) -> None:
        """Hold the device with the other trials, after whoever is measuring now. Held already: nothing."""
        if self._fd is not None:
            return
        began = time.perf_counter()
        want = _flock(self._want, fcntl.LOCK_SH)
        try:
            if os.fstat(want).st_size > 0:  # its writer would still hold it exclusively, had it not died
                os.ftruncate(want, 0)
            self._fd = _flock(self._lock, fcntl.LOCK_SH)
        finally:
            _unlock(want)
        _mine()[self._lock] = self
        self.paused_s += time.perf_counter() - began

    def release(self) -> None:
        """Let go of the device; never waits."""
        if self._fd is not None:
            _mine().pop(self._lock, None)
            _unlock(self._fd)
            self._fd = None

    def pause_if_wanted(self) -> None:
        """Stand aside while somebody measures alone on this device; call it between updates."""
        if self._fd is None or not _is_wanted(self._want):
            return
        if self._device.type == "cuda":  # updates are queued there; let them end before stepping aside
            torch.cuda.synchronize(self._device)
        self.release()
        self.take()

    def __enter__(self) -> DeviceLock:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextmanager
def alone(device: torch.device) -> Iterator[None]:
    """No trial runs updates on this device while the body runs.

    Waits until every trial on the device has come between two updates. A share that the
    calling thread holds itself is let go first and taken back afterwards.
    """
    lock, want = _files(device)
    own = _mine().get(lock)
    if own is not None:
        own.release()
    began = time.perf_counter()
    try:
        wanted = _flock(want, fcntl.LOCK_EX)
        try:
            os.pwrite(wanted, b"1", 0)
            taken = _flock(lock, fcntl.LOCK_EX)
            if own is not None:
                own.paused_s += time.perf_counter() - began
            try:
                yield
            finally:
                _unlock(taken)
        finally:
            os.ftruncate(wanted, 0)
            _unlock(wanted)
    finally:
        if own is not None:
            own.take()


def lock_folder() -> Path:
    """Where the lock files of this user are: ``HPO_LOCK_DIR``, or one in the temporary folder.

    Raises:
        WorkError: it cannot be made, or belongs to another user.
    """
    named = os.environ.get("HPO_LOCK_DIR")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"hpo-locks-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise WorkError(
            f"Lock files need a writable folder; {folder}: {error}. Name another in HPO_LOCK_DIR."
        ) from error
    if not named and owner != os.getuid():
        raise WorkError(f"Lock files need a folder of your own; {folder} is user {owner}'s. Name one in HPO_LOCK_DIR.")
    return folder


def device_name(device: torch.device) -> str:
    """A name that is the same in every process for one physical device.

    ``cuda:0`` is another card in each process that has its own CUDA_VISIBLE_DEVICES, so
    cards are named by their UUID.
    """
    if device.type != "cuda":
        return device.type
    return f"cuda-{torch.cuda.get_device_properties(device).uuid}"


def _files(device: torch.device) -> tuple[Path, Path]:
    base = lock_folder() / f"{os.getuid()}-{device_name(device)}"
    return base.with_name(base.name + ".lock"), base.with_name(base.name + ".want")


def _flock(path: Path, how: int) -> int:
    """``path``, made where it is missing, opened and locked; waits as long as it takes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unlock(fd: int) -> None:
    # Unlocking by name and not by closing: a forked data worker may hold a copy of ``fd``.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _is_wanted(want: Path) -> bool:
    try:
        return want.stat().st_size > 0
    except FileNotFoundError:
        return False


def _mine() -> dict[Path, DeviceLock]:
    if not hasattr(_held, "locks"):
        _held.locks = {}
    locks: dict[Path, DeviceLock] = _held.locks
    return locks


class WorkClock:
    """Seconds of a trial's own work: the pauses for others' measurements are left out."""

    def __init__(self, lock: DeviceLock) -> None:
        self._lock = lock
        self._mark = self.now()

    def lap(self) -> float:
        """The seconds since the last lap."""
        now = self.now()
        self._mark, before = now, self._mark
        return now - before

    def now(self) -> float:
        """Seconds from an arbitrary moment on."""
        return time.perf_counter() - self._lock.paused_s
