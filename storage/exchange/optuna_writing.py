"""A study put into Optuna's tables whole, with a few statements however many trials it has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from hpo.errors import UserError
from hpo.trial import Goal, TrialState
from search_spaces import SearchSpace
from storage import optuna_rows
from storage.exchange.optuna_study import CONSTRAINT, OURS, POINTS, names
from storage.exchange.portable import PortableStudy, PortableTrial


def write(conn: Connection, study: PortableStudy) -> int:
    """Put a study into Optuna's tables; its ``study_id``.

    Raises:
        UserError: the name is taken.
    """
    if study.name in names(conn):
        raise UserError(f"There is a study {study.name!r} already; give another name.")
    study_id = optuna_rows.create_study(conn, study.name, study.goals)
    add_trials(conn, study_id, study.goals, study.space, study.trials, with_points=True)
    add_study_attributes(conn, study_id, study.attributes)
    return study_id


def add_study_attributes(conn: Connection, study_id: int, attributes: Mapping[str, Any]) -> None:
    """The user's attributes of the study itself."""
    rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(v)} for key, v in attributes.items()]
    _insert(conn, optuna_rows.study_user_attributes, rows)


def add_trials(
    conn: Connection,
    study_id: int,
    goals: Sequence[Goal],
    space: SearchSpace,
    trials: Sequence[PortableTrial],
    *,
    with_points: bool = False,
) -> dict[int, int]:
    """Finished trials as numbers 0, 1, ... of a study that has none; ``trial_id`` by number.

    ``with_points`` for a database that has no other place for curves of several metrics.
    """
    t = optuna_rows.trials
    _insert(
        conn,
        t,
        [
            {
                "study_id": study_id,
                "number": number,
                "state": str(trial.state).upper(),
                "datetime_start": _naive(trial.started_at),
                "datetime_complete": _naive(trial.finished_at),
            }
            for number, trial in enumerate(trials)
        ],
    )
    found = conn.execute(select(t.c.number, t.c.trial_id).where(t.c.study_id == study_id))
    ids: dict[int, int] = {row.number: row.trial_id for row in found}
    keyed = [(ids[number], trial) for number, trial in enumerate(trials)]
    texts = {name: optuna_rows.distribution_json(parameter) for name, parameter in space.items()}
    _insert(
        conn,
        optuna_rows.trial_params,
        [
            {
                "trial_id": key,
                "param_name": name,
                "param_value": optuna_rows.internal(space[name], value),
                "distribution_json": texts[name],
            }
            for key, trial in keyed
            for name, value in trial.params.items()
        ],
    )
    _insert(conn, optuna_rows.trial_values, [row for key, trial in keyed for row in _values(key, goals, trial)])
    if len(goals) == 1:
        rows = [row for key, trial in keyed for row in _steps(key, goals[0], trial)]
        _insert(conn, optuna_rows.trial_intermediate_values, rows)
    for table, of in ((optuna_rows.trial_user_attributes, _user), (optuna_rows.trial_system_attributes, _system)):
        _insert(
            conn,
            table,
            [
                {"trial_id": key, "key": name, "value_json": json.dumps(value)}
                for key, trial in keyed
                for name, value in of(trial, goals, with_points).items()
            ],
        )
    return ids


def _values(key: int, goals: Sequence[Goal], trial: PortableTrial) -> Iterator[dict[str, Any]]:
    values = trial.values or ()
    if trial.state is TrialState.PRUNED and len(goals) == 1 and trial.curve:
        last = trial.curve[trial.last_step].get(goals[0].metric, math.nan)
        values = () if math.isnan(last) else (last,)  # as Optuna does when it is told of a pruned trial
    for i, value in enumerate(values):
        kind, number = optuna_rows.as_stored(value)
        yield {"trial_id": key, "objective": i, "value": number, "value_type": kind}


def _steps(key: int, goal: Goal, trial: PortableTrial) -> Iterator[dict[str, Any]]:
    for step, metrics in trial.curve.items():
        if goal.metric in metrics:
            kind, number = optuna_rows.as_stored(metrics[goal.metric])
            yield {
                "trial_id": key, "step": step, "intermediate_value": number, "intermediate_value_type": kind,
            }  # fmt: skip


def _user(trial: PortableTrial, goals: Sequence[Goal], with_points: bool) -> dict[str, Any]:
    """The user's attributes; beside them ours, unless one of the user's has such a name."""
    attributes = dict(trial.attributes)
    if OURS.isdisjoint(attributes):
        attributes.update(optuna_rows.ending_attributes(trial.ending, trial.best_step, trial.metrics))
    held = len(goals) == 1 and all(set(metrics) == {goals[0].metric} for metrics in trial.curve.values())
    if with_points and trial.curve and not held:
        attributes[POINTS] = [[step, metrics] for step, metrics in trial.curve.items()]
    return attributes


def _system(trial: PortableTrial, goals: Sequence[Goal], with_points: bool) -> dict[str, Any]:
    return {CONSTRAINT + name: value for name, value in trial.violations.items()}


def _insert(conn: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        conn.execute(insert(table), rows)


def _naive(moment: str | None) -> datetime | None:
    return None if moment is None else datetime.fromisoformat(moment).astimezone(UTC).replace(tzinfo=None)
