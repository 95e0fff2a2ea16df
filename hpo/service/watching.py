"""The use case behind ``hpo watch``: the live view of a study that another process runs, from the database alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hpo.reports.live import LiveTable
from hpo.reports.warnings import HEALTH, TROUBLES, warning
from hpo.trial import Goal, Point, TrialRecord, TrialState
from storage import codec
from storage.database import Database
from storage.records import SEARCH, LaunchRecord
from storage.studies import StoredStudy, Studies
from storage.watching import Look, Seen, Watcher

EVERY_S = 1.0


@dataclass(frozen=True)
class Watched:
    """A study at one moment of a watch.

    ``how`` its newest launch ended (``done``, ``interrupted``, ``stopped``, ``failed: ...``); None while it
    runs, when its process died without a word, or when there was none.
    """

    study: str
    was_running: bool
    where: str | None  # process and host of the newest launch
    how: str | None
    at: str | None  # when that launch began, of one that has ended when it did
    counts: Mapping[TrialState, int]  # of the search's trials
    total: int | None  # trials that the budget allows

    @property
    def is_well(self) -> bool:
        """Whether its newest launch came to an end of its own, or to one that somebody asked for."""
        return self.where is None or self.how in ("done", "interrupted", "stopped")


@dataclass(frozen=True)
class _Begun:
    """What the table wants to know of a trial."""

    series: str
    number: int
    epochs: int
    reported: int
    monitor: Goal


def watch(
    storage: str,
    name: str,
    make_table: Callable[..., LiveTable],
    *,
    began: Callable[[Watched], None] = lambda watched: None,
    every_s: float = EVERY_S,
) -> Watched:
    """Show how a study goes until nobody runs it any more; nothing is written.

    Args:
        make_table: ``LiveTable``, or what takes its arguments.
        began: told first who runs the study, if anybody does.
        every_s: between two looks at the database.

    Raises:
        StorageError, UnknownName: there is no such database or study, or it went away.
    """
    with Database(storage) as database:
        study = Studies(database).get(name)
        watcher = Watcher(database, study.id, [HEALTH, *TROUBLES])
        states: dict[int, TrialState] = {}
        look = _taken(watcher, states)
        if not look.is_run:
            return _watched(name, look, states)
        began(_watched(name, look, states))
        with _table(make_table, study, look) as table:
            showing = _Showing(table, study.record.monitor)
            showing.first(look)
            while look.is_run:
                time.sleep(every_s)
                look = _taken(watcher, states)
                showing.next(look)
        return replace(_watched(name, look, states), was_running=True)


def _taken(watcher: Watcher, states: dict[int, TrialState]) -> Look:
    """The next look, with the search's trials in ``states``."""
    look = watcher.look()
    states.update((seen.record.number, seen.record.state) for seen in look.trials if seen.series == SEARCH)
    return look


def _watched(name: str, look: Look, states: Mapping[int, TrialState]) -> Watched:
    launch = look.launch
    return Watched(
        name,
        was_running=look.is_run,
        where=None if launch is None else f"process {launch.pid} on {launch.host}",
        how=None if launch is None else launch.ended_how,
        at=None if launch is None else (launch.started_at if look.is_run else launch.ended_at),
        counts=Counter(states.values()),
        total=_total(launch),
    )


def _total(launch: LaunchRecord | None) -> int | None:
    """How many trials the newest launch may have; None where only time ends it."""
    return None if launch is None else launch.settings.get("budget", {}).get("trials")


def _table(make_table: Callable[..., LiveTable], study: StoredStudy, look: Look) -> LiveTable:
    began_s = 0.0 if look.launch is None else _ago_s(look.launch.started_at, look.at)
    return make_table(study.goals, _total(look.launch), reference=study.record.reference_point, began_s=began_s)


def _ago_s(moment: str | None, at: str) -> float:
    """Two machines' clocks may differ: what lies ahead is now."""
    return max(0.0, codec.seconds_between(moment, at)) if moment else 0.0


class _Showing:
    """Tells a live table what looks at the database have found, as the study itself would tell it."""

    def __init__(self, table: LiveTable, monitor: Goal) -> None:
        self._table, self._monitor = table, monitor
        self._series = SEARCH
        self._running: dict[int, TrialRecord] = {}  # as last seen

    def first(self, look: Look) -> None:
        """What is there when the watch begins, without a line for each trial that has ended."""
        running = [seen for seen in look.trials if seen.record.state is TrialState.RUNNING]
        series = running[-1].series if running else SEARCH
        if series == SEARCH:
            self._count(look, series)
        for seen in running:
            self._begin(seen, look.at, told=max(0, seen.record.last_step - 1))
        if series != SEARCH:  # the table has turned to it with its first trial, counting from nothing
            self._count(look, series)
        self._warn(look)

    def next(self, look: Look) -> None:
        """What has changed since the last look."""
        for seen in look.trials:
            record, before = seen.record, self._running.get(seen.record.number)
            if seen.series != self._series:
                before = None
            if record.state is TrialState.QUEUED and before is None:
                continue  # it waits to go on, and did so before
            if before is None or before.attempts != record.attempts:
                self._begin(seen, look.at, told=before.last_step if before else 0)
            elif record.last_step != before.last_step and not record.state.is_finished:
                self._table.reported(record.number, Point(record.last_step, record.metrics))
            self._running[record.number] = record
            if record.state is TrialState.RUNNING:
                self._table.working(record.number, record.worker)
            else:
                self._table.finished(record, ago_s=_ago_s(record.finished_at, look.at))
                del self._running[record.number]
        self._warn(look)

    def _count(self, look: Look, series: str) -> None:
        self._table.counted([seen.record for seen in look.trials if seen.series == series])

    def _begin(self, seen: Seen, at: str, told: int) -> None:
        """A trial that is new here; ``told`` is the last step that counts as known."""
        record = seen.record
        if seen.series != self._series:
            self._series = seen.series
            self._running.clear()
        begun = _Begun(seen.series, record.number, record.epochs, told, self._monitor)
        self._table.started(begun, ago_s=_ago_s(record.started_at, at), worker=record.worker)
        self._running[record.number] = record
        if record.state is TrialState.RUNNING and record.last_step > told:
            self._table.reported(record.number, Point(record.last_step, record.metrics))

    def _warn(self, look: Look) -> None:
        for event in look.events:
            name = warning(event.kind, event.details)
            if name is not None and event.number is not None and event.series == self._series:
                running = self._running.get(event.number)
                self._table.warned(event.number, name, running.last_step if running else 0)
