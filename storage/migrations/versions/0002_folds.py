"""Which fold of a cross-validation a trial is."""

import sqlalchemy as sa

from storage.migrations.steps import add_column

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    add_column("hpo_trials", sa.Column("fold", sa.Integer()))
    add_column("hpo_trials", sa.Column("folds", sa.Integer()))
