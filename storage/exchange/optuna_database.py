"""A database of Optuna's own, with or without our tables beside."""

from __future__ import annotations

from sqlalchemy import select

from hpo.errors import StorageError
from search_spaces import SearchSpace
from storage import reading, tables
from storage.codec import load
from storage.database import OUR_SCHEMA, Database
from storage.exchange import optuna_study, optuna_writing, ours
from storage.exchange.portable import PortableStudy, chosen

# The schemas of ours in which trials stand as they do today; none is brought up to date here.
READABLE = ("0003", "0004", OUR_SCHEMA)


class OptunaDatabase(Database):
    """A database that any program may have filled; our tables are never made in it.

    Args:
        url: as for ``Database``.
        create: make the SQLite file and Optuna's tables where they are missing.

    Raises:
        StorageError: as ``Database``, or it holds no tables of Optuna's (and ``create`` is false).
    """

    def read_study(self, name: str | None) -> PortableStudy:
        """A study with its finished trials; the only one there is where ``name`` is None.

        One that hpo keeps here brings the curves of all its metrics.

        Raises:
            UnknownName: there is none of that name. DataError: ``name`` is needed, or nothing can be read.
        """
        with self.read() as conn:
            name = chosen(optuna_study.names(conn), name)
            s = tables.studies
            row = None
            if self.versions().ours in READABLE:
                row = conn.execute(select(s.c.study_id, s.c.goals, s.c.search_space).where(s.c.name == name)).first()
            if row is None:
                return optuna_study.read(conn, name)
            space = SearchSpace.from_dict(load(row.search_space))
            return ours.read(conn, row.study_id, name, reading.goals(row.goals), space)

    def write_study(self, study: PortableStudy) -> None:
        """Put a study with its trials there, in one transaction.

        Raises:
            UserError: the name is taken.
        """
        with self.write() as conn:
            optuna_writing.write(conn, study)

    def _prepare(self, create: bool) -> None:
        found = self.versions()
        self._refuse(found)
        if found.optuna is not None:
            return
        if not create:
            raise StorageError(f"{self.name} holds no studies of Optuna's.")
        with self._alone():
            if self.versions().optuna is None:
                self._create_optuna_tables()
