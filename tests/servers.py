"""Throw-away database servers, which tests start, kill and start again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

_AS_ROOT = os.geteuid() == 0
_PATIENCE_S = 300  # until a server answers, on a machine that is busy with other tests


class Server(Protocol):
    """A server in a folder of its own, reached through a socket there."""

    url: str  # of the database that every such server has

    def start(self) -> None:
        """Start it, or start it again; it answers when this returns."""

    def kill(self) -> None:
        """End it at once, as a crash of its machine would."""

    def remove(self) -> None:
        """End it for good."""


class Postgres:
    """PostgreSQL's own programs; they refuse root, so as root they become the user that the package made."""

    _patiently = ("-t", str(_PATIENCE_S))

    def __init__(self) -> None:
        initdb, pg_ctl = _postgres_binary("initdb"), _postgres_binary("pg_ctl")
        if not initdb or not pg_ctl:
            pytest.skip("PostgreSQL is not installed")
        self._folder = Path(tempfile.mkdtemp(prefix="hpo-pg-"))
        self._data, self._pg_ctl = str(self._folder / "data"), pg_ctl
        self.url = f"postgresql+psycopg://hpo@/postgres?host={self._folder}"
        if _AS_ROOT:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run(initdb, "-D", self._data, "-U", "hpo", "-A", "trust", "--no-sync")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c fsync=off -k {self._folder}"
        self._run(
            self._pg_ctl, "-D", self._data, "-o", options, "-l", f"{self._folder}/log", "-w", *self._patiently, "start"
        )

    def kill(self) -> None:
        self._run(self._pg_ctl, "-D", self._data, "-m", "immediate", *self._patiently, "stop")

    def remove(self) -> None:
        self._run(self._pg_ctl, "-D", self._data, "-m", "immediate", *self._patiently, "stop", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *command: str, check: bool = True) -> None:
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if _AS_ROOT else []
        subprocess.run([*become, *command], check=check, capture_output=True, cwd="/")


class MariaDB:
    """MariaDB as Debian installs it."""

    def __init__(self) -> None:
        path = f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}"
        install, server = (shutil.which(name, path=path) for name in ("mariadb-install-db", "mariadbd"))
        if not install or not server:
            pytest.skip("MariaDB is not installed")
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix="hpo-my-"))
        self._user = ["--user=root"] if _AS_ROOT else []
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"mysql+pymysql://root@/mysql?unix_socket={self._folder / 'sock'}"
        options = ["--skip-test-db", "--auth-root-authentication-method=normal"]
        command = [install, "--no-defaults", f"--datadir={self._folder / 'data'}", *options, *self._user]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        files = {"datadir": "data", "socket": "sock", "pid-file": "pid", "log-error": "log"}
        places = [f"--{option}={self._folder / name}" for option, name in files.items()]
        # 2: written at each commit, so that killing the server loses nothing, and not synced, so that it is fast.
        options = ["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=2", *places, *self._user]
        self._process = subprocess.Popen([self._server, *options])
        engine, until = create_engine(self.url), time.monotonic() + _PATIENCE_S
        while True:
            try:
                engine.connect().close()
                break
            except OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        engine.dispose()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


SERVERS: dict[str, type[Postgres] | type[MariaDB]] = {"postgresql": Postgres, "mysql": MariaDB}


def new_database(server: Server) -> str:
    """The URL of an empty database on a running server."""
    name = f"t{os.urandom(6).hex()}"
    _run(server, f"CREATE DATABASE {name}")
    return server.url.replace("/postgres?", f"/{name}?").replace("/mysql?", f"/{name}?")


def drop_database(server: Server, url: str) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    _run(server, f"DROP DATABASE {name}{' WITH (FORCE)' if url.startswith('postgresql') else ''}")


def _run(server: Server, statement: str) -> None:
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _postgres_binary(name: str) -> str | None:
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(candidates[-1]) if candidates else None)
