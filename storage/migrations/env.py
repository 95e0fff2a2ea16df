"""Alembic's entry: run our migrations on the connection that ``storage.database`` hands over."""

from alembic import context

from storage.database import OUR_VERSION_TABLE
from storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=OUR_VERSION_TABLE,
    include_name=lambda name, kind, parents: kind != "table" or str(name).startswith("hpo_"),
)
with context.begin_transaction():
    context.run_migrations()
