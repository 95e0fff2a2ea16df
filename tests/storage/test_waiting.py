"""A server that goes away is waited for by the driver alone; what was written counts once, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from hpo.errors import StorageError, StorageLost, UserError
from hpo.trial import Event, Point, StopKind, StopReason
from storage import waiting
from storage.database import Database
from storage.leases import Lease
from storage.studies import Studies
from tests import processes
from tests.servers import SERVERS, Server, new_database
from tests.storage.test_checking import change
from tests.storage.test_trials import PARAMS, SPACE, record
from tests.studies import rows, write

DONE = StopReason(StopKind.FINISHED, "ran all 3 epochs")


@pytest.fixture(params=["postgresql", pytest.param("mysql", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own, which it may kill."""
    server = SERVERS[request.param]()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def lose_acknowledgements(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every second commit is made, and then the connection breaks before anybody is told."""
    dialect, made = database.engine.dialect, [0]
    commit = dialect.do_commit

    def commit_and_break(connection: Any) -> None:
        commit(connection)
        made[0] += 1
        if made[0] % 2:
            connection.driver_connection.close()
            number = () if dialect.name == "postgresql" else (2013,)
            raise dialect.loaded_dbapi.OperationalError(*number, "server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", commit_and_break)


def test_what_was_committed_without_an_answer_counts_once(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if storage_url.startswith("sqlite"):
        pytest.skip("a file has no connection to lose")
    monkeypatch.setattr(waiting, "_FIRST_PAUSE_S", 0.01)
    with Database(storage_url, create=True) as database:
        studies = Studies(database)
        study = studies.create(record(), identity={}, space=SPACE, folder="/none")
        with Lease(database, study.id, "s") as lease:
            lease._released.set()  # no heartbeats in between: they commit, too
            lose_acknowledgements(database, monkeypatch)
            store = studies.trials(study)
            for number in range(3):
                store.start(number, PARAMS, seed=5, epochs=3)
                for step in (1, 2):
                    events = (Event("health", "a rule", {}),)
                    store.add_point(number, Point(step, {"loss": 0.5}, events=events), attempt=1, first=step == 1)
                store.finish(number, DONE, values=[0.5], metrics={"loss": 0.5}, best_step=2, attempt=1)
            studies.add_event(study, Event("split", "once", {}))
            monkeypatch.undo()
    told = capsys.readouterr().err
    assert told.count("does not answer") == told.count("is back after") == 13  # 3 × (start, 2 points, finish), an event
    for table, count in {
        "hpo_trials": 3, "hpo_attempts": 3, "hpo_points": 6, "trials": 3, "trial_values": 3,
        "trial_params": 3 * len(PARAMS), "hpo_events WHERE kind = 'health'": 6, "hpo_events WHERE kind = 'split'": 1,
    }.items():  # fmt: skip
        assert rows(storage_url, f"SELECT count(*) FROM {table}") == [(count,)], table


def test_a_study_goes_on_when_its_server_was_killed_and_came_back(server: Server, tmp_path: Path) -> None:
    url, acknowledged = new_database(server), set[tuple[Any, ...]]()
    # Held trials: whatever this process is kept from doing, the study does not end before its server was killed twice.
    write(tmp_path, objective=processes.hold(tmp_path, 75, 149), budget={"trials": 150, "epochs": 20})
    launched = processes.start(tmp_path, url)
    try:
        processes.wait_for_points(url, launched)
        for held in (75, 149):
            before = len(acknowledged)
            processes.wait_until(lambda before=before: processes.count(url, "hpo_points") > before, launched)
            acknowledged = set(rows(url, "SELECT trial, step, metrics FROM hpo_points"))
            server.kill()
            (tmp_path / f"go-{held}").touch()
            processes.wait_for_words(launched, "does not answer")
            assert launched.poll() is None
            server.start()
            assert acknowledged <= set(rows(url, "SELECT trial, step, metrics FROM hpo_points"))
            processes.wait_for_words(launched, "is back after")
        _, told = launched.communicate(timeout=processes.PATIENCE_S)
    finally:
        processes.kill(launched)
    assert launched.returncode == 0, told
    assert "does not answer" not in told and "is back after" not in told
    assert rows(url, "SELECT state, count(*) FROM hpo_trials GROUP BY state") == [("complete", 150)]
    assert rows(url, "SELECT state, count(*) FROM trials GROUP BY state") == [("COMPLETE", 150)]
    assert rows(url, "SELECT count(*), count(DISTINCT number), min(number), max(number) FROM hpo_trials") == [
        (150, 150, 0, 149)
    ]
    assert rows(url, "SELECT count(*) FROM hpo_points") == [(150 * 20,)]
    assert rows(url, "SELECT count(*) FROM trial_values") == [(150,)]
    assert rows(url, "SELECT count(*), max(attempt) FROM hpo_attempts") == [(150, 1)]


@pytest.mark.parametrize(("wait_s", "told"), [("0.5", 1), ("0", 0)])
def test_the_driver_gives_up_after_its_time(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait_s: str, told: int
) -> None:
    monkeypatch.setenv("HPO_STORAGE_WAIT", wait_s)
    url = new_database(server)
    with Database(url, create=True) as database:
        studies = Studies(database)
        study = studies.create(record(), identity={}, space=SPACE, folder="/none")
        store = studies.trials(study)
        lease = Lease(database, study.id, "s").__enter__()
        server.kill()
        with pytest.raises(StorageError):
            store.start(0, PARAMS, seed=5, epochs=3)
        with pytest.raises(StorageError):
            lease.__exit__()
    assert capsys.readouterr().err.count("does not answer") == told


def test_a_transaction_that_a_deadlock_undid_is_made_again(storage_url: str) -> None:
    if storage_url.startswith("sqlite"):
        pytest.skip("a file has one writer at a time")
    with Database(storage_url, create=True) as database:
        studies = Studies(database)
        study = studies.create(record(), identity={}, space=SPACE, folder="/none")
        with Lease(database, study.id, "s") as lease:
            lease._released.set()
            store = studies.trials(study)
            for number in range(9):
                store.start(number, PARAMS, seed=5, epochs=3)
            first, *others = (id for (id,) in rows(storage_url, "SELECT id FROM hpo_trials ORDER BY id"))
            both_hold_one, runs = threading.Barrier(2, timeout=processes.PATIENCE_S), []

            def work(conn: Connection) -> None:
                runs.append(conn)
                conn.execute(text(f"UPDATE hpo_trials SET attempts = attempts + 1 WHERE id = {first}"))
                if len(runs) == 1:
                    both_hold_one.wait()
                    wait_for_one_that_waits(storage_url)
                conn.execute(text(f"UPDATE hpo_trials SET attempts = attempts + 1 WHERE id = {others[0]}"))

            rival = threading.Thread(target=take_the_other_way_round, args=(storage_url, first, both_hold_one))
            rival.start()
            database.transact(work)
            rival.join()
    assert len(runs) == 2
    assert rows(storage_url, f"SELECT attempts, worker FROM hpo_trials WHERE id <= {others[0]} ORDER BY id") == [
        (2, "rival"),
        (2, "rival"),
    ]


def wait_for_one_that_waits(url: str) -> None:
    """Until a transaction stands still for another's lock: PostgreSQL looks for a deadlock once, a second later."""
    query = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        "mysql": "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }[url.partition("+")[0]]
    deadline = time.monotonic() + processes.PATIENCE_S
    while not rows(url, query):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def take_the_other_way_round(url: str, first: int, both_hold_one: threading.Barrier) -> None:
    """Lock all trials but the first, then the first; made so that the server gives up the other transaction.

    PostgreSQL ends the one that looks for a deadlock first, MariaDB the one that has written less.
    """
    engine = create_engine(url)
    with engine.begin() as conn:
        if url.startswith("postgresql"):
            conn.execute(text("SET LOCAL deadlock_timeout = '600s'"))
        conn.execute(text(f"UPDATE hpo_trials SET worker = 'rival' WHERE id > {first}"))
        both_hold_one.wait()
        conn.execute(text(f"UPDATE hpo_trials SET worker = 'rival' WHERE id = {first}"))
    engine.dispose()


def test_who_only_looks_does_not_wait(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = new_database(server)
    Database(url, create=True).close()
    server.kill()
    with pytest.raises(StorageError):
        Database(url)
    assert capsys.readouterr().err == ""


def test_a_driver_that_lost_its_lease_writes_nothing(storage_url: str) -> None:
    with Database(storage_url, create=True) as database:
        studies = Studies(database)
        study = studies.create(record(), identity={}, space=SPACE, folder="/none")
        store = studies.trials(study)
        with Lease(database, study.id, "s"):
            store.start(0, PARAMS, seed=5, epochs=3)
            change(storage_url, "UPDATE hpo_leases SET owner = 'another'")
            for write_something in (
                lambda: store.start(1, PARAMS, seed=5, epochs=3),
                lambda: store.add_point(0, Point(1, {"loss": 0.5}), attempt=1),
                lambda: store.finish(0, DONE, values=[0.5], metrics={}, best_step=1, attempt=1),
                lambda: studies.add_event(study, Event("split", "", {})),
            ):
                with pytest.raises(StorageLost, match="took study 's' over"):
                    write_something()
    assert rows(storage_url, "SELECT number, state FROM hpo_trials") == [(0, "running")]
    assert rows(storage_url, "SELECT count(*) FROM hpo_points") == [(0,)]
    assert rows(storage_url, "SELECT count(*) FROM hpo_events") == [(0,)]


def test_a_mistyped_host_is_told_at_once(tmp_path: Path) -> None:
    for url in ("postgresql://me@db.invalid/studies", "mysql+pymysql://me@127.0.0.1:9/studies"):
        done = processes.hpo(tmp_path, "list", "--storage", url)
        assert done.returncode == 2
        assert "waiting" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("text", ["-1", "soon", "inf", "nan"])
def test_a_wait_that_is_no_number_of_seconds_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("HPO_STORAGE_WAIT", text)
    with pytest.raises(UserError, match="HPO_STORAGE_WAIT"):
        Database(f"sqlite:///{tmp_path / 'hpo.db'}", create=True)
    assert list(tmp_path.iterdir()) == []
