"""What has changed in a study since somebody last looked: for a live view, with queries that stay small."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, or_, select

from hpo.trial import StopKind, StopReason, TrialRecord, TrialState
from storage import codec, leases, reading, tables
from storage.database import Database, now
from storage.records import EventRecord, LaunchRecord


@dataclass(frozen=True)
class Seen:
    """A trial that is new or has not ended, or that has ended since the last look.

    Its record lacks what a live view does not need: parameters, curve, sampler's state. While it runs,
    ``metrics`` are those of its newest step and ``started_at`` is when its present attempt began.
    """

    series: str
    record: TrialRecord


@dataclass(frozen=True)
class Look:
    """A study at one moment. ``events`` are those of the wanted kinds since the last look."""

    at: str  # by the database's clock
    holder: leases.Holder | None
    launch: LaunchRecord | None  # the newest
    trials: tuple[Seen, ...]
    events: tuple[EventRecord, ...]

    @property
    def is_run(self) -> bool:
        """Whether a live process runs the study."""
        return self.holder is not None and self.holder.is_alive


class Watcher:
    """Looks at a study again and again; each look reads what the one before cannot know.

    The first one reads a row of every trial, later ones those that had not ended and new ones.
    """

    def __init__(self, database: Database, study_id: int, kinds: Collection[str]) -> None:
        self._db, self._study_id, self._kinds = database, study_id, list(kinds)
        self._newest_trial = self._newest_event = -1
        self._open: set[int] = set()  # hpo_trials.id of those that have not ended

    def look(self) -> Look:
        """What is new; all of it belongs to one moment."""
        launches, e = tables.launches, tables.events
        with self._db.read() as conn:
            trials = conn.execute(self._trials()).all()
            is_new = (e.c.study_id == self._study_id, e.c.id > self._newest_event, e.c.kind.in_(self._kinds))
            events = conn.execute(select(e).where(*is_new).order_by(e.c.id)).all()
            newest = select(launches).where(launches.c.study_id == self._study_id).order_by(launches.c.id.desc())
            launch = conn.execute(newest.limit(1)).first()
            holder, at = leases.read_holder(conn, self._study_id), now(conn)
        for row in trials:
            (self._open.discard if TrialState(row.state).is_finished else self._open.add)(row.id)
        self._newest_trial = max((row.id for row in trials), default=self._newest_trial)
        self._newest_trial = max(self._newest_trial, *self._open, -1)
        self._newest_event = max((row.id for row in events), default=self._newest_event)
        return Look(
            at,
            holder,
            None if launch is None else reading.launch_record(launch),
            tuple(Seen(row.series, _record(row)) for row in trials),
            tuple(reading.event_record(row) for row in events),
        )

    def _trials(self) -> Any:
        t, a, p = tables.trials, tables.attempts, tables.points
        columns = (
            t.c.id, t.c.series, t.c.number, t.c.state, t.c.seed, t.c.goal_values, t.c.violations, t.c.stop_kind,
            t.c.reason, t.c.best_step, t.c.last_step, t.c.epochs, t.c.attempts, t.c.worker, t.c.finished_at,
        )  # fmt: skip
        runs = t.c.state == TrialState.RUNNING
        query = (
            select(*columns, func.coalesce(a.c.started_at, t.c.started_at).label("started_at"), p.c.metrics)
            .outerjoin(a, runs & (a.c.trial == t.c.id) & (a.c.attempt == t.c.attempts))
            .outerjoin(p, runs & (p.c.trial == t.c.id) & (p.c.step == t.c.last_step))
            .where(t.c.study_id == self._study_id)
            .order_by(t.c.id)
        )
        if self._newest_trial < 0:
            return query
        return query.where(or_(t.c.id > self._newest_trial, t.c.id.in_(sorted(self._open))))


def _record(row: Row[Any]) -> TrialRecord:
    return TrialRecord(
        number=row.number,
        state=TrialState(row.state),
        params={},
        seed=row.seed,
        values=tuple(codec.load(row.goal_values)) if row.goal_values else None,
        metrics=codec.load(row.metrics) if row.metrics else {},
        best_step=row.best_step,
        last_step=row.last_step,
        reason=StopReason(StopKind(row.stop_kind), row.reason) if row.stop_kind else None,
        attempts=row.attempts,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        epochs=row.epochs,
        violations=tuple(codec.load(row.violations)) if row.violations else (),
    )
