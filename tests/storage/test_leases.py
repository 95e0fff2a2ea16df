"""A lease that is lost, and whose clock it goes by; who may take one stands in test_trials."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

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
            assert told.wait(10)
            assert lease.lost
        assert helper.rows(storage_url, "SELECT owner FROM hpo_leases") == [("another",)]


def test_a_lease_that_is_kept_beats_on(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    with Database(storage_url, create=True) as database, Lease(database, make_study(database), "s") as lease:
        first = helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases")
        for _ in range(200):
            if helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases") != first:
                break
            threading.Event().wait(0.02)
        assert helper.rows(storage_url, "SELECT heartbeat_at FROM hpo_leases") > first
        assert not lease.lost


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
