"""Opening a database: SQLite with full synchronisation and WAL, servers with a look at each connection.

In WAL mode a committed row survives a power cut, and readers (a dashboard, a notebook)
never block the one writer.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event

from hpo.errors import StorageError

_BUSY_TIMEOUT_S = 30


def check_file(url: URL, name: str, create: bool) -> None:
    """Refuse a SQLite file that cannot be one; ``name`` is the URL as it may be shown.

    Raises:
        StorageError: the file, or with ``create`` its folder, is not there, or it is no file.
    """
    if not url.database or url.database == ":memory:":
        raise StorageError("A study needs a database that outlives the process; write sqlite:///FILE.")
    path = Path(url.database)
    if path.is_dir():
        raise StorageError(f"{name} is a folder, not a database file.")
    if not path.exists():
        if not create:
            raise StorageError(f"There is no database {name} yet; hpo launch creates it.")
        if not path.absolute().parent.is_dir():
            raise StorageError(f"The folder of {name} does not exist: {path.absolute().parent}.")


def make_engine(url: URL) -> Engine:
    """Connections to a database, the way hpo wants them."""
    if url.get_backend_name() != "sqlite":
        options: dict[str, Any] = {"connect_timeout": 10} if url.get_backend_name() in ("postgresql", "mysql") else {}
        return create_engine(url, pool_pre_ping=True, connect_args=options)
    engine = create_engine(_readable(url), connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        # Python's sqlite3 would begin transactions on its own, and late; we say when.
        connection.isolation_level = None
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()
        # The file remembers this one, and setting it writes: a file that cannot be written is read as it is.
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode=WAL").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: upgrading a reader's transaction can fail at commit.
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def _readable(url: URL) -> URL:
    """``url``, or for a file on a read-only disk one that SQLite can open there.

    Even to read a WAL file it makes two files beside it. Where it cannot, nobody else who
    is like us can write either, so the file may be read as one that does not change.
    """
    path = Path(url.database or "").absolute()
    wal = path.with_name(path.name + "-wal")
    effective = os.access in os.supports_effective_ids
    if not path.exists() or wal.exists() or os.access(path.parent, os.W_OK, effective_ids=effective):
        return url
    return url.set(database=f"file:{quote(str(path))}", query={"uri": "true", "mode": "ro", "immutable": "1"})
