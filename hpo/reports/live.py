"""What ``hpo launch`` shows while trials run: a live table, or one line per ended trial without a terminal.

Listens to a study (``started``, ``reported``, ``finished``) and never answers it. ``rich``
is imported on entering, and only where there is a terminal to draw on.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from hpo.reports.warnings import warning
from hpo.reports.wording import count, duration, number
from hpo.trial import Goal, Job, Point, TrialRecord, TrialState
from storage.records import SEARCH

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from hpo.pareto import ParetoFront

_WINDOW = 200  # reports that the speed is measured over
_MOST_WARNINGS = 3  # kinds of them in the line of counts
_MOST_ROWS = 16  # running trials shown; a terminal has only so many lines

_WORDS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_STYLES = {TrialState.COMPLETE: "green", TrialState.PRUNED: "yellow", TrialState.FAIL: "red"}


@dataclass
class _Running:
    job: Job
    since: float
    step: int = 0
    value: float | None = None
    warned: dict[str, int] = field(default_factory=dict)  # by its name, the last epoch that a warning came with


class LiveTable:
    """The live view of one launch; use it as a context manager around the run.

    Args:
        goals: the study's.
        total_trials: how many the study is to have in the end; None when only time ends it.
        console: where to draw; standard error by default.
        done: how many trials ended in earlier launches.
        already: those of them whose records are at hand, so that the best includes them.
        clock: seconds that only grow; for tests.
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
    ) -> None:
        self._goals = tuple(goals)
        self._total = total_trials
        self._console = console
        self._clock = clock
        self._began = clock()
        self._series = SEARCH
        self._running: dict[int, _Running] = {}
        self._counts: Counter[TrialState] = Counter()
        self._warnings: Counter[str] = Counter()
        self._front: list[TrialRecord] = []
        self._best_said: str = ""
        self._n_unseen = 0
        self._ticks: deque[float] = deque(maxlen=_WINDOW)
        self._epochs_of_ended: list[int] = []
        self._live: Live | None = None
        # rich draws from its own refresh thread while the driver's thread reports.
        self._lock = threading.Lock()
        self._notice = ""
        for record in already:
            self._count(record)
        self._n_unseen = max(0, done - self._n_seen)

    def __enter__(self) -> Self:
        self._began = self._clock()
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
            self._running.clear()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def notify(self, text: str) -> bool:
        """Show a line below the table from now on; False when no table is drawn.

        Takes no lock and prints nothing, so that a signal handler may call it.
        """
        self._notice = text
        return self._live is not None

    def started(self, job: Job) -> None:
        """A trial begins, or goes on in a new attempt."""
        with self._lock:
            if job.series != self._series:
                self._turn_to(job.series)
            self._running[job.number] = _Running(job, self._clock())

    def reported(self, number: int, point: Point) -> None:
        """A trial has finished a step."""
        with self._lock:
            self._ticks.append(self._clock())
            running = self._running.get(number)
            if running is not None:
                running.step = point.step
                running.value = point.metrics.get(running.job.monitor.metric)
                for event in point.events:
                    name = warning(event.kind, event.details)
                    if name is not None:
                        self._warnings[name] += 1
                        running.warned.pop(name, None)  # so that the newest stands last
                        running.warned[name] = point.step

    def finished(self, record: TrialRecord) -> None:
        """A trial has ended, or was interrupted and is queued again."""
        with self._lock:
            running = self._running.pop(record.number, None)
            self._count(record)
        if self._live is None:
            self._print(self._line(record, running))

    def _turn_to(self, series: str) -> None:
        """Count from nothing: confirmation and retraining number their trials anew, and have no budget of trials."""
        self._series, self._total, self._n_unseen = series, None, 0
        self._counts.clear()
        self._warnings.clear()
        self._front, self._best_said = [], ""
        self._epochs_of_ended.clear()

    def _count(self, record: TrialRecord) -> None:
        if not record.state.is_finished:
            return
        self._counts[record.state] += 1
        self._epochs_of_ended.append(record.last_step)
        if record.state is TrialState.COMPLETE and record.values and all(map(math.isfinite, record.values)):
            front = _front([*self._front, record], self._goals)
            known = {trial.number: trial for trial in (*self._front, record)}
            self._front = [known[n] for n in front.numbers]
            self._best_said = self._best(front)

    def _best(self, front: ParetoFront) -> str:
        where = " of this launch" if self._n_unseen else ""
        if len(self._goals) > 1:
            return f"front{where} {len(front)}"
        best = front.pick(self._goals[0].metric)
        value = float(front.values[front.numbers.index(best)][0])
        return f"best {self._goals[0].metric}{where} {number(value)} (trial {best})"

    @property
    def _n_seen(self) -> int:
        return sum(self._counts.values())

    @property
    def _n_ended(self) -> int:
        return self._n_unseen + self._n_seen

    @property
    def _n_queued(self) -> int | None:
        return None if self._total is None else max(0, self._total - self._n_ended - len(self._running))

    def _speed(self) -> float | None:
        """Epochs per second over the last reports, up to now: a stall shows."""
        if len(self._ticks) < 2:
            return None
        span = self._clock() - self._ticks[0]
        return (len(self._ticks) - 1) / span if span > 0 else None

    def _left_s(self) -> float | None:
        """Seconds to the end, if the trials to come are as long as those that ended, pruned ones included."""
        speed = self._speed()
        if self._total is None or not speed or not self._epochs_of_ended:
            return None
        each = sum(self._epochs_of_ended) / len(self._epochs_of_ended)
        begun = sum(max(0.0, each - running.step) for running in self._running.values())
        return (begun + each * (self._n_queued or 0)) / speed

    def _line(self, record: TrialRecord, running: _Running | None) -> str:
        """One ended trial in one line: who, how, values, how long, why, warnings, how many so far, the best."""
        word = _WORDS.get(record.state, "interrupted")
        what = "trial" if self._series == SEARCH else f"{self._series} trial"
        parts = [f"{what} {record.number} {word} after {count(record.last_step, 'epoch')}"]
        if record.values is not None:
            parts += [f"{g.metric} {number(v)}" for g, v in zip(self._goals, record.values, strict=False)]
        if running is not None:
            parts.append(duration(self._clock() - running.since))
        if record.reason is not None and record.state is not TrialState.COMPLETE:
            parts.append((record.reason.message.splitlines() or [""])[0][:160])
        if running is not None and running.warned:
            parts.append(f"warned: {', '.join(running.warned)}")
        of = f"/{self._total}" if self._total is not None else ""
        left = self._left_s()
        parts.append(f"{self._n_ended}{of} ended")
        if self._best_said:
            parts.append(self._best_said)
        if left is not None and self._n_queued:
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
            now = self._clock()
            table = Table(box=None, pad_edge=False, header_style="dim")
            metric = next((running.job.monitor.metric for running in self._running.values()), "value")
            for heading in ("trial", "epoch", "", Text(metric), "elapsed"):
                table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
            table.add_column("", no_wrap=True, overflow="ellipsis", style="yellow")
            shown = sorted(self._running.items())[:_MOST_ROWS]
            for trial, running in shown:
                table.add_row(*_row(trial, running, now))
            parts: list[RenderableType] = [table] if shown else []
            if len(self._running) > len(shown):
                parts.append(Text(f"… and {len(self._running) - len(shown)} more", style="dim"))
            return Group(*parts, *self._status(now))

    def _status(self, now: float) -> list[RenderableType]:
        from rich.text import Text

        counts = Text() if self._series == SEARCH else Text(f"{self._series}: ")
        for state, word in _WORDS.items():
            n = self._counts[state]
            counts.append(f"{n} {word}", style=_STYLES[state] if n else "dim").append("  ")
        if self._n_unseen:
            counts.append(f"{self._n_unseen} in earlier launches  ", style="dim")
        counts.append(f"{len(self._running)} running  ")
        queued = self._n_queued
        if queued is not None:
            counts.append(f"{queued} queued  ", style="dim")
        if self._warnings:
            told = ", ".join(f"{n} {name}" for name, n in self._warnings.most_common(_MOST_WARNINGS))
            more = ", …" if len(self._warnings) > _MOST_WARNINGS else ""
            counts.append(f"{count(self._warnings.total(), 'warning')} ({told}{more})", style="yellow")
        speed, left = self._speed(), self._left_s()
        facts = [self._best_said or "no completed trial yet"]
        facts += [f"{speed:.3g} epochs/s"] if speed else []
        facts += [f"{duration(now - self._began)} elapsed"]
        facts += [f"about {duration(left)} left"] if left is not None else []
        lines: list[RenderableType] = [counts, Text(" · ".join(facts), style="bold")]
        return [*lines, Text(self._notice)] if self._notice else lines


def _row(trial: int, running: _Running, now: float) -> list[Any]:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    epochs = max(1, running.job.epochs)
    value = "" if running.value is None else number(running.value)
    bar = ProgressBar(total=epochs, completed=min(running.step, epochs), width=20)
    name, step = next(reversed(running.warned.items()), ("", 0))
    newest = Text(f"{name} (epoch {step})" if name else "")
    return [str(trial), f"{running.step}/{running.job.epochs}", bar, value, duration(now - running.since), newest]


def _front(trials: Sequence[TrialRecord], goals: Sequence[Goal]) -> ParetoFront:
    # moocore takes 0.1 s to import, which `hpo --help` must not pay.
    from hpo.pareto import ParetoFront

    return ParetoFront.of(trials, goals)
