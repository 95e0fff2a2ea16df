"""Reading what is stored: trials with or without their curves, and everything about a study.

Nothing here writes. Every query of a function runs in the transaction it is given, so that
what it returns belongs to one moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, select

from hpo.trial import Direction, Goal, Metrics, Params, Point, StopKind, StopReason, TrialRecord, TrialState
from storage import artifacts, codec, tables
from storage.annotations import annotations_of, tags_of_studies
from storage.records import (
    CONFIRM,
    RERUN,
    RETRAIN,
    SEARCH,
    VALIDATE,
    AttemptRecord,
    EventRecord,
    LaunchRecord,
    ModelRecord,
    Snapshot,
    StudyRecord,
    StudySummary,
)

OTHERS = (CONFIRM, RETRAIN, VALIDATE, RERUN)


class StoredTrial(NamedTuple):
    """A trial with the keys of its rows: ``hpo_trials.id`` and Optuna's ``trial_id`` (the search's alone)."""

    key: int
    trial_id: int | None
    record: TrialRecord


def trials(conn: Connection, study_id: int, series: str, *, points: bool = False) -> list[StoredTrial]:
    """The trials of a study and series in number order; with ``points``, each with its curve."""
    t = tables.trials
    of_series = (t.c.study_id == study_id, t.c.series == series)
    curves: Mapping[int, Sequence[Point]] = {}
    if points:
        curves = _curves(conn, select(t.c.id).where(*of_series))
    rows = conn.execute(select(t).where(*of_series).order_by(t.c.number)).all()
    params = codec.load_all(row.params for row in rows)
    metrics = codec.load_all(row.metrics for row in rows)
    states = codec.load_all(row.sampler_state for row in rows)
    return [
        StoredTrial(row.id, row.trial_id, _record(row, *loaded, tuple(curves.get(row.id, ()))))
        for row, loaded in zip(rows, zip(params, metrics, states, strict=True), strict=True)
    ]


def summaries(conn: Connection) -> list[StudySummary]:
    """Every study, the oldest first, with its counts of the search's trials by state."""
    t, s = tables.trials, tables.studies
    counted = select(t.c.study_id, t.c.state, func.count()).where(t.c.series == SEARCH)
    counts: dict[int, dict[TrialState, int]] = {}
    for study_id, state, count in conn.execute(counted.group_by(t.c.study_id, t.c.state)):
        counts.setdefault(study_id, {})[TrialState(state)] = count
    studies = select(s.c.study_id, s.c.name, s.c.objective, s.c.goals, s.c.created_at).order_by(s.c.created_at)
    tags = tags_of_studies(conn)
    return [
        StudySummary(
            row.name, row.objective, goals(row.goals), row.created_at, counts.get(row.study_id, {}),
            tags.get(row.study_id, ()),
        )
        for row in conn.execute(studies)
    ]  # fmt: skip


def snapshot(conn: Connection, study_id: int, study: StudyRecord, *, curves: bool = True) -> Snapshot:
    """Everything known of a study at this moment; without ``curves``, no trial has its points."""

    def records(series: str) -> tuple[TrialRecord, ...]:
        return tuple(found.record for found in trials(conn, study_id, series, points=curves))

    return Snapshot(
        study=study,
        trials=records(SEARCH),
        others={series: records(series) for series in OTHERS},
        launches=tuple(launch_record(row) for row in _rows(conn, tables.launches, study_id)),
        attempts=_attempts(conn, study_id, SEARCH),
        other_attempts={series: _attempts(conn, study_id, series) for series in OTHERS},
        events=tuple(event_record(row) for row in _rows(conn, tables.events, study_id)),
        models=tuple(_model(row) for row in _rows(conn, tables.models, study_id)),
        artifacts=artifacts.of_study(conn, study_id),
        annotations=annotations_of(conn, study_id),
    )


def worked_s(conn: Connection, study_id: int, series: str, number: int, *, is_over: bool = True) -> float | None:
    """Seconds of work on a trial, all its attempts, pauses between them left out; None before it ended.

    An attempt whose process died counts up to its last report. With ``is_over`` False what
    has been done so far, of a trial that may go on.
    """
    t, a, p = tables.trials, tables.attempts, tables.points
    is_meant = (t.c.study_id == study_id, t.c.series == series, t.c.number == number)
    # Of this trial alone: a database has more points than anything else.
    reported = select(p.c.attempt, func.max(p.c.at).label("at")).join(t, t.c.id == p.c.trial).where(*is_meant)
    last = reported.group_by(p.c.attempt).subquery()
    query = (
        select(a.c.started_at, a.c.ended_at, a.c.ended_how, last.c.at)
        .join(t, t.c.id == a.c.trial)
        .outerjoin(last, last.c.attempt == a.c.attempt)
        .where(*is_meant)
    )
    if is_over:
        query = query.where(t.c.finished_at.is_not(None))
    attempts = conn.execute(query).all()
    ends = [(row.at if row.ended_how == StopKind.LOST else row.ended_at) or row.started_at for row in attempts]
    spans = [codec.seconds_between(row.started_at, end) for row, end in zip(attempts, ends, strict=True)]
    return sum(spans) if spans else None


def events(conn: Connection, study_id: int, kind: str) -> list[EventRecord]:
    """A study's events of one kind, the oldest first."""
    e = tables.events
    query = select(e).where(e.c.study_id == study_id, e.c.kind == kind).order_by(e.c.id)
    return [event_record(row) for row in conn.execute(query)]


def goals(text: str) -> tuple[Goal, ...]:
    """The goals of a study, from its column."""
    return tuple(Goal(metric, Direction(direction)) for metric, direction in codec.load(text))


def _curves(conn: Connection, keys: Select[Any]) -> dict[int, list[Point]]:
    """By trial, the points of the trials that ``keys`` selects."""
    p = tables.points
    query = select(p.c.trial, p.c.step, p.c.metrics, p.c.checkpoint).where(p.c.trial.in_(keys))
    rows = conn.execute(query.order_by(p.c.trial, p.c.step)).all()
    curves: dict[int, list[Point]] = {}
    for (trial, step, _, checkpoint), metrics in zip(rows, codec.load_all(row.metrics for row in rows), strict=True):
        curves.setdefault(trial, []).append(Point(step, metrics, checkpoint))
    return curves


def _record(
    row: Row[Any], params: Params, metrics: Metrics, sampler_state: dict[str, Any], points: tuple[Point, ...]
) -> TrialRecord:
    reason = StopReason(StopKind(row.stop_kind), row.reason) if row.stop_kind else None
    return TrialRecord(
        number=row.number,
        state=TrialState(row.state),
        params=params,
        seed=row.seed,
        values=tuple(codec.load(row.goal_values)) if row.goal_values else None,
        metrics=metrics,
        best_step=row.best_step,
        last_step=row.last_step,
        reason=reason,
        enqueued=row.enqueued,
        attempts=row.attempts,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        sampler_state=sampler_state,
        points=points,
        subject=row.subject,
        epochs=row.epochs,
        fold=None if row.folds is None else (row.fold, row.folds),
        violations=tuple(codec.load(row.violations)) if row.violations else (),
    )


def _rows(conn: Connection, table: Any, study_id: int) -> Sequence[Row[Any]]:
    return conn.execute(select(table).where(table.c.study_id == study_id).order_by(table.c.id)).all()


def _attempts(conn: Connection, study_id: int, series: str) -> tuple[AttemptRecord, ...]:
    t, a, p = tables.trials, tables.attempts, tables.points
    of_series = (t.c.study_id == study_id, t.c.series == series)
    query = select(a, t.c.number).join(t, t.c.id == a.c.trial).where(*of_series).order_by(a.c.started_at)
    # Of most attempts the end is known, and looking through every point would take longer than all else.
    is_open = (a.c.ended_at.is_(None)) | (a.c.ended_how == StopKind.LOST)
    reported = (
        select(p.c.trial, p.c.attempt, func.max(p.c.at))
        .join(a, (a.c.trial == p.c.trial) & (a.c.attempt == p.c.attempt))
        .join(t, t.c.id == p.c.trial)
        .where(*of_series, is_open)
        .group_by(p.c.trial, p.c.attempt)
    )
    last = {(trial, attempt): at for trial, attempt, at in conn.execute(reported)}
    return tuple(
        AttemptRecord(
            row.number, row.attempt, row.worker, row.started_at, row.ended_at, row.ended_how,
            last.get((row.trial, row.attempt)) if row.ended_how in (None, StopKind.LOST) else row.ended_at,
            row.launch,
        )
        for row in conn.execute(query)
    )  # fmt: skip


def launch_record(row: Row[Any]) -> LaunchRecord:
    return LaunchRecord(
        row.started_at, row.ended_at, row.ended_how, row.host, row.pid, row.runner, row.workers,
        codec.load(row.settings), codec.load(row.environment), row.id,
    )  # fmt: skip


def event_record(row: Row[Any]) -> EventRecord:
    return EventRecord(row.at, row.series, row.number, row.kind, row.message, codec.load(row.details))


def _model(row: Row[Any]) -> ModelRecord:
    return ModelRecord(row.created_at, row.path, row.trial, codec.load(row.manifest))
