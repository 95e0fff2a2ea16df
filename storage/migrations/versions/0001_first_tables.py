"""The first tables."""

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGTEXT

from storage.migrations.steps import create_index, create_table

revision = "0001"
down_revision = None

TIME = sa.String(32)
LONG = sa.Text().with_variant(LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    create_table(
        "hpo_studies",
        sa.Column("study_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("objective", sa.String(200), nullable=False),
        sa.Column("spec_yaml", LONG, nullable=False),
        sa.Column("identity", LONG, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("goals", sa.Text(), nullable=False),
        sa.Column("monitor", sa.Text(), nullable=False),
        sa.Column("search_space", LONG, nullable=False),
        sa.Column("data_fingerprint", sa.String(200), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("import_from", sa.Text()),
        sa.Column("reference_point", sa.Text()),
        sa.Column("search_state", LONG, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    create_table(
        "hpo_events",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("study_id", sa.Integer(), sa.ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False),
        sa.Column("series", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("message", LONG, nullable=False),
        sa.Column("details", LONG, nullable=False),
    )
    create_index("hpo_events_study", "hpo_events", ["study_id", "series", "number"])
    create_table(
        "hpo_launches",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column(
            "study_id",
            sa.Integer(),
            sa.ForeignKey("hpo_studies.study_id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("ended_how", sa.String(100)),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("runner", sa.String(50), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("settings", LONG, nullable=False),
        sa.Column("environment", LONG, nullable=False),
    )
    create_table(
        "hpo_leases",
        sa.Column(
            "study_id",
            sa.Integer(),
            sa.ForeignKey("hpo_studies.study_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_started", sa.String(40), nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
    )
    create_table(
        "hpo_models",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column(
            "study_id",
            sa.Integer(),
            sa.ForeignKey("hpo_studies.study_id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("trial", sa.Integer()),
        sa.Column("manifest", LONG, nullable=False),
    )
    create_table(
        "hpo_trials",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("study_id", sa.Integer(), sa.ForeignKey("hpo_studies.study_id", ondelete="CASCADE"), nullable=False),
        sa.Column("series", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer()),
        sa.Column("subject", sa.Integer()),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("params", LONG, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("enqueued", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sampler_state", LONG, nullable=False),
        sa.Column("stop_kind", sa.String(20)),
        sa.Column("reason", LONG),
        sa.Column("best_step", sa.Integer()),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sa.Column("goal_values", sa.Text()),
        sa.Column("metrics", LONG, nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.UniqueConstraint("study_id", "series", "number", name="hpo_trials_number"),
    )
    create_table(
        "hpo_attempts",
        sa.Column("trial", sa.Integer(), sa.ForeignKey("hpo_trials.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("launch", sa.Integer()),
        sa.Column("worker", sa.String(255)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("ended_how", sa.String(20)),
    )
    create_table(
        "hpo_points",
        sa.Column("trial", sa.Integer(), sa.ForeignKey("hpo_trials.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("metrics", LONG, nullable=False),
        sa.Column("checkpoint", sa.Text()),
    )
