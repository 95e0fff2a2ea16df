"""Use cases of whole databases: bring one up to date, look whether it is whole, copy it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo.errors import StorageError
from storage import backup, checking
from storage.checking import Examination
from storage.database import Database, Versions


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did; ``copy`` is the SQLite file as it was before."""

    database: str
    before: Versions
    after: Versions
    copy: Path | None


def check_database(storage: str) -> Examination:
    """Look at the schemas, the rows and how they agree; nothing is changed.

    Raises:
        StorageError: there is no such database.
    """
    with Database(storage, as_is=True) as database:
        return checking.examine(database)


def upgrade_database(storage: str) -> Upgraded:
    """Bring Optuna's schema and ours up to date, after a copy of a SQLite file.

    Raises:
        StorageError: there is no such database, or a schema is newer than this version of hpo.
    """
    with Database(storage, as_is=True) as database:
        before = database.versions()
        copy = database.upgrade()
        return Upgraded(database.name, before, database.versions(), copy)


def backup_database(storage: str, out: Path | None = None) -> Path:
    """A consistent copy of a SQLite database, also while studies run; where it lies.

    Raises:
        StorageError: it is a server, there is no such database, ``out`` is there already, or
            cannot be written.
    """
    with Database(storage, as_is=True) as database:
        if database.file is None:
            raise StorageError(f"{database.name} is a server; copy it by its own means: {database.dump_command}")
        copy = out or backup.beside(database.file)
        if copy.exists():
            raise StorageError(f"There is {copy} already; choose another file with --out.")
        if not copy.absolute().parent.is_dir():
            raise StorageError(f"The folder of {copy} does not exist: {copy.absolute().parent}.")
        backup.back_up(database.file, copy.absolute())
        return copy
