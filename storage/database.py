"""One database: its two schemas (Optuna's and ours), and transactions.

How it is opened stands in ``storage.engine``, how a URL is read and shown without its
secrets in ``storage.urls``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from hpo import durable
from hpo.errors import StorageError
from storage import backup, codec, urls
from storage.engine import check_file, make_engine
from storage.optuna_rows import OPTUNA_SCHEMA
from storage.waiting import Keeper, Waiting, longest_wait_s

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

T = TypeVar("T")

OUR_SCHEMA = "0005"
OUR_VERSION_TABLE = "hpo_alembic_version"
_CLOCKS = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "postgresql": "timezone('UTC', clock_timestamp())",
    "mysql": "utc_timestamp(6)",
    "mariadb": "utc_timestamp(6)",
}
_NAMED_LOCK = ("SELECT get_lock('hpo schema', 300)", "SELECT release_lock('hpo schema')")
_LOCKS = {
    # Released with the transaction; the number is any that nobody else will choose ("hpo" in ASCII).
    "postgresql": ("SELECT pg_advisory_xact_lock(6844527)", "SELECT 1"),
    "mysql": _NAMED_LOCK,
    "mariadb": _NAMED_LOCK,
}


@dataclass(frozen=True)
class Versions:
    """Which schemas a database has: Optuna's and ours, None where there is none."""

    optuna: str | None
    ours: str | None

    @classmethod
    def current(cls) -> Versions:
        """Those that this version of hpo needs."""
        return cls(OPTUNA_SCHEMA, OUR_SCHEMA)

    @property
    def are_current(self) -> bool:
        return self == self.current()


class Database:
    """A database that holds studies.

    Args:
        url: any SQLAlchemy URL; ``sqlite:///hpo.db`` is a file in the working directory.
        create: make the SQLite file and both schemas where they are missing.
        as_is: take the schemas as they are, to look at them or to copy them.

    Raises:
        StorageError: the URL is no URL, its driver is missing, the server cannot be
            reached, there is no such database (and ``create`` is false), or its schema
            is one this version does not know. Passwords are never in the message.
        UserError: ``HPO_STORAGE_WAIT`` is no number of seconds.
    """

    def __init__(self, url: str, *, create: bool = False, as_is: bool = False) -> None:
        self._longest_wait_s = longest_wait_s()
        self._url = urls.parse(url)
        self.name = urls.shown(self._url)
        if self._url.get_backend_name() == "sqlite":
            check_file(self._url, self.name, create)
        with self._translated():
            self.engine = make_engine(self._url)
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self.keeper: Keeper | None = None  # who holds a lease in this process
        self._turn = threading.Lock()  # the lease's row knows the last transaction alone
        if not as_is:
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

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` gives, run in a transaction that writes: durable on return.

        Under a lease a server that goes away is waited for (``storage.waiting``), so ``work``
        may run more than once; what it wrote counts once. Elsewhere it fails at once.

        Raises:
            StorageLost: the lease is another process's by now.
        """
        keeper = self.keeper
        if keeper is None:
            with self.write() as connection:
                return work(connection)
        with self._turn, self._translated():
            number, waiting, done = keeper.next_write(), Waiting(self.name, self._longest_wait_s), list[T]()
            while True:
                try:
                    with self._writer.begin() as connection:
                        # Done before, and its commit may have arrived though nobody said so.
                        if not done or not keeper.has_stamp(connection, number):
                            keeper.stamp(connection, number)
                            done[:] = [work(connection)]
                    waiting.over()
                    return done[0]
                except SQLAlchemyError as error:
                    self._wait(waiting, error)

    def consult(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` gives, run in a transaction that only reads; waits as ``transact`` does."""
        waiting = Waiting(self.name, self._longest_wait_s)
        with self._translated():
            while True:
                try:
                    with self.engine.begin() as connection:
                        found = work(connection)
                    waiting.over()
                    return found
                except SQLAlchemyError as error:
                    self._wait(waiting, error)

    def _wait(self, waiting: Waiting, error: SQLAlchemyError) -> None:
        if self.keeper is None:
            raise error
        try:
            waiting.after(error, self._reason(error))
        except SQLAlchemyError:
            self.keeper = None  # what is still written on the way out must not wait all over again
            raise

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database; None for a server."""
        return urls.sqlite_file(self._url)

    @property
    def dump_command(self) -> str:
        """How a server's own program copies this database; the password is left for it to ask."""
        url = self._url
        if url.get_backend_name() == "postgresql":
            return f"pg_dump --format=custom --file={url.database}.dump '{urls.plain(url)}'"
        user = [f"--user={url.username}", "--password"] if url.username else []
        host = [f"--host={url.host}"] if url.host else []
        words = ["mysqldump", *host, *user, "--single-transaction", f"--result-file={url.database}.sql", url.database]
        return " ".join(map(str, words))

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
        return urls.without_secrets(self._url, (str(cause).strip() or type(cause).__name__).splitlines()[0])

    def versions(self) -> Versions:
        """The schemas that are there."""
        with self._translated(), self.engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            optuna = _version(connection, "alembic_version") if "alembic_version" in tables else None
            ours = _version(connection, OUR_VERSION_TABLE) if OUR_VERSION_TABLE in tables else None
        return Versions(optuna, ours)

    def upgrade(self) -> Path | None:
        """Bring both schemas up to this version's, after a copy of a SQLite file; where the copy lies.

        None when nothing had to be copied: the schemas were current, or it is a server.

        Raises:
            StorageError: one is newer than this version knows, there is none, or copying failed.
        """
        with self._translated(), self._alone():
            found = self.versions()
            if found.optuna is None:
                raise StorageError(f"{self.name} holds no studies, neither hpo's nor Optuna's.")
            self._refuse_newer(found)
            if found.optuna == OPTUNA_SCHEMA and found.ours in (None, OUR_SCHEMA):
                return None
            copy = backup.beside(self.file) if self.file else None
            if self.file and copy:
                backup.back_up(self.file, copy)
            if found.optuna != OPTUNA_SCHEMA:
                self._upgrade_optuna()
            if found.ours not in (None, OUR_SCHEMA):
                self._upgrade(found.ours)
            return copy

    def _prepare(self, create: bool) -> None:
        found = self.versions()
        if found.are_current:
            return
        self._refuse(found)
        if None in (found.optuna, found.ours) and not create:
            raise StorageError(f"{self.name} holds no hpo studies yet; hpo launch puts the first one there.")
        with self._alone():
            found = self.versions()  # again: another first launch may have been quicker
            self._refuse(found)
            if found.ours is None:
                self._tell_characters_apart()
            if found.optuna is None:
                self._create_optuna_tables()
            if found.ours is None:
                self._migrate()
            elif found.ours < OUR_SCHEMA:
                self._upgrade(found.ours)

    def _refuse(self, found: Versions) -> None:
        """Raise StorageError where this version of hpo cannot use a schema, nor bring it up to date by itself."""
        self._refuse_newer(found)
        if found.optuna not in (None, OPTUNA_SCHEMA):
            raise StorageError(
                f"{self.name} has Optuna's schema {found.optuna}; this version of hpo needs {OPTUNA_SCHEMA}. "
                f"Bring it up to date with: hpo db upgrade --storage {self.name}"
            )

    def _refuse_newer(self, found: Versions) -> None:
        if found.ours is not None and found.ours > OUR_SCHEMA:
            raise StorageError(f"{self.name} was written by a newer hpo (schema {found.ours}); install that version.")
        if found.optuna not in (None, OPTUNA_SCHEMA):
            with self._optuna_storage() as storage:
                if found.optuna not in storage.get_all_versions():
                    raise StorageError(
                        f"{self.name} has Optuna's schema {found.optuna}, which the Optuna installed here does not "
                        "know: a newer one wrote it. Install an hpo that knows it."
                    )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes the tables; the others wait here."""
        backend = self._url.get_backend_name()
        if backend == "sqlite":
            with durable.locked(Path(self._url.database or "").absolute().parent):
                yield
        elif backend in _LOCKS:
            take, release = _LOCKS[backend]
            with self.engine.connect() as connection:
                if connection.exec_driver_sql(take).scalar() == 0:  # MySQL's word for "not within that time"
                    raise StorageError(f"Another process has been making the tables of {self.name} for 5 minutes.")
                try:
                    yield
                finally:
                    connection.exec_driver_sql(release)
        else:
            yield

    def _tell_characters_apart(self) -> None:
        """Let an empty MySQL or MariaDB database keep any text, and take ``lr`` and ``LR`` for two names.

        A server's usual character set may lack characters, and its usual collation ignores case.
        """
        if self._url.get_backend_name() not in ("mysql", "mariadb"):
            return
        change = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        with self.engine.connect() as connection:
            if not inspect(connection).get_table_names():
                connection.exec_driver_sql(f"ALTER DATABASE {change}")
            elif connection.exec_driver_sql("SELECT @@character_set_database").scalar_one() != "utf8mb4":
                raise StorageError(
                    f"The database {self.name} cannot keep every character. Give hpo one of its own, or: "
                    f"ALTER DATABASE {self._url.database} {change}"
                )

    def _create_optuna_tables(self) -> None:
        with self._optuna_storage(skip_table_creation=False):
            pass

    def _upgrade_optuna(self) -> None:
        with self._optuna_storage() as storage:
            storage.upgrade()

    @contextmanager
    def _optuna_storage(self, *, skip_table_creation: bool = True) -> Iterator[RDBStorage]:
        """Optuna's own storage, which knows its schemas."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(
            self._url.render_as_string(hide_password=False),
            skip_compatibility_check=True, skip_table_creation=skip_table_creation,
        )  # fmt: skip
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def _upgrade(self, ours: str) -> None:
        try:
            self._migrate()
        except SQLAlchemyError as error:
            raise StorageError(
                f"{self.name} is of an earlier hpo (schema {ours}, now {OUR_SCHEMA}) and cannot be brought up to date: "
                f"{self._reason(error)}. Open it once where it can be written, with hpo list."
            ) from error

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def now(conn: Connection) -> str:
    """This moment by the database's own clock, which all its users share: UTC, ISO 8601."""
    clock = _CLOCKS.get(conn.dialect.name)
    if clock is None:
        return codec.now()
    found = conn.exec_driver_sql(f"SELECT {clock}").scalar_one()
    moment = found if isinstance(found, datetime) else datetime.fromisoformat(found)
    return moment.replace(tzinfo=UTC).isoformat(timespec="microseconds")


def _version(connection: Connection, table: str) -> str | None:
    row = connection.execute(text(f"SELECT version_num FROM {table}")).first()
    return str(row[0]) if row else None
