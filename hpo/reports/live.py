"""What `hpo launch` and `hpo watch` show while trials run: a live table, or without a terminal a line per trial.

Listens to a study (``started``, ``reported``, ``finished``) and never answers it. ``rich``
is imported on entering, and only where there is a terminal to draw on.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Protocol, Self

from hpo.reports.tally import Running, Tally
from hpo.reports.warnings import warning
from hpo.reports.wording import count, duration, number
from hpo.trial import Goal, Point, TrialRecord, TrialState
from storage.records import SEARCH

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_MOST_WARNINGS = 3  # kinds of them in the line of counts
_LONGEST_REASON = 160
_MOST_ROWS = 16  # running trials shown; a terminal has only so many lines

_WORDS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_STYLES = {TrialState.COMPLETE: "green", TrialState.PRUNED: "yellow", TrialState.FAIL: "red"}


class Begun(Protocol):
    """What the table wants to know of a trial that begins; a ``Job`` says it."""

    @property
    def series(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def reported(self) -> int: ...
    @property
    def monitor(self) -> Goal: ...


class LiveTable:
    """The live view of one launch; use it as a context manager around the run.

    Args:
        goals: the study's.
        total_trials: how many the study is to have in the end; None when only time ends it.
        console: where to draw; standard error by default.
        done: how many trials ended in earlier launches.
        already: those of them whose records are at hand, so that the best includes them.
        clock: seconds that only grow; for tests.
        reference: of the hypervolume, for several goals.
        began_s: how long ago the launch began.
    """

    def __init__(
        self,
        goals: Sequence[Goal],
        total_trials: int | None,
        console: Console | None = None,
        *,
        done: int = 0,
        already: Sequence[TrialRecord] = (),
        clock: Callable[[], float] = time.monotonic,
        reference: Sequence[float] | None = None,
        began_s: float = 0.0,
    ) -> None:
        self._console = console
        self._clock = clock
        self._began_s = began_s
        self._began = clock() - began_s
        self._tally = Tally(goals, total_trials, clock, reference)
        self._live: Live | None = None
        # rich draws from its own refresh thread while the driver's thread reports.
        self._lock = threading.Lock()
        self._notice = ""
        self._tally.ended(already)
        self._tally.n_unseen = max(0, done - self._tally.n_ended)

    def __enter__(self) -> Self:
        self._began = self._clock() - self._began_s
        terminal = sys.stderr.isatty() if self._console is None else self._console.is_terminal
        if terminal:
            from rich.console import Console
            from rich.live import Live

            self._console = self._console or Console(stderr=True)
            # Standard output carries data and is left alone.
            self._live = Live(
                get_renderable=self.render, console=self._console, refresh_per_second=4, redirect_stdout=False
            )
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._tally.running.clear()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def notify(self, text: str) -> bool:
        """Show a line below the table from now on; False when no table is drawn.

        Takes no lock and prints nothing, so that a signal handler may call it.
        """
        self._notice = text
        return self._live is not None

    def started(self, job: Begun, *, ago_s: float = 0.0, worker: str | None = None) -> None:
        """A trial begins, or goes on in a new attempt; for who looks on from elsewhere, ``ago_s`` seconds ago."""
        with self._lock:
            if job.series != self._tally.series:
                self._tally.turn_to(job.series)
            since = self._clock() - ago_s
            self._tally.running[job.number] = Running(job.epochs, job.monitor.metric, since, job.reported, worker)

    def working(self, trial: int, worker: str | None) -> None:
        """It is known who runs a trial."""
        with self._lock:
            if trial in self._tally.running:
                self._tally.running[trial].worker = worker

    def reported(self, trial: int, point: Point) -> None:
        """A trial has finished a step."""
        with self._lock:
            self._tally.advanced(trial, point.step)
            running = self._tally.running.get(trial)
            if running is not None:
                running.value = point.metrics.get(running.metric)
                for event in point.events:
                    name = warning(event.kind, event.details)
                    if name is not None:
                        self._tally.warned(trial, name, point.step)

    def warned(self, trial: int, name: str, step: int) -> None:
        """A trial has a warning, told apart from its steps."""
        with self._lock:
            self._tally.warned(trial, name, step)

    def finished(self, record: TrialRecord, *, ago_s: float = 0.0) -> None:
        """A trial has ended, or was interrupted and is queued again; ``ago_s`` as for ``started``."""
        with self._lock:
            running = self._tally.running.get(record.number)
            if running is not None and record.last_step > running.step:  # not everything was told step by step
                self._tally.advanced(record.number, record.last_step)
            self._tally.running.pop(record.number, None)
            self._tally.ended([record])
        if self._live is None:
            self._print(self._line(record, running, self._clock() - ago_s))

    def counted(self, records: Iterable[TrialRecord]) -> None:
        """Trials that ended before anybody looked, without a line for each."""
        with self._lock:
            self._tally.ended(records)

    def _line(self, record: TrialRecord, running: Running | None, at: float) -> str:
        """One ended trial in one line: who, how, values, how long, why, warnings, how many so far, the best."""
        tally = self._tally
        word = _WORDS.get(record.state, "interrupted")
        what = "trial" if tally.series == SEARCH else f"{tally.series} trial"
        parts = [f"{what} {record.number} {word} after {count(record.last_step, 'epoch')}"]
        if record.values is not None:
            parts += [f"{g.metric} {number(v)}" for g, v in zip(tally.goals, record.values, strict=False)]
        if running is not None:
            parts.append(duration(max(0.0, at - running.since)))
        if record.reason is not None and record.state is not TrialState.COMPLETE:
            parts.append(shorten((record.reason.message.splitlines() or [""])[0], _LONGEST_REASON, placeholder=" …"))
        if running is not None and running.warned:
            parts.append(f"warned: {', '.join(running.warned)}")
        of = f"/{tally.total}" if tally.total is not None else ""
        left = tally.left_s()
        parts.append(f"{tally.n_ended}{of} ended")
        if tally.best:
            parts.append(tally.best)
        if left is not None and tally.n_queued:
            parts.append(f"about {duration(left)} left")
        return " · ".join(part for part in parts if part)

    def _print(self, line: str) -> None:
        if self._console is None:
            print(line, file=sys.stderr, flush=True)
        else:
            # Names and messages are the user's: [brackets] in them are not markup.
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """What a terminal shows now."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            now, all_running = self._clock(), self._tally.running
            table = Table(box=None, pad_edge=False, header_style="dim")
            metric = next((running.metric for running in all_running.values()), "value")
            with_workers = any(running.worker for running in all_running.values())
            for heading in ("trial", "epoch", "", Text(metric), "elapsed"):
                table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
            if with_workers:
                table.add_column("worker", no_wrap=True, overflow="ellipsis")
            table.add_column("", no_wrap=True, overflow="ellipsis", style="yellow")
            shown = sorted(all_running.items())[:_MOST_ROWS]
            for trial, running in shown:
                table.add_row(*_row(trial, running, now, with_workers))
            parts: list[RenderableType] = [table] if shown else []
            if len(all_running) > len(shown):
                parts.append(Text(f"… and {len(all_running) - len(shown)} more", style="dim"))
            return Group(*parts, *self._status(now))

    def _status(self, now: float) -> list[RenderableType]:
        from rich.text import Text

        tally = self._tally
        counts = Text() if tally.series == SEARCH else Text(f"{tally.series}: ")
        for state, word in _WORDS.items():
            n = tally.counts[state]
            counts.append(f"{n} {word}", style=_STYLES[state] if n else "dim").append("  ")
        if tally.n_unseen:
            counts.append(f"{tally.n_unseen} in earlier launches  ", style="dim")
        counts.append(f"{len(tally.running)} running  ")
        queued = tally.n_queued
        if queued is not None:
            counts.append(f"{queued} queued  ", style="dim")
        if tally.warnings:
            told = ", ".join(f"{n} {name}" for name, n in tally.warnings.most_common(_MOST_WARNINGS))
            more = ", …" if len(tally.warnings) > _MOST_WARNINGS else ""
            counts.append(f"{count(tally.warnings.total(), 'warning')} ({told}{more})", style="yellow")
        speed, left = tally.epochs_per_s(), tally.left_s()
        facts = [tally.best or "no completed trial yet"] if tally.series == SEARCH else []
        facts += [f"{speed:.3g} epochs/s"] if speed else []
        facts += [f"{duration(now - self._began)} elapsed"]
        facts += [f"about {duration(left)} left"] if left is not None else []
        lines: list[RenderableType] = [counts, Text(" · ".join(facts), style="bold")]
        return [*lines, Text(self._notice)] if self._notice else lines


def _row(trial: int, running: Running, now: float, with_worker: bool) -> list[Any]:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    epochs = max(1, running.epochs)
    value = "" if running.value is None else number(running.value)
    bar = ProgressBar(total=epochs, completed=min(running.step, epochs), width=20)
    name, step = next(reversed(running.warned.items()), ("", 0))
    newest = Text(f"{name} (epoch {step})" if name else "")
    worker = [Text(running.worker or "")] if with_worker else []
    return [str(trial), f"{running.step}/{running.epochs}", bar, value, duration(now - running.since), *worker, newest]
