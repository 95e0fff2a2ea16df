"""Pictures drawn by a process of its own, which takes only the time that nobody else wants.

Drawing keeps Python busy for about a second. In the driver's process that would hold up the
trials that run there, and spoil what they measure of their speed.
``python -m hpo.archive.drawing`` is that process: requests come from its parent alone, by a
pipe whose end it does not outlive.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import hpo
from hpo.errors import UserError
from hpo.trial import TrialRecord
from storage.records import Snapshot

_NICE = 19  # the lowest priority there is
_LONGEST_S = 120.0  # for one picture, on a machine that is busy with trials


class Drawer:
    """Draws pictures, one after the other. The process begins with the first, or with ``start``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._is_closed = False
        self._changing = threading.Lock()

    def start(self) -> Connection:
        """Have the process get ready; its pipe.

        Raises:
            OSError: it cannot be started, or this has been closed.
        """
        with self._changing:
            if self._is_closed:
                raise OSError("drawing has been stopped")
            if self._pipe is None:
                self._process, self._pipe = _started()
            return self._pipe

    def draw(self, snapshot: Snapshot, run: TrialRecord, series: str, folder: Path) -> bytes | None:
        """The picture of a run as PNG, as ``hpo.reports.run_picture.draw_run``; None when there is nothing to draw.

        Raises:
            OSError: drawing failed, or its process ended or hangs.
        """
        try:
            pipe = self.start()
            pipe.send((snapshot, run, series, folder))
            if not pipe.poll(_LONGEST_S):
                raise EOFError
            answer: bytes | str | None = pipe.recv()
        except (EOFError, OSError) as error:
            self._end()
            raise OSError("the process that draws ended without a word") from error
        if isinstance(answer, str):
            raise OSError(f"cannot draw a picture: {answer}")
        return answer

    def close(self) -> None:
        """End the process, whatever it is drawing; safe from any thread."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        with self._changing:
            process, self._process, self._pipe = self._process, None, None
            if process is not None:
                process.kill()
                process.wait()


def _started() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    # -P keeps the current folder off sys.path, where a user's storage.py would shadow ours.
    command = [sys.executable, "-P", "-m", "hpo.archive.drawing", str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=_environment(), pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
    return process, ours


def _environment() -> dict[str, str]:
    """Ours, with this very hpo on the path."""
    here = str(Path(hpo.__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])}


# The other side


def main() -> None:
    os.nice(_NICE)
    pipe = Connection(int(sys.argv[1]))
    import matplotlib.figure  # noqa: F401  # most of what a first picture takes

    while True:
        try:
            request = pipe.recv()
        except EOFError:  # the parent is gone, or has no more
            return
        pipe.send(_answer(*request))


def _answer(snapshot: Snapshot, run: TrialRecord, series: str, folder: Path) -> bytes | str | None:
    from hpo.reports.run_picture import draw_run

    try:
        return draw_run(snapshot, run, series, folder)
    except UserError:  # it has reported nothing that has a curve
        return None
    except Exception as error:  # told as an event by the parent; the next picture may succeed
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
