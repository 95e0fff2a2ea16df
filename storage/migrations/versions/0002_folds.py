"""Which fold of a cross-validation a trial is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("hpo_trials", sa.Column("fold", sa.Integer()))
    op.add_column("hpo_trials", sa.Column("folds", sa.Integer()))
