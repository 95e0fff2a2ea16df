"""What a trial breaks of its study's constraints, and what somebody asks of the process that runs one."""

import sqlalchemy as sa

from storage.migrations.steps import add_column

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    add_column("hpo_trials", sa.Column("violations", sa.Text()))
    add_column("hpo_leases", sa.Column("stop", sa.String(10)))
    add_column("hpo_leases", sa.Column("writes", sa.Integer()))
