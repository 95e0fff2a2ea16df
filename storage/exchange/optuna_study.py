"""A study in Optuna's tables, read whole.

Reads rows with SQLAlchemy Core, so no pickle that a sampler left in a system attribute is
ever loaded: of those attributes, only constraints and metric names are looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, select

from hpo.errors import DataError, UnknownName
from hpo.trial import Direction, Goal, Metrics, Params, StopKind, StopReason, TrialState
from storage import optuna_rows
from storage.exchange import inference
from storage.exchange.portable import PortableStudy, PortableTrial, state_of
from storage.optuna_rows import from_stored

POINTS = "hpo:points"  # the attribute for curves that Optuna's intermediate values cannot hold
OURS = {"stopped", "reason", "best_step", "metrics"}  # attributes that hpo gives every trial that ended
CONSTRAINT = "constraints:"


def names(conn: Connection) -> list[str]:
    """The studies there are."""
    return list(conn.execute(select(optuna_rows.studies.c.study_name)).scalars())


def read(conn: Connection, name: str) -> PortableStudy:
    """A study with its finished trials.

    Raises:
        UnknownName: there is none of that name.
        DataError: it has no finished trial, or something that has no place here.
    """
    s = optuna_rows.studies
    study_id = conn.execute(select(s.c.study_id).where(s.c.study_name == name)).scalar()
    if study_id is None:
        raise UnknownName("study", name, names(conn))
    goals = _goals(conn, study_id)
    t = optuna_rows.trials
    rows = conn.execute(select(t).where(t.c.study_id == study_id).order_by(t.c.number)).all()
    finished = {row.trial_id: row for row in rows if state_of(row.state, name) is not None}
    left_out = Counter({"trials that had not finished": len(rows) - len(finished)})
    parts = _Parts(conn, study_id)
    trials = tuple(_trial(row, goals, parts, left_out) for row in finished.values())
    space, notes = inference.from_distributions(parts.distributions(finished))
    left_out.update(_unread(conn, study_id))
    return PortableStudy(name, goals, space, trials, _study_attributes(conn, study_id), tuple(notes), +left_out)


class _Parts:
    """What Optuna keeps of trials in tables of their own, by ``trial_id``."""

    def __init__(self, conn: Connection, study_id: int) -> None:
        t = optuna_rows.trials
        self._conn, self._ids = conn, select(t.c.trial_id).where(t.c.study_id == study_id)
        self._parameters: dict[str, dict[str, set[int]]] = {}  # name -> distribution -> trials
        self.params = self._params()
        self.values = self._grouped(
            (row.trial_id, row.objective, from_stored(row.value, row.value_type))
            for row in self._rows(optuna_rows.trial_values)
        )
        self.curves = self._grouped(
            (row.trial_id, row.step, from_stored(row.intermediate_value, row.intermediate_value_type))
            for row in self._rows(optuna_rows.trial_intermediate_values)
        )
        self.attributes = self._grouped(
            (row.trial_id, row.key, json.loads(row.value_json)) for row in self._rows(optuna_rows.trial_user_attributes)
        )
        system = optuna_rows.trial_system_attributes
        self.constraints = self._grouped(
            (row.trial_id, row.key, json.loads(row.value_json))
            for row in self._conn.execute(self._of(system).where(system.c.key.like("constraints%")))
        )

    def distributions(self, trials: Mapping[int, object]) -> dict[str, list[str]]:
        """By parameter, every distribution that one of ``trials`` drew it from."""
        found = {
            name: [text for text, ids in texts.items() if not ids.isdisjoint(trials)]
            for name, texts in self._parameters.items()
        }
        return {name: texts for name, texts in found.items() if texts}

    def _params(self) -> dict[int, Params]:
        read: dict[str, Any] = {}
        found: dict[int, Params] = {}
        for row in self._rows(optuna_rows.trial_params):
            text = row.distribution_json
            if text not in read:
                read[text] = json.loads(text)
            self._parameters.setdefault(row.param_name, {}).setdefault(text, set()).add(row.trial_id)
            found.setdefault(row.trial_id, {})[row.param_name] = _external(read[text], row.param_value)
        return found

    def _of(self, table: Table) -> Select[Any]:
        return select(table).where(table.c.trial_id.in_(self._ids)).order_by(next(iter(table.primary_key)))

    def _rows(self, table: Table) -> Iterable[Row[Any]]:
        return self._conn.execute(self._of(table))

    @staticmethod
    def _grouped(rows: Iterable[tuple[int, Any, Any]]) -> dict[int, dict[Any, Any]]:
        found: dict[int, dict[Any, Any]] = {}
        for trial_id, key, value in rows:
            found.setdefault(trial_id, {})[key] = value
        return found


def _trial(row: Row[Any], goals: Sequence[Goal], parts: _Parts, left_out: Counter[str]) -> PortableTrial:
    key = row.trial_id
    state = TrialState(row.state.lower())
    numbers = parts.values.get(key, {})
    values = tuple(numbers[i] for i in range(len(goals))) if len(numbers) == len(goals) else None
    return portable(
        state=state,
        goals=goals,
        params=parts.params.get(key, {}),
        values=values,
        steps=dict(sorted(parts.curves.get(key, {}).items())),
        attributes=parts.attributes.get(key, {}),
        violations=violations_of(parts.constraints.get(key, {})),
        times=(iso(row.datetime_start), iso(row.datetime_complete)),
        left_out=left_out,
    )


def portable(
    *,
    state: TrialState,
    goals: Sequence[Goal],
    params: Params,
    values: tuple[float, ...] | None,
    steps: Mapping[int, float],
    attributes: Mapping[str, Any],
    violations: Mapping[str, float],
    times: tuple[str | None, str | None],
    left_out: Counter[str],
) -> PortableTrial:
    """A trial of Optuna's; what hpo once put into its attributes becomes what it was."""
    attributes = dict(attributes)
    reason, best_step = None, None
    metrics = dict(zip((goal.metric for goal in goals), values, strict=True)) if values and _completed(state) else {}
    told = _told(attributes, state)
    if told is not None:
        reason, best_step, metrics = told
        for name in OURS:
            del attributes[name]
    metric = goals[0].metric if len(goals) == 1 else "intermediate_value"
    curve: dict[int, Metrics] = {step: {metric: value} for step, value in steps.items()}
    points = attributes.get(POINTS)
    if isinstance(points, list):
        del attributes[POINTS]
        curve = {step: dict(metrics) for step, metrics in points}
    if values is not None and not _completed(state):
        # Optuna gives a pruned trial its last intermediate value; the curve has that.
        if list(steps.values())[-1:] != list(values):
            left_out["values of trials that did not complete"] += 1
        values = None
    return PortableTrial(
        state, dict(params), values, metrics, curve, reason, best_step, attributes, dict(violations), *times
    )


def violations_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Constraints by name, in the form of Optuna 5 (one key each) or of before (one list, named 0, 1, ...)."""
    old = {str(i): float(value) for i, value in enumerate(found.get("constraints") or ())}
    new = {key.removeprefix(CONSTRAINT): float(v) for key, v in found.items() if key.startswith(CONSTRAINT)}
    return {**old, **new}


def _told(attributes: Mapping[str, Any], state: TrialState) -> tuple[StopReason, int | None, Metrics] | None:
    """What hpo has written about a trial's end; None where somebody else used such names."""
    if not attributes.keys() >= OURS or attributes["stopped"] not in set(StopKind):
        return None
    reason = StopReason(StopKind(attributes["stopped"]), str(attributes["reason"]))
    best_step, metrics = attributes["best_step"], attributes["metrics"]
    if reason.state is not state or not isinstance(best_step, int | None) or not isinstance(metrics, dict):
        return None
    return reason, best_step, {str(name): float(value) for name, value in metrics.items()}


def _goals(conn: Connection, study_id: int) -> tuple[Goal, ...]:
    d, a = optuna_rows.study_directions, optuna_rows.study_system_attributes
    query = select(d.c.direction).where(d.c.study_id == study_id).order_by(d.c.objective)
    directions = [str(direction) for direction in conn.execute(query).scalars()]
    named = select(a.c.value_json).where(a.c.study_id == study_id, a.c.key == "study:metric_names")
    text = conn.execute(named).scalar()
    return named_goals(directions, json.loads(text) if text else None)


def named_goals(directions: Sequence[str], metric_names: Sequence[str] | None) -> tuple[Goal, ...]:
    """The goals of a study of Optuna's; without names, ``value``, or ``value_0``, ``value_1``, ..."""
    if "NOT_SET" in directions:
        raise DataError("The study has no direction yet, and so no finished trial.")
    usual = ["value"] if len(directions) == 1 else [f"value_{i}" for i in range(len(directions))]
    chosen = zip(metric_names or usual, directions, strict=True)
    return tuple(Goal(name, Direction[direction]) for name, direction in chosen)


def _study_attributes(conn: Connection, study_id: int) -> dict[str, Any]:
    a = optuna_rows.study_user_attributes
    rows = conn.execute(select(a.c.key, a.c.value_json).where(a.c.study_id == study_id))
    return {key: json.loads(text) for key, text in rows}


def _unread(conn: Connection, study_id: int) -> Counter[str]:
    """The system attributes that are left where they are: samplers keep pickles and other notes there."""
    t, a, s = optuna_rows.trials, optuna_rows.trial_system_attributes, optuna_rows.study_system_attributes
    of_trials = (
        select(a.c.key, func.count().label("rows"))
        .join(t, t.c.trial_id == a.c.trial_id)
        .where(t.c.study_id == study_id)
    )
    found = Counter({row.key: row.rows for row in conn.execute(of_trials.group_by(a.c.key))})
    found.update(conn.execute(select(s.c.key).where(s.c.study_id == study_id)).scalars())
    return unread(found)


def unread(keys: Mapping[str, int]) -> Counter[str]:
    """What is told of system attributes by key, those that were read left out."""
    told: Counter[str] = Counter()
    for key, count in keys.items():
        if not key.startswith("constraints") and key != "study:metric_names":
            told[f"system attributes of Optuna's ({key.partition(':')[0]})"] += count
    return told


def _external(distribution: Mapping[str, Any], value: float) -> Any:
    """A parameter as Optuna gives it out: a choice by its index, an int as one."""
    if distribution["name"] == "CategoricalDistribution":
        return distribution["attributes"]["choices"][int(value)]
    return int(value) if distribution["name"] == "IntDistribution" else float(value)


def iso(moment: datetime | None) -> str | None:
    """Optuna keeps no time zone; what it keeps is taken for UTC, which hpo writes."""
    return None if moment is None else moment.replace(tzinfo=UTC).isoformat(timespec="microseconds")


def _completed(state: TrialState) -> bool:
    return state is TrialState.COMPLETE
