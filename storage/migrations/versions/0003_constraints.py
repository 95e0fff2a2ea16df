"""What a trial breaks of its study's constraints, and what somebody asks of the process that runs one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("hpo_trials", sa.Column("violations", sa.Text()))
    op.add_column("hpo_leases", sa.Column("stop", sa.String(10)))
