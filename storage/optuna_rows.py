"""Reading and writing Optuna's own tables with SQLAlchemy Core.

Optuna's definitions are private (``optuna.storages._rdb.models``); these mirror schema
``OPTUNA_SCHEMA`` of Optuna 3.2 to 5.0. Writing rows ourselves puts a whole trial into one
transaction, where Optuna's storage takes one per parameter. ``tests/storage`` lets plain
Optuna read every row back, and ``storage.database`` refuses any other schema.
"""

from __future__ import annotations

import json
import math
import mimetypes
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    CursorResult,
    DateTime,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from hpo.trial import Goal, Metrics, StopReason, TrialState
from search_spaces import Choice, Int, SearchSpace
from search_spaces.parameters import Parameter, same

OPTUNA_SCHEMA = "v3.2.0.a"  # the head of Optuna's own Alembic history
ARTIFACT = "artifacts:"  # what the keys of artifacts begin with

_metadata = MetaData()
_FINITE = ("FINITE", "INF_POS", "INF_NEG")
_NON_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def _attributes(of: str, whose: str) -> Table:
    """The table of a study's or trial's attributes, the user's or the system's."""
    return Table(
        f"{of}_{whose}_attributes",
        _metadata,
        Column(f"{of}_{whose}_attribute_id", Integer, primary_key=True),
        Column(f"{of}_id", Integer),
        Column("key", String(512)),
        Column("value_json", Text),
    )


studies = Table("studies", _metadata, Column("study_id", Integer, primary_key=True), Column("study_name", String(512)))
study_directions = Table(
    "study_directions",
    _metadata,
    Column("study_direction_id", Integer, primary_key=True),
    Column("direction", Enum("NOT_SET", "MINIMIZE", "MAXIMIZE", name="studydirection")),
    Column("study_id", Integer),
    Column("objective", Integer),
)
study_system_attributes = _attributes("study", "system")
study_user_attributes = _attributes("study", "user")
trials = Table(
    "trials",
    _metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
trial_params = Table(
    "trial_params",
    _metadata,
    Column("param_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("param_name", String(512)),
    Column("param_value", Float(precision=53)),
    Column("distribution_json", Text),
)
trial_values = Table(
    "trial_values",
    _metadata,
    Column("trial_value_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("objective", Integer),
    Column("value", Float(precision=53)),
    Column("value_type", Enum(*_FINITE, name="trialvaluetype")),
)
trial_intermediate_values = Table(
    "trial_intermediate_values",
    _metadata,
    Column("trial_intermediate_value_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("step", Integer),
    Column("intermediate_value", Float(precision=53)),
    Column("intermediate_value_type", Enum(*_FINITE, "NAN", name="trialintermediatevaluetype")),
)
trial_user_attributes = _attributes("trial", "user")
trial_system_attributes = _attributes("trial", "system")
trial_heartbeats = Table(
    "trial_heartbeats", _metadata, Column("trial_heartbeat_id", Integer, primary_key=True), Column("trial_id", Integer)
)

STATES = {
    TrialState.QUEUED: "WAITING",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "COMPLETE",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAIL: "FAIL",
}
_OF_A_TRIAL = (
    trial_params,
    trial_values,
    trial_intermediate_values,
    trial_user_attributes,
    trial_system_attributes,
    trial_heartbeats,
)


def inserted_id(result: CursorResult[Any]) -> int:
    """The primary key that the database gave a new row."""
    key = result.inserted_primary_key
    if key is None:
        raise RuntimeError("The database gave a new row no primary key.")
    return int(key[0])


def create_study(conn: Connection, name: str, goals: Sequence[Goal]) -> int:
    """A new row in ``studies`` with its directions and metric names; its id."""
    study_id = inserted_id(conn.execute(insert(studies).values(study_name=name)))
    conn.execute(
        insert(study_directions),
        [{"study_id": study_id, "objective": i, "direction": goal.direction.name} for i, goal in enumerate(goals)],
    )
    names = json.dumps([goal.metric for goal in goals])
    conn.execute(insert(study_system_attributes).values(study_id=study_id, key="study:metric_names", value_json=names))
    return study_id


def delete_study(conn: Connection, study_id: int) -> None:
    """Remove a study and everything of it from Optuna's tables."""
    ids = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    for table in _OF_A_TRIAL:
        conn.execute(delete(table).where(table.c.trial_id.in_(ids)))
    for table in (trials, study_directions, study_system_attributes, study_user_attributes, studies):
        conn.execute(delete(table).where(table.c.study_id == study_id))


def add_trial(conn: Connection, study_id: int, number: int, params: Mapping[str, Any], space: SearchSpace) -> int:
    """A RUNNING trial with its parameters; its ``trial_id``."""
    row = {"number": number, "study_id": study_id, "state": "RUNNING", "datetime_start": _now()}
    trial_id = inserted_id(conn.execute(insert(trials).values(**row)))
    if params:
        conn.execute(
            insert(trial_params),
            [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": internal(space[name], value),
                    "distribution_json": distribution_json(space[name]),
                }
                for name, value in params.items()
            ],
        )
    return trial_id


def set_state(conn: Connection, trial_id: int, state: TrialState) -> None:
    finished = {"datetime_complete": _now()} if state.is_finished else {}
    conn.execute(update(trials).where(trials.c.trial_id == trial_id).values(state=STATES[state], **finished))


def add_values(conn: Connection, trial_id: int, values: Sequence[float]) -> None:
    conn.execute(
        insert(trial_values),
        [
            {"trial_id": trial_id, "objective": i, "value": value, "value_type": "FINITE"}
            for i, value in enumerate(values)
        ],
    )


def forget_curve(conn: Connection, trial_id: int, since: int) -> None:
    """Remove the intermediate values from step ``since`` on."""
    table = trial_intermediate_values
    conn.execute(delete(table).where(table.c.trial_id == trial_id, table.c.step >= since))


def add_curve_value(conn: Connection, trial_id: int, step: int, value: float) -> None:
    """One intermediate value, of a single-goal study only (TPE chokes on them otherwise)."""
    kind, number = as_stored(value)
    row = {"trial_id": trial_id, "step": step, "intermediate_value": number, "intermediate_value_type": kind}
    conn.execute(insert(trial_intermediate_values).values(**row))


def as_stored(value: float) -> tuple[str, float | None]:
    """How Optuna keeps a number that may not be finite: its kind, and the number where it is."""
    if math.isfinite(value):
        return "FINITE", value
    return ("NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"), None


def from_stored(number: float | None, kind: str) -> float:
    """The value of which ``as_stored`` gave these."""
    return _NON_FINITE[kind] if number is None else float(number)


def add_attributes(conn: Connection, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """User attributes, which optuna-dashboard shows with the trial."""
    rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(v)} for key, v in attributes.items()]
    if rows:
        conn.execute(insert(trial_user_attributes), rows)


def add_violations(conn: Connection, trial_id: int, violations: Sequence[float]) -> None:
    """One number per constraint, above 0 where it is broken, under the key that Optuna and its dashboard read.

    Optuna 5 writes a key per constraint (``Trial.set_constraint``) and reads this one too;
    optuna-dashboard 0.21 reads this one alone. A browser reads no infinity in JSON: the
    largest number stands for it.
    """
    largest = sys.float_info.max
    text = json.dumps([min(float(violation), largest) for violation in violations])
    conn.execute(insert(trial_system_attributes).values(trial_id=trial_id, key="constraints", value_json=text))


def add_artifact(conn: Connection, study_id: int, trial_id: int | None, artifact_id: str, filename: str) -> None:
    """What ``optuna.artifacts`` keeps of a file: of a trial, or of the study where ``trial_id`` is None.

    The value is JSON within JSON, as Optuna has it (``optuna.artifacts._upload``).
    """
    mimetype, encoding = mimetypes.guess_type(filename)
    meta = {
        "artifact_id": artifact_id, "filename": filename, "mimetype": mimetype or "application/octet-stream",
        "encoding": encoding,
    }  # fmt: skip
    row = {"key": ARTIFACT + artifact_id, "value_json": json.dumps(json.dumps(meta))}
    if trial_id is None:
        conn.execute(insert(study_system_attributes).values(study_id=study_id, **row))
    else:
        conn.execute(insert(trial_system_attributes).values(trial_id=trial_id, **row))


def remove_artifacts(conn: Connection, artifact_ids: Sequence[str]) -> None:
    """Forget artifacts, whatever they are of."""
    keys = [ARTIFACT + artifact_id for artifact_id in artifact_ids]
    for table in (study_system_attributes, trial_system_attributes):
        conn.execute(delete(table).where(table.c.key.in_(keys)))


def ending_attributes(reason: StopReason, best_step: int | None, metrics: Metrics) -> dict[str, Any]:
    """What optuna-dashboard shows with a trial that ended. Optuna keeps NaN in JSON as it is."""
    return {"stopped": str(reason.kind), "reason": reason.message, "best_step": best_step, "metrics": metrics}


def distribution_json(parameter: Parameter) -> str:
    """``parameter`` as Optuna writes a distribution (``optuna.distributions.distribution_to_json``)."""
    if isinstance(parameter, Choice):
        return json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": list(parameter.choices)}})
    name = "IntDistribution" if isinstance(parameter, Int) else "FloatDistribution"
    number = int if isinstance(parameter, Int) else float
    attributes = {
        "step": None if parameter.step is None else number(parameter.step),
        "low": number(parameter.low),
        "high": number(parameter.high),
        "log": parameter.log,
    }
    return json.dumps({"name": name, "attributes": attributes})


def internal(parameter: Parameter, value: Any) -> float:
    """Optuna stores a choice as its index and everything else as a float."""
    if isinstance(parameter, Choice):
        return float(next(i for i, choice in enumerate(parameter.choices) if same(choice, value)))
    return float(value)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
