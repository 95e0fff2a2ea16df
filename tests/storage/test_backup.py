"""Copies of a SQLite database: consistent while it is written to, whole or not at all, put back when it is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from hpo.errors import StorageError
from storage import backup
from tests.studies import launch, rows


def accounts(file: Path) -> sqlite3.Connection:
    """A WAL database of two accounts that hold 100 together, at every committed moment."""
    connection = sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER, note TEXT)")
    connection.execute("INSERT INTO account VALUES (1, 100, ''), (2, 0, '')")
    return connection


def ask(file: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_a_copy_taken_between_writes_is_of_one_moment(tmp_path: Path) -> None:
    stop = threading.Event()
    with closing(accounts(tmp_path / "a.db")) as connection:

        def move_money() -> None:
            while not stop.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE account SET money = money - 1, note = hex(randomblob(3000)) WHERE id = 1")
                connection.execute("UPDATE account SET money = money + 1 WHERE id = 2")
                connection.execute("COMMIT")

        writer = threading.Thread(target=move_money)
        writer.start()
        seen = set()
        try:
            deadline, copies = time.monotonic() + 300, 0
            while copies < 20 or (len(seen) < 2 and time.monotonic() < deadline):
                copies += 1
                backup.back_up(tmp_path / "a.db", tmp_path / "copy.db")
                assert ask(tmp_path / "copy.db", "PRAGMA integrity_check") == [("ok",)]
                ((first, total),) = ask(tmp_path / "copy.db", "SELECT min(money), sum(money) FROM account")
                assert total == 100
                seen.add(first)
        finally:
            stop.set()
            writer.join()
    assert len(seen) > 1  # or nothing was written meanwhile


def test_a_copy_is_one_file_that_needs_no_other(tmp_path: Path) -> None:
    with closing(accounts(tmp_path / "a.db")):  # open, so that its newest rows are in the -wal file
        assert (tmp_path / "a.db-wal").stat().st_size > 0
        (tmp_path / "there").mkdir()
        backup.back_up(tmp_path / "a.db", tmp_path / "there/copy.db")
    assert os.listdir(tmp_path / "there") == ["copy.db"]
    with closing(sqlite3.connect(tmp_path / "there/copy.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT sum(money) FROM account").fetchone() == (100,)


def test_a_copy_that_finds_no_room_leaves_the_one_before(small_disk: Path, tmp_path: Path) -> None:
    with closing(accounts(tmp_path / "a.db")) as connection:
        backup.back_up(tmp_path / "a.db", small_disk / "copy.db")
        connection.execute("UPDATE account SET note = hex(randomblob(2000000))")
        with pytest.raises(StorageError, match=r"Cannot copy the database .*a\.db to .*copy\.db: .*full"):
            backup.back_up(tmp_path / "a.db", small_disk / "copy.db")
    assert os.listdir(small_disk) == ["copy.db"]
    assert ask(small_disk / "copy.db", "SELECT sum(money) FROM account") == [(100,)]


def test_a_place_or_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    with closing(accounts(tmp_path / "a.db")), pytest.raises(StorageError, match="unable to open|No such file"):
        backup.back_up(tmp_path / "a.db", tmp_path / "none/copy.db")
    with pytest.raises(StorageError, match="unable to open"):
        backup.back_up(tmp_path / "none.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_lost_database_is_restored_with_its_folder_and_without_the_old_log(tmp_path: Path) -> None:
    lost = tmp_path / "home" / "a.db"
    lost.parent.mkdir()
    with closing(accounts(lost)) as connection:
        backup.back_up(lost, tmp_path / "copy.db")
        connection.execute("UPDATE account SET money = 7 WHERE id = 1")
        shutil.copy(lost.with_name("a.db-wal"), tmp_path / "old-wal")
    shutil.rmtree(lost.parent)
    lost.parent.mkdir()
    shutil.copy(tmp_path / "old-wal", lost.with_name("a.db-wal"))
    assert backup.restore(tmp_path / "copy.db", lost)
    assert os.listdir(lost.parent) == ["a.db"]
    assert ask(lost, "SELECT money FROM account ORDER BY id") == [(100,), (0,)]
    shutil.rmtree(lost.parent)
    assert backup.restore(tmp_path / "copy.db", lost)
    assert not backup.restore(tmp_path / "copy.db", lost)  # there is one now


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "no database"])
def test_a_damaged_copy_is_never_put_in_place(tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy.db"
    with closing(accounts(tmp_path / "a.db")) as connection:
        for i in range(3, 200):
            connection.execute("INSERT INTO account VALUES (?, 0, ?)", (i, "x" * 200))
        backup.back_up(tmp_path / "a.db", copy)
    content = copy.read_bytes()
    copy.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "overwritten": content[:8192] + os.urandom(8192) + content[16384:],
            "no database": b"x" * 5000,
        }[damage]
    )
    with pytest.raises(StorageError, match="Cannot restore the database"):
        backup.restore(copy, tmp_path / "home" / "a.db")
    assert os.listdir(tmp_path / "home") == []


def test_a_studys_last_change_is_the_newest_row_of_it(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2})
    launch(tmp_path, sqlite_url, name="other", budget={"trials": 1, "epochs": 1})
    newest = rows(
        sqlite_url, "SELECT max(ended_at) FROM hpo_launches JOIN hpo_studies USING (study_id) WHERE name = 'branin'"
    )
    digest = rows(sqlite_url, "SELECT digest FROM hpo_studies WHERE name = 'branin'")
    assert backup.find(tmp_path / "hpo.db", "branin") == backup.Found(digest[0][0], newest[0][0])
    assert backup.find(tmp_path / "hpo.db", "none") is None
    with closing(accounts(tmp_path / "a.db")):
        assert backup.find(tmp_path / "a.db", "branin") is None
    (tmp_path / "b.db").write_bytes(b"x" * 5000)
    with pytest.raises(StorageError, match="Cannot read the database"):
        backup.find(tmp_path / "b.db", "branin")
