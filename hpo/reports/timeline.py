"""When each trial ran, as bars on lanes: from the attempts, or else from the trials' own times.

A study that slept over night would be a thin line at each end of an empty picture, so
long pauses, in which nothing ran, are cut out and marked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from hpo.reports.facts import Ending, Facts
from hpo.reports.thinning import MARKS
from hpo.reports.wording import moment
from hpo.trial import TrialState

_MANY_LANES = 24  # more worker names than this say little: pack the bars instead


@dataclass(frozen=True)
class Bar:
    """One stretch of work. ``start`` and ``length`` in seconds on the axis, pauses cut out."""

    number: int
    attempt: int
    lane: int
    ending: Ending
    start: float
    length: float
    started_at: datetime
    joins: int = 1  # stretches of work in it: several too short to be told apart are drawn as one


@dataclass(frozen=True)
class Cut:
    """A pause taken out of the axis at ``at`` (seconds on the axis)."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Timeline:
    bars: tuple[Bar, ...] = ()
    lanes: tuple[str, ...] = ()
    cuts: tuple[Cut, ...] = ()
    length: float = 0.0  # seconds on the axis
    by_worker: bool = False

    @property
    def busy(self) -> float:
        """The share of lanes x time in which somebody worked."""
        return sum(bar.length for bar in self.bars) / (self.length * len(self.lanes)) if self.length else 0.0

    @property
    def scale(self) -> tuple[float, str]:
        """Seconds per axis unit, and the unit's name."""
        return time_scale(self.length)


def time_scale(seconds: float) -> tuple[float, str]:
    """Seconds per unit of an axis of this length, and the unit's name."""
    return (1.0, "s") if seconds < 180 else (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")


def joined(shown: Timeline) -> list[Bar]:
    """The bars as they are drawn: with very many, short neighbours on a lane are joined.

    A joined bar ends as most of its time did.
    """
    if len(shown.bars) <= MARKS:
        return list(shown.bars)
    pixel = shown.length * len(shown.lanes) / MARKS
    groups: dict[tuple[int, int], list[Bar]] = {}
    for bar in shown.bars:
        groups.setdefault((bar.lane, int(bar.start / pixel) if bar.length < pixel else -1 - bar.number), []).append(bar)
    return [_join(bars) for bars in groups.values()]


def _join(bars: Sequence[Bar]) -> Bar:
    worked: dict[Ending, float] = {}
    for bar in bars:
        worked[bar.ending] = worked.get(bar.ending, 0.0) + bar.length
    most = max(worked, key=lambda ending: worked[ending])
    return replace(bars[0], ending=most, length=sum(worked.values()), joins=len(bars))


@dataclass(frozen=True)
class _Span:
    number: int
    attempt: int
    worker: str | None
    ending: Ending
    start: datetime
    end: datetime


def timeline(facts: Facts) -> Timeline:
    """The bars of a study; empty when no time is known."""
    spans = sorted(_spans(facts), key=lambda span: (span.start, span.number))
    if not spans:
        return Timeline()
    lanes, names, by_worker = _lanes(spans)
    origin = spans[0].start
    cuts, length = _cuts([((s.start - origin).total_seconds(), (s.end - origin).total_seconds()) for s in spans])

    def on_axis(at: datetime) -> float:
        seconds = (at - origin).total_seconds()
        return seconds - sum(pause for where, pause in cuts if where < seconds)

    bars = tuple(
        Bar(s.number, s.attempt, lane, s.ending, on_axis(s.start), (s.end - s.start).total_seconds(), s.start)
        for s, lane in zip(spans, lanes, strict=True)
    )
    gone = 0.0
    marks = []
    for where, pause in cuts:
        marks.append(Cut(where - gone, pause))
        gone += pause
    return Timeline(bars, names, tuple(marks), length, by_worker)


def _spans(facts: Facts) -> list[_Span]:
    rows: list[tuple[int, int, str | None, str | None, str | None, str | None]]
    rows = [(a.number, a.attempt, a.worker, a.started_at, a.ended_at, a.ended_how) for a in facts.snapshot.attempts]
    if not rows:
        rows = [(t.number, t.attempts, t.worker, t.started_at, t.finished_at, None) for t in facts.trials]
    last: dict[int, int] = {}
    for row in rows:
        last[row[0]] = max(row[1], last.get(row[0], 0))
    now = max((at for row in rows for at in (moment(row[3]), moment(row[4])) if at), default=None)
    spans = []
    for number, attempt, worker, started_at, ended_at, how in rows:
        start, end = moment(started_at), moment(ended_at) or now
        if start is not None and end is not None and end >= start:
            ending = _ending(facts, number, how, bool(ended_at), attempt == last[number])
            spans.append(_Span(number, attempt, worker, ending, start, end))
    return spans


def _ending(facts: Facts, number: int, how: str | None, is_over: bool, is_last: bool) -> Ending:
    trial = facts.by_number.get(number)
    if is_last and trial is not None and (trial.state.is_finished or trial.state is TrialState.RUNNING):
        return facts.endings[number]
    return Ending.INTERRUPTED if is_over or how else Ending.RUNNING


def _lanes(spans: Sequence[_Span]) -> tuple[list[int], tuple[str, ...], bool]:
    workers = {span.worker for span in spans}
    if None not in workers and len(workers) <= _MANY_LANES:
        names = tuple(sorted((w for w in workers if w is not None), key=_natural))
        return [names.index(span.worker or "") for span in spans], names, True
    free_from: list[datetime] = []
    lanes = []
    for span in spans:
        lane = next((i for i, free in enumerate(free_from) if free <= span.start), len(free_from))
        free_from[lane : lane + 1] = [span.end]
        lanes.append(lane)
    return lanes, tuple(f"lane {i + 1}" for i in range(len(free_from))), False


def _natural(name: str) -> list[tuple[int, int, str]]:
    """worker-2 before worker-10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _cuts(spans: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], float]:
    """Pauses longer than a fifth of all busy time, shortened to a fiftieth of it: (where, seconds), and the length."""
    gaps, busy, reached = [], 0.0, spans[0][0]
    for start, end in spans:  # sorted by start
        if start > reached:
            gaps.append((reached, start - reached))
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    kept = busy / 50
    cuts = [(where, pause - kept) for where, pause in gaps if busy > 0 and pause > busy / 5]
    return cuts, reached - spans[0][0] - sum(pause for _, pause in cuts)
