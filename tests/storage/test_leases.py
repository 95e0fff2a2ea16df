"""A lease that is lost, and whose clock it goes by; who may take one stands in test_trials."""

from __future__ import annotations

import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from hpo.errors import StudyBusy
from storage import codec, leases
from storage.database import Database, now
from storage.leases import Lease
from storage.studies import Studies
from tests import studies as helper
from tests.storage.test_trials import SPACE, record


def make_study(database: Database) -> int:
    return Studies(database).create(record(), identity={}, space=SPACE, folder="/none").id


def test_a_driver_learns_that_its_lease_was_taken_over(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    told = threading.Event()
    with Database(storage_url, create=True) as database:
        with Lease(database, make_study(database), "s", on_lost=told.set) as lease:
            assert not lease.lost
            with database.write() as conn:
                conn.execute(text("UPDATE hpo_leases SET owner = 'another'"))
            assert told.wait(300)
            assert lease.lost
        assert helper.rows(storage_url, "SELECT owner FROM hpo_leases") == [("another",)]


def test_a_lease_that_is_kept_beats_on(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    with Database(storage_url, create=True) as database, Lease(database, make_study(database), "s") as lease:
        first = helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases")
        deadline = time.monotonic() + 300
        while helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases") == first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases") > first
        assert not lease.lost


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="the kernel tells no names of processes here")
def test_a_process_may_bear_a_name_that_is_no_text() -> None:
    name, started = Path("/proc/self/comm"), leases._process_started(os.getpid())
    before = name.read_bytes()
    try:
        name.write_bytes(b"\xff) R (")
        assert leases._process_started(os.getpid()) == started
    finally:
        name.write_bytes(before)


def test_heartbeats_go_by_the_databases_clock(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(storage_url, create=True) as database:
        study = make_study(database)
        monkeypatch.setattr(codec, "now", lambda: "2001-01-01T00:00:00.000000+00:00")  # this machine's clock is wrong
        with Lease(database, study, "s"):
            ((beat,),) = helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases")
        with database.read() as conn:
            moment = datetime.fromisoformat(now(conn))
    assert not beat.startswith("2001")
    assert abs((moment - datetime.now(UTC)).total_seconds()) < 60
    assert abs((moment - datetime.fromisoformat(beat)).total_seconds()) < 60


def test_of_two_that_take_over_a_dead_lease_at_once_one_is_told_so(storage_url: str) -> None:
    """The other has put its own row in the place of the dead one's, and commits while we wait for that row."""
    told: list[StudyBusy] = []

    def take(database: Database, study: int) -> None:
        try:
            with Lease(database, study, "s"):
                pass
        except StudyBusy as error:
            told.append(error)

    me = {"host": socket.gethostname(), "pid": os.getpid(), "started": leases._process_started(os.getpid())}
    put = text(
        "INSERT INTO hpo_leases (study_id, owner, host, pid, process_started, heartbeat_at) "
        "VALUES (:study, :owner, :host, :pid, :started, '2026-01-01T00:00:00.000000+00:00')"
    )
    with Database(storage_url, create=True) as database:
        study = make_study(database)
        with database.write() as conn:
            conn.execute(put, {**me, "study": study, "owner": "dead", "started": "long ago"})
        second = threading.Thread(target=take, args=(database, study))
        with database.write() as conn:
            conn.execute(text("DELETE FROM hpo_leases"))
            conn.execute(put, {**me, "study": study, "owner": "quicker"})
            second.start()
            time.sleep(0.3)  # so that it waits for the row by now
        second.join(300)
        assert helper.rows(storage_url, "SELECT owner FROM hpo_leases") == [("quicker",)]
    assert len(told) == 1
