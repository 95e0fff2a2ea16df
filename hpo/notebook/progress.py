"""Progress where Python runs: the terminal's live table, or the same as text in a notebook's cell."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.reports.live import LiveTable
from hpo.roles import Listener
from hpo.trial import Job, Point, TrialRecord

_EVERY_S = 0.25  # a browser has to keep up
_WIDTH = 100  # characters of a cell's line


def in_kernel() -> bool:
    """Whether a notebook's kernel runs this: what is displayed has a cell to stand in."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class CellTable:
    """The live table in the output of a cell, drawn again at its place whenever a trial tells something."""

    def __init__(self, table: LiveTable) -> None:
        self._table = table
        self._handle: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        from IPython.display import display

        self._table.__enter__()
        self._handle = display(self._shown(), raw=True, display_id=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._table.__exit__()
        self._draw()

    def started(self, job: Job) -> None:
        self._table.started(job)
        self._draw_soon()

    def reported(self, number: int, point: Point) -> None:
        self._table.reported(number, point)
        self._draw_soon()

    def finished(self, record: TrialRecord) -> None:
        self._table.finished(record)
        self._draw_soon()

    def _draw_soon(self) -> None:
        if time.monotonic() - self._drawn >= _EVERY_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._shown(), raw=True)

    def _shown(self) -> dict[str, str]:
        from rich.console import Console

        text = io.StringIO()
        # Without colours: a cell may be light or dark.
        Console(file=text, width=_WIDTH, color_system=None, force_jupyter=False).print(self._table.render())
        return {"text/plain": text.getvalue().rstrip()}


class Progress:
    """Shows a launch while it runs, and stops it on an interrupt.

    ``listeners`` is what a launch makes its listeners with.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.interrupt = Interrupt()

    def listeners(self, plan: Plan, ended: Sequence[TrialRecord]) -> list[Listener]:
        goals, total = plan.goals, plan.spec.budget.trials
        if in_kernel():
            from rich.console import Console

            quiet = Console(quiet=True)  # a line per trial would stand below the table in the cell
            return [self._stack.enter_context(CellTable(LiveTable(goals, total, quiet, already=ended)))]
        return [self._stack.enter_context(LiveTable(goals, total, already=ended))]


@contextmanager
def shown() -> Iterator[Progress]:
    """Progress for the time of a launch.

    The first interrupt (Ctrl-C, or the notebook's stop button) asks everything to stop with a checkpoint; the
    second is Python's own. Only the main thread hears them.
    """
    with ExitStack() as stack:
        progress = Progress(stack)
        if in_kernel():
            # Optuna imports a progress bar that is not used, and that asks for a package.
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="IProgress not found")
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_stopping(progress.interrupt))
        yield progress


@contextmanager
def _stopping(interrupt: Interrupt) -> Iterator[None]:
    def on_signal(number: int, frame: object) -> None:
        if interrupt.at_once:
            raise KeyboardInterrupt
        interrupt.request()
        # Not through sys.stderr: the code that this handler interrupts may hold its lock.
        os.write(2, b"\nStopping as soon as a checkpoint is kept (again: at once).\n")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
