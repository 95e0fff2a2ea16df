"""Files that are kept of a study's trials."""

import sqlalchemy as sa

from storage.migrations.steps import create_table

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_table(
        "hpo_artifacts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column(
            "study_id",
            sa.Integer(),
            sa.ForeignKey("hpo_studies.study_id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("series", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
    )
