"""Files that take their place whole and durable, or not at all.

A file is written beside its place, fsynced, and renamed into it. Knows nothing of what is
in the files.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = re.compile(r"\..+\.(\d+)-\d+\.tmp")
_count = itertools.count()  # so that two threads never share a temporary file


def write(path: Path, fill: Callable[[Path], object], *, keep: Path | None = None, sync: bool = True) -> None:
    """Have ``fill`` write a file that then takes the place of ``path``; durable on return.

    Args:
        keep: where the file that ``path`` named until now goes.
        sync: false for a file that need not survive a power cut.

    Raises:
        OSError: it cannot be written; what ``path`` named before is untouched. What
            ``fill`` itself raises passes through, with the same effect.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_count)}.tmp")
    try:
        fill(temporary)
        if sync:
            sync_file(temporary)
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        if sync:
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Make a file survive a power cut, but for its name, which is its folder's."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # one that syncs files alone
            raise


def copy(source: Path, path: Path, *, keep: Path | None = None) -> None:
    """Put a copy of ``source`` in the place of ``path``; as ``write``."""
    write(path, lambda temporary: shutil.copyfile(source, temporary), keep=keep)


def link(source: Path, path: Path) -> None:
    """Make ``path`` another name of ``source``, or a copy where the file system has no hard links.

    Raises:
        OSError: neither can be done; what ``path`` named before is untouched.
    """
    try:
        write(path, lambda temporary: os.link(source, temporary))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV):
            raise
        copy(source, path)


def remove_unfinished(folder: Path) -> None:
    """Delete what processes left in ``folder`` that died while writing; those at work keep theirs.

    A file that cannot be deleted stays: it is in nobody's way. This process must not be
    writing into the folder.
    """
    for path in folder.glob(".*.tmp"):
        found = _UNFINISHED.fullmatch(path.name)
        if found and not _is_another_process(int(found[1])):
            with suppress(OSError):
                path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself locked, which leaves no lock file behind; the kernel frees it."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: as good as before
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_another_process(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
