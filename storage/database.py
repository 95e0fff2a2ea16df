"""One database: opening it, its two schemas (Optuna's and ours), and transactions.

SQLite runs in WAL mode with full synchronisation, so a committed row survives a power
cut and readers (a dashboard, a notebook) never block the one writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from hpo.errors import StorageError
from storage.optuna_rows import OPTUNA_SCHEMA

OUR_SCHEMA = "0001"
OUR_VERSION_TABLE = "hpo_alembic_version"
_BUSY_TIMEOUT_S = 30


class Database:
    """A database that holds studies.

    Args:
        url: any SQLAlchemy URL; ``sqlite:///hpo.db`` is a file in the working directory.
        create: make the SQLite file and both schemas where they are missing.

    Raises:
        StorageError: the URL is no URL, its driver is missing, the server cannot be
            reached, there is no such database (and ``create`` is false), or its schema
            is one this version does not know. Passwords are never in the message.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._url = _parsed(url)
        self.name = self._url.render_as_string(hide_password=True)
        if self._url.get_backend_name() == "sqlite":
            _check_file(self._url, self.name, create)
        with self._translated():
            self.engine = _engine(self._url)
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with self._translated():
            self._prepare(create)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: all of it is durable on leaving, or none of it."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise StorageError(f"No driver for the database {self.name}: {error}.") from error
        except SQLAlchemyError as error:
            raise StorageError(f"The database {self.name} failed: {self._reason(error)}") from error

    def _reason(self, error: SQLAlchemyError) -> str:
        """The driver's own first line, without the SQL and without the password."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        password = str(self._url.password or "")
        # A short password is also part of ordinary words; drivers show one only as part of a URL or DSN.
        shown = [f":{password}@", f"password={password}", f"password='{password}'"] if password else []
        for secret in [*shown, *([password] if len(password) >= 6 else [])]:
            line = line.replace(secret, secret.replace(password, "***"))
        return line

    def _prepare(self, create: bool) -> None:
        with self.engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            optuna = _version(connection, "alembic_version") if "alembic_version" in tables else None
            ours = _version(connection, OUR_VERSION_TABLE) if OUR_VERSION_TABLE in tables else None
        if optuna is not None and optuna != OPTUNA_SCHEMA:
            raise StorageError(
                f"{self.name} has Optuna's schema {optuna}; this version of hpo needs {OPTUNA_SCHEMA}. "
                f"Upgrade it with: optuna storage upgrade --storage {self.name}"
            )
        if ours is not None and ours > OUR_SCHEMA:
            raise StorageError(f"{self.name} was written by a newer hpo (schema {ours}); install that version.")
        if ours == OUR_SCHEMA and optuna == OPTUNA_SCHEMA:
            return
        if not create:
            raise StorageError(f"{self.name} holds no hpo studies yet; hpo launch puts the first one there.")
        if optuna is None:
            self._create_optuna_tables()
        self._migrate()

    def _create_optuna_tables(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(self._url.render_as_string(hide_password=False))
        storage.remove_session()
        storage.engine.dispose()

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(
            "The storage is no database URL; write sqlite:///hpo.db, "
            "postgresql://user:password@host/name or mysql+pymysql://user:password@host/name."
        ) from None
    return parsed


def _check_file(url: URL, name: str, create: bool) -> None:
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


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        options: dict[str, Any] = {"connect_timeout": 10} if url.get_backend_name() in ("postgresql", "mysql") else {}
        return create_engine(url, pool_pre_ping=True, connect_args=options)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        # Python's sqlite3 would begin transactions on its own, and late; we say when.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: upgrading a reader's transaction can fail at commit.
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def _version(connection: Connection, table: str) -> str | None:
    row = connection.execute(text(f"SELECT version_num FROM {table}")).first()
    return str(row[0]) if row else None
