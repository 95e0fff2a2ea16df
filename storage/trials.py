"""The trials of one study and series: every change is one transaction, made by the driver alone.

A *series* is ``search`` (which Optuna's tables mirror), ``confirm``, ``retrain``, ``validate`` or ``rerun``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from hpo.trial import Event, Goal, Metrics, Params, Point, StopKind, StopReason, TrialRecord, TrialState
from search_spaces import SearchSpace
from storage import codec, optuna_rows, reading, tables
from storage.database import Database
from storage.records import SEARCH


class TrialStore:
    """Reads and writes the trials of one study and series.

    ``curve`` is the goal whose curve Optuna gets as intermediate values: the goal of a
    single-goal study, None with several goals (Optuna's TPE cannot read those back).
    """

    def __init__(
        self,
        database: Database,
        study_id: int,
        series: str,
        space: SearchSpace,
        *,
        curve: Goal | None = None,
        launch: int | None = None,
    ) -> None:
        self._db = database
        self._study_id = study_id
        self._series = series
        self._space = space
        self._curve = curve
        self._launch = launch
        self._ids: dict[int, tuple[int, int | None]] = {}  # number -> (hpo_trials.id, Optuna's trial_id)

    def records(self, *, points: bool = False) -> list[TrialRecord]:
        """All trials in number order; with ``points``, each with its curve."""
        found = self._db.consult(lambda conn: reading.trials(conn, self._study_id, self._series, points=points))
        self._ids.update({trial.record.number: (trial.key, trial.trial_id) for trial in found})
        return [trial.record for trial in found]

    def ended(self, kind: StopKind) -> dict[int, int]:
        """By trial, how many of its attempts ended so; trials without one are left out."""
        t, a = tables.trials, tables.attempts
        query = self._mine(select(t.c.number, func.count()).join(a, a.c.trial == t.c.id).where(a.c.ended_how == kind))
        query = query.group_by(t.c.number)
        return self._db.consult(lambda conn: {row[0]: row[1] for row in conn.execute(query)})

    def worked_s(self, number: int) -> float:
        """Seconds of work on a trial in its attempts that have ended; one that died counts up to its last report."""
        return self._db.consult(
            lambda conn: reading.worked_s(conn, self._study_id, self._series, number, is_over=False) or 0.0
        )

    def start(
        self,
        number: int,
        params: Params,
        *,
        seed: int,
        epochs: int,
        enqueued: bool = False,
        subject: int | None = None,
        fold: tuple[int, int] | None = None,
        sampler_state: Mapping[str, Any] | None = None,
        search_state: Mapping[str, Any] | None = None,
    ) -> TrialRecord:
        """A new RUNNING trial, with what the sampler wants kept about it and about the study."""
        started_at = codec.now()
        row = {
            "study_id": self._study_id, "series": self._series, "number": number, "subject": subject,
            "epochs": epochs, "state": TrialState.RUNNING, "params": codec.dump(params), "seed": seed,
            "enqueued": enqueued, "attempts": 1, "sampler_state": codec.dump(dict(sampler_state or {})),
            "last_step": 0, "metrics": "{}", "started_at": started_at,
            "fold": fold and fold[0], "folds": fold and fold[1],
        }  # fmt: skip

        def write(conn: Connection) -> tuple[int, int | None]:
            trial_id = None
            if self._series == SEARCH:
                trial_id = optuna_rows.add_trial(conn, self._study_id, number, params, self._space)
            key = optuna_rows.inserted_id(conn.execute(insert(tables.trials).values(**row, trial_id=trial_id)))
            self._add_attempt(conn, key, 1)
            if search_state is not None:
                s = tables.studies
                state = codec.dump(dict(search_state))
                conn.execute(update(s).where(s.c.study_id == self._study_id).values(search_state=state))
            return key, trial_id

        self._ids[number] = self._db.transact(write)
        return TrialRecord(
            number, TrialState.RUNNING, params, seed, enqueued=enqueued, subject=subject, epochs=epochs,
            sampler_state=dict(sampler_state or {}), started_at=started_at, fold=fold,
        )  # fmt: skip

    def restart(self, number: int, attempt: int) -> None:
        """A QUEUED trial runs again, for the ``attempt``-th time."""
        key, trial_id = self._ids[number]

        def write(conn: Connection) -> None:
            # Why the last attempt ended stays with that attempt (``hpo_attempts.ended_how``).
            self._update(conn, key, state=TrialState.RUNNING, attempts=attempt, stop_kind=None, reason=None)
            self._add_attempt(conn, key, attempt)
            if trial_id is not None:
                optuna_rows.set_state(conn, trial_id, TrialState.RUNNING)

        self._db.transact(write)

    def add_point(
        self, number: int, point: Point, *, attempt: int, first: bool = False, worker: str | None = None
    ) -> None:
        """Keep one step; durable when this returns.

        ``first`` when it is the attempt's first: what earlier attempts said of this step
        and later ones is forgotten, as it is by a point that rewinds. ``worker`` when who
        works is news.
        """
        key, trial_id = self._ids[number]
        p, at = tables.points, codec.now()

        def write(conn: Connection) -> None:
            if (first and attempt > 1) or point.rewinds:
                conn.execute(delete(p).where(p.c.trial == key, p.c.step >= point.step))
                if trial_id is not None:
                    optuna_rows.forget_curve(conn, trial_id, point.step)
            conn.execute(
                insert(p).values(
                    trial=key,
                    step=point.step,
                    attempt=attempt,
                    at=at,
                    metrics=codec.dump(point.metrics),
                    checkpoint=point.checkpoint,
                )
            )
            self._update(conn, key, last_step=point.step)
            self._set_worker(conn, key, attempt, worker)
            self._add_events(conn, number, point.events)
            if trial_id is not None and self._curve is not None and self._curve.metric in point.metrics:
                value = point.metrics[self._curve.metric]
                optuna_rows.add_curve_value(conn, trial_id, point.step, value)

        self._db.transact(write)

    def finish(
        self,
        number: int,
        reason: StopReason,
        *,
        values: Sequence[float] | None,
        metrics: Metrics,
        best_step: int | None,
        attempt: int,
        events: Sequence[Event] = (),
        worker: str | None = None,
        violations: Sequence[float] = (),
    ) -> None:
        """End an attempt: the trial is complete, pruned, failed, or (interrupted) queued again."""
        key, trial_id = self._ids[number]
        state, at = reason.state, codec.now()
        a = tables.attempts

        def write(conn: Connection) -> None:
            self._update(
                conn, key, state=state, stop_kind=reason.kind, reason=reason.message, best_step=best_step,
                goal_values=None if values is None else codec.dump(list(values)), metrics=codec.dump(metrics),
                finished_at=at if state.is_finished else None,
                violations=codec.dump(list(violations)) if violations else None,
            )  # fmt: skip
            conn.execute(
                update(a).where(a.c.trial == key, a.c.attempt == attempt).values(ended_at=at, ended_how=reason.kind)
            )
            self._set_worker(conn, key, attempt, worker)
            self._add_events(conn, number, events)
            if trial_id is not None:
                optuna_rows.set_state(conn, trial_id, state)
                if values is not None:
                    optuna_rows.add_values(conn, trial_id, values)
                if violations:
                    optuna_rows.add_violations(conn, trial_id, violations)
                if state.is_finished:
                    attributes = optuna_rows.ending_attributes(reason, best_step, metrics)
                    optuna_rows.add_attributes(conn, trial_id, attributes)

        self._db.transact(write)

    def _mine(self, query: Any) -> Any:
        t = tables.trials
        return query.where(t.c.study_id == self._study_id, t.c.series == self._series)

    def _update(self, conn: Connection, key: int, **values: Any) -> None:
        conn.execute(update(tables.trials).where(tables.trials.c.id == key).values(**values))

    def _set_worker(self, conn: Connection, key: int, attempt: int, worker: str | None) -> None:
        if worker is not None:
            a = tables.attempts
            self._update(conn, key, worker=worker)
            conn.execute(update(a).where(a.c.trial == key, a.c.attempt == attempt).values(worker=worker))

    def _add_attempt(self, conn: Connection, key: int, attempt: int) -> None:
        row = {"trial": key, "attempt": attempt, "launch": self._launch, "started_at": codec.now()}
        conn.execute(insert(tables.attempts).values(**row))

    def _add_events(self, conn: Connection, number: int | None, events: Sequence[Event]) -> None:
        for event in events:
            conn.execute(
                insert(tables.events).values(
                    study_id=self._study_id,
                    series=self._series,
                    number=number,
                    at=codec.now(),
                    kind=event.kind,
                    message=event.message,
                    details=codec.dump(event.details),
                )
            )
