"""Our tables, beside Optuna's in the same database: what Optuna has no room for.

All begin with ``hpo_``. Times are ISO 8601 text in UTC; JSON is text, written by
``storage.codec``. Long text is stored with every character a server refuses spelled out
(``codec.storable``). A change here needs a migration in ``storage/migrations/versions``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.types import TypeDecorator

from storage import codec


class LongText(TypeDecorator[str]):
    """Text of any length and any content, such as the message of somebody's exception."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return LONGTEXT() if dialect.name in ("mysql", "mariadb") else Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else codec.storable(value)


metadata = MetaData()

TIME = String(32)
LONG = LongText()

studies = Table(
    "hpo_studies",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),  # Optuna's studies.study_id
    Column("name", String(100), nullable=False, unique=True),
    Column("objective", String(200), nullable=False),
    Column("spec_yaml", LONG, nullable=False),
    Column("identity", LONG, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("goals", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("search_space", LONG, nullable=False),
    Column("data_fingerprint", String(200), nullable=False),
    Column("folder", Text, nullable=False),  # absolute; holds one folder per trial
    Column("import_from", Text),  # the study file's folder, for the user's own modules
    Column("reference_point", Text),
    Column("search_state", LONG, nullable=False),
    Column("created_at", TIME, nullable=False),
)

launches = Table(
    "hpo_launches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME),
    Column("ended_how", String(100)),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("runner", String(50), nullable=False),
    Column("workers", Integer, nullable=False),
    Column("settings", LONG, nullable=False),
    Column("environment", LONG, nullable=False),
)

leases = Table(
    "hpo_leases",
    metadata,
    Column(
        "study_id",
        Integer,
        ForeignKey("hpo_studies.study_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("owner", String(36), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", String(40), nullable=False),
    Column("heartbeat_at", TIME, nullable=False),
    Column("stop", String(10)),  # what hpo stop asks of the owner: drain, now
    Column("writes", Integer),  # the number of the owner's last transaction
)

trials = Table(
    "hpo_trials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False),
    Column("series", String(20), nullable=False),
    Column("number", Integer, nullable=False),
    Column("trial_id", Integer),  # Optuna's trials.trial_id; only the search's trials have one
    Column("subject", Integer),  # the search's trial that this one repeats
    Column("epochs", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("params", LONG, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("enqueued", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("sampler_state", LONG, nullable=False),
    Column("stop_kind", String(20)),
    Column("reason", LONG),
    Column("best_step", Integer),
    Column("last_step", Integer, nullable=False),
    Column("goal_values", Text),
    Column("metrics", LONG, nullable=False),
    Column("worker", String(255)),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("fold", Integer),  # from 0; with ``folds`` its part of a cross-validation
    Column("folds", Integer),
    Column("violations", Text),  # one per constraint, above 0 where it is broken
    UniqueConstraint("study_id", "series", "number", name="hpo_trials_number"),
)

attempts = Table(
    "hpo_attempts",
    metadata,
    Column("trial", Integer, ForeignKey("hpo_trials.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("launch", Integer),
    Column("worker", String(255)),
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME),
    Column("ended_how", String(20)),
)

points = Table(
    "hpo_points",
    metadata,
    Column("trial", Integer, ForeignKey("hpo_trials.id", ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("at", TIME, nullable=False),
    Column("metrics", LONG, nullable=False),
    Column("checkpoint", Text),
)

events = Table(
    "hpo_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False),
    Column("series", String(20), nullable=False),
    Column("number", Integer),
    Column("at", TIME, nullable=False),
    Column("kind", String(50), nullable=False),
    Column("message", LONG, nullable=False),
    Column("details", LONG, nullable=False),
    Index("hpo_events_study", "study_id", "series", "number"),
)

models = Table(
    "hpo_models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", TIME, nullable=False),
    Column("path", Text, nullable=False),
    Column("trial", Integer),
    Column("manifest", LONG, nullable=False),
)

artifacts = Table(
    "hpo_artifacts",
    metadata,
    Column("id", String(36), primary_key=True),  # a UUID, and the file's name at its place
    Column("study_id", Integer, ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("series", String(20), nullable=False),
    Column("number", Integer),
    Column("kind", String(20), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("place", Text, nullable=False),
)

# A version outlives its study, and neither changes nor goes.
versions = Table(
    "hpo_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(100), nullable=False),
    Column("major", Integer, nullable=False),
    Column("minor", Integer, nullable=False),
    Column("patch", Integer, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("place", Text, nullable=False),  # a folder of its own
    Column("bytes", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("manifest", LONG, nullable=False),
    Column("study_id", Integer, ForeignKey("hpo_studies.study_id", ondelete="SET NULL"), index=True),
    Column("study", String(100)),
    Column("trial", Integer),
    Column("published_by", String(255), nullable=False),
    Column("host", String(255), nullable=False),
    Column("forced", LONG),
    Column("notes", LONG),
    UniqueConstraint("model", "major", "minor", "patch", name="hpo_versions_number"),
    UniqueConstraint("model", "digest", name="hpo_versions_digest"),
)

labels = Table(
    "hpo_labels",
    metadata,
    Column("model", String(100), primary_key=True),
    Column("label", String(100), primary_key=True),
    Column("version", Integer, ForeignKey("hpo_versions.id"), nullable=False),
)

label_moves = Table(
    "hpo_label_moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(100), nullable=False),
    Column("label", String(100), nullable=False),
    Column("from_version", Integer, ForeignKey("hpo_versions.id")),
    Column("to_version", Integer, ForeignKey("hpo_versions.id")),
    Column("at", TIME, nullable=False),
    Column("moved_by", String(255), nullable=False),
    Column("reason", LONG),
    Index("hpo_label_moves_model", "model", "label"),
)
