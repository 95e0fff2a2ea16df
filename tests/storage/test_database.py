"""Opening a database: what is shown of its URL, several first launches at once, read-only files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from hpo.errors import StorageError
from storage import urls
from storage.database import OUR_SCHEMA, Database
from tests import studies as helper

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:s3kret@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db?password=s3kret", "postgresql://u@h/db?password=***"),
        ("postgresql://u@h/db?sslpassword=s3kret&sslmode=require", "postgresql://u@h/db?sslmode=require&sslpassword=***"),
        ("mysql+pymysql://u:s3%40kret@h/db?ssl_key=/s3kret", "mysql+pymysql://u:***@h/db?ssl_key=***"),
        ("oracle+oracledb://u:s3kret@h/?wallet_password=s3kret", "oracle+oracledb://u:***@h/?wallet_password=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Ds3kret", "mssql+pyodbc:///?odbc_connect=***"),
        ("postgresql://u@h/db?auth_token=s3kret&auth_token=s3kret", "postgresql://u@h/db?auth_token=***"),
    ],
)  # fmt: skip
def test_no_secret_of_a_url_is_shown(url: str, shown: str) -> None:
    assert urls.shown(urls.parse(url)) == shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://user:s3kret:5432/db", "is no database URL"),
        ("postgresql://u:p@s3kret@h/db", r"postgresql://\*\*\* has more than one @.*percent-encode @ in the password"),
        ("mysql+pymysql://u:p@s3/kret@h/db", r"%40"),
        ("postgresql://u:p@s3kret?x=y@h/db", r"%40"),
        ("postgresql://u:s3@kret:x@h/db", "is no database URL"),
    ],
)
def test_a_url_whose_parts_cannot_be_told_apart_is_refused_without_showing_it(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as refused:
        Database(url)
    assert "s3" not in str(refused.value)
    assert "kret" not in str(refused.value)


def test_a_driver_that_quotes_a_secret_is_not_repeated(tmp_path: Path) -> None:
    url = urls.parse("postgresql://u:s3k%40ret@h/db?sslpassword=s3kret2&token=abc")
    told = "could not use 's3k@ret' nor s3k%40ret nor sslpassword=s3kret2 nor token=abc of abcde"
    assert urls.without_secrets(url, told) == ("could not use '***' nor *** nor sslpassword=*** nor token=*** of abcde")


def test_the_reason_of_a_failure_holds_no_secret(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'x.db'}", create=True) as database:
        database._url = urls.parse("postgresql://u@h/db?password=s3kret")
        with pytest.raises(StorageError, match=r"refused \*\*\*") as failed, database.read():
            raise OperationalError("SELECT 1", None, Exception("refused s3kret"))
    assert "s3kret" not in str(failed.value)


FIRST_LAUNCH = """
import sys, time
from pathlib import Path
from hpo.errors import StudyBusy
from storage.database import Database
from storage.studies import Studies
from tests.storage.test_trials import SPACE, record
import optuna.storages, alembic.command
url, folder, who = sys.argv[1:]
(Path(folder) / f"ready{who}").touch()
while not (Path(folder) / "go").exists():
    time.sleep(0.001)
with Database(url, create=True) as database:
    try:
        Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
        print("created")
    except StudyBusy:
        print("busy")
"""


@pytest.mark.parametrize(
    "storage_url", ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.slow)], indirect=True
)
def test_of_several_first_launches_one_wins_and_the_others_say_so(storage_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "signals"
    folder.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_LAUNCH, storage_url, str(folder), str(who)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for who in range(3)
    ]  # fmt: skip
    for _ in range(600):
        if len(list(folder.iterdir())) == len(processes) or any(p.poll() is not None for p in processes):
            break
        time.sleep(0.1)
    (folder / "go").touch()
    ended = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0], ended
    assert Counter(out.strip() for out, _ in ended) == {"created": 1, "busy": 2}
    assert helper.rows(storage_url, "SELECT name FROM hpo_studies") == [("s",)]
    assert helper.rows(storage_url, "SELECT version_num FROM hpo_alembic_version") == [(OUR_SCHEMA,)]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user of the machine can enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="hpo-read-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


LIST = """
import sys
from storage.database import Database
from storage.studies import Studies
with Database(sys.argv[1]) as database:
    print(Studies(database).names())
"""


def listed_by_a_plain_user(url: str) -> subprocess.CompletedProcess[str]:
    """The names in a database, seen without root's right to do what no permission allows."""
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*bound, sys.executable, "-c", LIST, url], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_read_only_file_in_a_read_only_folder_is_read(open_folder: Path, mode: str) -> None:
    from storage.studies import Studies
    from tests.storage.test_trials import SPACE, record

    path = open_folder / "a b.db"
    with Database(f"sqlite:///{path}", create=True) as database:
        Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
    plain = sqlite3.connect(path)
    assert plain.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    plain.close()
    path.chmod(0o444)
    open_folder.chmod(0o555)
    seen = listed_by_a_plain_user(f"sqlite:///{path}")
    assert (seen.stdout.strip(), seen.returncode) == ("['s']", 0), seen.stderr
    assert [p.name for p in open_folder.iterdir()] == ["a b.db"]


def test_opening_to_read_writes_nothing(open_folder: Path) -> None:
    path = open_folder / "x.db"
    with Database(f"sqlite:///{path}", create=True):
        pass
    before = path.read_bytes()
    with Database(f"sqlite:///{path}") as database, database.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert path.read_bytes() == before


def test_names_that_differ_in_case_and_any_character_are_kept_apart(storage_url: str) -> None:
    from dataclasses import replace

    from search_spaces import Float, SearchSpace
    from storage.studies import Studies
    from tests.storage.test_trials import record

    space, params = SearchSpace({"lr": Float(0, 1), "LR": Float(0, 1), "größe 🙂": Float(0, 1)}), [0.1, 0.2, 1 / 3]
    with Database(storage_url, create=True) as database:
        studies = Studies(database)
        for name in ("study", "Study"):
            study = studies.create(replace(record(), name=name), identity={}, space=space, folder="/none")
        studies.trials(study).start(0, dict(zip(space, params, strict=True)), seed=1, epochs=1)
    assert helper.rows(storage_url, "SELECT count(*) FROM hpo_studies WHERE name = 'study'") == [(1,)]
    kept = helper.rows(storage_url, "SELECT param_name, param_value FROM trial_params")
    assert sorted(kept) == sorted(zip(space, params, strict=True))
