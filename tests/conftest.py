"""Shared fixtures: throw-away databases, study files, and studies built by hand."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(name, value)


def _postgres_binary(name: str) -> str | None:
    found = shutil.which(name)
    if found:
        return found
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(candidates[-1]) if candidates else None


def _as_postgres() -> list[str]:
    """initdb refuses root: as root, become the user that the package made."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server that lives as long as the test session."""
    initdb, pg_ctl = _postgres_binary("initdb"), _postgres_binary("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="hpo-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, sockets = folder / "data", folder
    run = _as_postgres()
    subprocess.run(
        [*run, initdb, "-D", str(data), "-U", "hpo", "-A", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
    )
    options = f"-c listen_addresses='' -c fsync=off -k {sockets}"
    subprocess.run(
        [*run, pg_ctl, "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    try:
        yield f"postgresql+psycopg://hpo@/postgres?host={sockets}"
    finally:
        subprocess.run([*run, pg_ctl, "-D", str(data), "-m", "immediate", "stop"], capture_output=True, cwd="/")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mysql() -> Iterator[str]:
    """The URL of a real MariaDB server that lives as long as the test session."""
    install, server = (
        shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        for name in ("mariadb-install-db", "mariadbd")
    )
    if not install or not server:
        pytest.skip("MariaDB is not installed")
    folder = Path(tempfile.mkdtemp(prefix="hpo-my-"))
    command = [install, "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db", *_AS_ROOT]
    subprocess.run([*command, "--auth-root-authentication-method=normal"], check=True, capture_output=True, cwd="/")
    process = start_mysql(server, folder)
    try:
        yield mysql_url(folder)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


_AS_ROOT = ["--user=root"] if os.geteuid() == 0 else []


def mysql_url(folder: Path) -> str:
    return f"mysql+pymysql://root@/mysql?unix_socket={folder / 'sock'}"


def start_mysql(server: str, folder: Path) -> subprocess.Popen[bytes]:
    """A MariaDB server over a data folder, which answers when this returns."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    process = subprocess.Popen(
        [
            server, "--no-defaults", f"--datadir={folder / 'data'}", f"--socket={folder / 'sock'}", "--skip-networking",
            f"--pid-file={folder / 'pid'}", f"--log-error={folder / 'log'}", "--innodb-flush-log-at-trx-commit=0",
            *_AS_ROOT,
        ]
    )  # fmt: skip
    engine = create_engine(mysql_url(folder))
    until = time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
            break
        except OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)
    engine.dispose()
    return process


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of every kind that a study can live in."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'hpo.db'}"
        return
    server = request.getfixturevalue({"postgresql": "postgres", "mysql": "mysql"}[request.param])
    from sqlalchemy import create_engine, text

    name = f"t{os.urandom(6).hex()}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.replace("/postgres?", f"/{name}?").replace("/mysql?", f"/{name}?")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}{' WITH (FORCE)' if request.param == 'postgresql' else ''}"))
    engine.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hpo.db'}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=False)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address and port of a server that speaks S3, on loopback."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3_place(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a new bucket, as a study file names it."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    bucket = f"b{os.urandom(6).hex()}"
    boto3.client("s3", endpoint_url=f"http://{s3_server}", region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/runs?endpoint_override={s3_server}&region=us-east-1&scheme=http"
