"""Published versions of models, and the labels that point at them."""

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGTEXT

from storage.migrations.steps import create_index, create_table

revision = "0005"
down_revision = "0004"

LONG = sa.Text().with_variant(LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    create_table(
        "hpo_versions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("major", sa.Integer(), nullable=False),
        sa.Column("minor", sa.Integer(), nullable=False),
        sa.Column("patch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("manifest", LONG, nullable=False),
        sa.Column("study_id", sa.Integer(), sa.ForeignKey("hpo_studies.study_id", ondelete="SET NULL"), index=True),
        sa.Column("study", sa.String(100)),
        sa.Column("trial", sa.Integer()),
        sa.Column("published_by", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("forced", LONG),
        sa.Column("notes", LONG),
        sa.UniqueConstraint("model", "major", "minor", "patch", name="hpo_versions_number"),
        sa.UniqueConstraint("model", "digest", name="hpo_versions_digest"),
    )
    create_table(
        "hpo_labels",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("label", sa.String(100), primary_key=True),
        sa.Column("version", sa.Integer(), sa.ForeignKey("hpo_versions.id"), nullable=False),
    )
    create_table(
        "hpo_label_moves",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("from_version", sa.Integer(), sa.ForeignKey("hpo_versions.id")),
        sa.Column("to_version", sa.Integer(), sa.ForeignKey("hpo_versions.id")),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("moved_by", sa.String(255), nullable=False),
        sa.Column("reason", LONG),
    )
    create_index("hpo_label_moves_model", "hpo_label_moves", ["model", "label"])
