"""A study in our own tables, as it travels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from hpo.trial import Goal, TrialRecord
from search_spaces import SearchSpace
from storage import codec, optuna_rows, reading, tables
from storage.exchange import optuna_study, optuna_writing
from storage.exchange.portable import PortableStudy, PortableTrial
from storage.records import SEARCH


def read(conn: Connection, study_id: int, name: str, goals: tuple[Goal, ...], space: SearchSpace) -> PortableStudy:
    """The search's finished trials of a study, with their curves."""
    trials = reading.trials(conn, study_id, SEARCH, points=True)
    finished = [trial for trial in trials if trial.record.state.is_finished]
    attributes, violations = _attributes(conn, study_id), _violations(conn, study_id)
    left_out = Counter({"trials that had not finished": len(trials) - len(finished)})
    a = optuna_rows.study_user_attributes
    of_study = conn.execute(select(a.c.key, a.c.value_json).where(a.c.study_id == study_id))
    return PortableStudy(
        name,
        goals,
        space,
        tuple(_portable(t.record, attributes.get(t.trial_id, {}), violations.get(t.trial_id, {})) for t in finished),
        {key: json.loads(text) for key, text in of_study},
        left_out=+left_out,
    )


def add(conn: Connection, study_id: int, goals: Sequence[Goal], space: SearchSpace, imported: PortableStudy) -> None:
    """Give a study that has no trials those of an imported one, in Optuna's tables and in ours."""
    keys = optuna_writing.add_trials(conn, study_id, goals, space, imported.trials)
    optuna_writing.add_study_attributes(conn, study_id, imported.attributes)
    _add_trials(conn, study_id, imported.trials, keys)


def _add_trials(conn: Connection, study_id: int, trials: Sequence[PortableTrial], keys: Mapping[int, int]) -> None:
    """Finished trials as numbers 0, 1, ... of the search; ``keys``: Optuna's ``trial_id`` by number."""
    t, now = tables.trials, codec.now()
    rows = [_row(study_id, number, keys[number], trial, now) for number, trial in enumerate(trials)]
    if not rows:
        return
    conn.execute(insert(t), rows)
    query = select(t.c.number, t.c.id).where(t.c.study_id == study_id, t.c.series == SEARCH)
    ids = {row.number: row.id for row in conn.execute(query)}
    attempts = [
        {"trial": ids[row["number"]], "attempt": 1, "started_at": row["started_at"], "ended_at": row["finished_at"],
         "ended_how": row["stop_kind"]}
        for row in rows
    ]  # fmt: skip
    conn.execute(insert(tables.attempts), attempts)
    points = [
        {"trial": ids[number], "step": step, "attempt": 1, "at": rows[number]["finished_at"],
         "metrics": codec.dump(metrics)}
        for number, trial in enumerate(trials)
        for step, metrics in trial.curve.items()
    ]  # fmt: skip
    if points:
        conn.execute(insert(tables.points), points)


def _row(study_id: int, number: int, key: int, trial: PortableTrial, now: str) -> dict[str, Any]:
    """A row of ``hpo_trials``. A trial whose times nobody kept began and ended when it was imported."""
    reason = trial.ending
    return {
        "study_id": study_id, "series": SEARCH, "number": number, "trial_id": key, "epochs": trial.last_step,
        "state": trial.state, "params": codec.dump(trial.params), "seed": 0, "enqueued": False, "attempts": 1,
        "sampler_state": "{}", "stop_kind": reason.kind, "reason": reason.message, "best_step": trial.best_step,
        "last_step": trial.last_step,
        "goal_values": None if trial.values is None else codec.dump(list(trial.values)),
        "metrics": codec.dump(trial.metrics),
        "started_at": trial.started_at or trial.finished_at or now, "finished_at": trial.finished_at or now,
        "violations": codec.dump(list(trial.violations.values())) if trial.violations else None,
    }  # fmt: skip


def _portable(record: TrialRecord, attributes: Mapping[str, Any], violations: Mapping[str, float]) -> PortableTrial:
    ours = attributes.keys() >= optuna_study.OURS
    if not violations:
        violations = {str(i): value for i, value in enumerate(record.violations)}
    return PortableTrial(
        state=record.state,
        params=record.params,
        values=record.values,
        metrics=record.metrics,
        curve={point.step: point.metrics for point in record.points},
        reason=record.reason,
        best_step=record.best_step,
        attributes={name: v for name, v in attributes.items() if not (ours and name in optuna_study.OURS)},
        violations=violations,
        started_at=record.started_at,
        finished_at=record.finished_at,
    )


def _attributes(conn: Connection, study_id: int) -> dict[int | None, dict[str, Any]]:
    t, a = optuna_rows.trials, optuna_rows.trial_user_attributes
    query = select(a.c.trial_id, a.c.key, a.c.value_json).join(t, t.c.trial_id == a.c.trial_id)
    found: dict[int | None, dict[str, Any]] = {}
    for trial_id, key, text in conn.execute(query.where(t.c.study_id == study_id)):
        found.setdefault(trial_id, {})[key] = json.loads(text)
    return found


def _violations(conn: Connection, study_id: int) -> dict[int | None, dict[str, float]]:
    """By trial, how far it was from each constraint, with the constraints' names."""
    t, a = optuna_rows.trials, optuna_rows.trial_system_attributes
    query = select(a.c.trial_id, a.c.key, a.c.value_json).join(t, t.c.trial_id == a.c.trial_id)
    found: dict[int | None, dict[str, Any]] = {}
    for trial_id, key, text in conn.execute(query.where(t.c.study_id == study_id, a.c.key.like("constraints%"))):
        found.setdefault(trial_id, {})[key] = json.loads(text)
    return {trial_id: optuna_study.violations_of(values) for trial_id, values in found.items()}
