"""What happened in a study, in the order of time: launches, attempts at trials, and events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from hpo.trial import TrialState
from storage import reading, tables
from storage.records import SEARCH, EventRecord


def newest(conn: Connection, study_id: int, count: int) -> list[EventRecord]:
    """The last ``count`` things that happened in a study, the oldest first.

    Beside the stored events, ``launch_began``, ``launch_ended``, ``attempt_began`` and ``attempt_ended``.
    """
    found = [*_launches(conn, study_id, count), *_attempts(conn, study_id, count)]
    e = tables.events
    query = select(e).where(e.c.study_id == study_id).order_by(e.c.id.desc()).limit(count)
    found += [reading.event_record(row) for row in conn.execute(query)]
    return sorted(found, key=lambda record: record.at)[-count:]


def state_of(conn: Connection, study_id: int, series: str, number: int) -> TrialState | None:
    """Where a trial stands; None when there is none of that number."""
    t = tables.trials
    query = select(t.c.state).where(t.c.study_id == study_id, t.c.series == series, t.c.number == number)
    found = conn.execute(query).scalar()
    return None if found is None else TrialState(found)


def _launches(conn: Connection, study_id: int, count: int) -> Iterator[EventRecord]:
    table = tables.launches
    query = select(table).where(table.c.study_id == study_id).order_by(table.c.id.desc()).limit(count)
    for row in conn.execute(query):
        by = f"process {row.pid} on {row.host}, {row.runner}, {row.workers} at once"
        yield EventRecord(row.started_at, SEARCH, None, "launch_began", by)
        if row.ended_at is not None:
            yield EventRecord(row.ended_at, SEARCH, None, "launch_ended", row.ended_how)


def _attempts(conn: Connection, study_id: int, count: int) -> Iterator[EventRecord]:
    t, a = tables.trials, tables.attempts
    columns: Any = (a, t.c.series, t.c.number, t.c.reason, t.c.attempts)
    query = select(*columns).join(t, t.c.id == a.c.trial).where(t.c.study_id == study_id).limit(count)
    for row in conn.execute(query.order_by(a.c.started_at.desc())):
        on = "" if row.worker is None else f" on {row.worker}"
        yield EventRecord(row.started_at, row.series, row.number, "attempt_began", f"attempt {row.attempt}{on}")
    for row in conn.execute(query.where(a.c.ended_at.is_not(None)).order_by(a.c.ended_at.desc())):
        why = f": {row.reason}" if row.attempt == row.attempts and row.reason else ""
        message = f"attempt {row.attempt} {row.ended_how}{why}"
        yield EventRecord(row.ended_at, row.series, row.number, "attempt_ended", message)
