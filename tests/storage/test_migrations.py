"""A database that an earlier hpo made is brought up to date when it is opened; nothing in it is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

import storage
from hpo.errors import StorageError
from hpo.trial import StopKind, StopReason, TrialState
from storage.database import OUR_SCHEMA, Database
from storage.records import SEARCH, VALIDATE
from storage.studies import Studies
from tests import studies as helper
from tests.storage.test_database import ROOT, open_folder
from tests.storage.test_trials import PARAMS, SPACE, record

__all__ = ["open_folder"]  # a fixture


def made_by_the_first_hpo(url: str) -> None:
    """Optuna's tables, ours as of 0001, and one study with one trial, written with plain SQL."""
    with Database(url, create=True) as database:
        study = Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
        store = Studies(database).trials(study)
        store.start(0, PARAMS, seed=5, epochs=3)
        store.finish(
            0, StopReason(StopKind.FINISHED, "ran all 3 epochs"), values=[0.5], metrics={}, best_step=2, attempt=1
        )
    engine = create_engine(url)
    with engine.begin() as connection:
        was = {
            name: [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))]
            for name in ("hpo_studies", "hpo_trials", "hpo_attempts")
        }
        published = ("label_moves", "labels", "versions")
        tables = ("artifacts", "events", "launches", "leases", "models", "points", "attempts", "trials", "studies")
        for name in [*(f"hpo_{name}" for name in (*published, *tables)), "hpo_alembic_version"]:
            connection.execute(text(f"DROP TABLE {name}"))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(storage.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        for name, rows in was.items():
            for row in rows:
                kept = {
                    column: value
                    for column, value in row.items()
                    if column not in ("id", "fold", "folds", "violations")
                }
                places = ", ".join(f":{column}" for column in kept)
                connection.execute(text(f"INSERT INTO {name} ({', '.join(kept)}) VALUES ({places})"), kept)
    engine.dispose()
    assert helper.rows(url, "SELECT version_num FROM hpo_alembic_version") == [("0001",)]


def test_a_database_of_the_first_schema_is_upgraded_on_opening(storage_url: str) -> None:
    made_by_the_first_hpo(storage_url)
    with Database(storage_url) as database:
        studies = Studies(database)
        study = studies.get("s")
        (old,) = studies.trials(study, SEARCH).records()
        assert (old.params, old.seed, old.values, old.fold) == (PARAMS, 5, (0.5,), None)
        studies.trials(study, VALIDATE).start(0, PARAMS, seed=9, epochs=3, subject=0, fold=(0, 5))
        (new,) = studies.snapshot("s").others[VALIDATE]
        assert (new.state, new.subject, new.fold) == (TrialState.RUNNING, 0, (0, 5))
    assert helper.rows(storage_url, "SELECT version_num FROM hpo_alembic_version") == [(OUR_SCHEMA,)]
    found = helper.rows(storage_url, "SELECT series, fold, folds FROM hpo_trials ORDER BY series")
    assert found == [("search", None, None), ("validate", 0, 5)]


@pytest.mark.parametrize("made", [1, 2])
def test_a_migration_that_broke_off_is_taken_up(storage_url: str, made: int) -> None:
    """MariaDB commits each change of a table by itself; so it is left with the first ones."""
    made_by_the_first_hpo(storage_url)
    engine = create_engine(storage_url)
    with engine.begin() as connection:
        for column in ("fold", "folds")[:made]:
            connection.execute(text(f"ALTER TABLE hpo_trials ADD COLUMN {column} INTEGER"))
    engine.dispose()
    Database(storage_url).close()
    assert helper.rows(storage_url, "SELECT version_num FROM hpo_alembic_version") == [(OUR_SCHEMA,)]
    assert helper.rows(storage_url, "SELECT fold, folds, violations FROM hpo_trials") == [(None, None, None)]


def test_first_tables_that_were_left_half_made_are_completed(storage_url: str) -> None:
    Database(storage_url, create=True).close()
    engine = create_engine(storage_url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM hpo_alembic_version"))
        for name in ("points", "attempts"):
            connection.execute(text(f"DROP TABLE hpo_{name}"))
    engine.dispose()
    Database(storage_url, create=True).close()
    assert helper.rows(storage_url, "SELECT count(*) FROM hpo_points") == [(0,)]
    assert helper.rows(storage_url, "SELECT version_num FROM hpo_alembic_version") == [(OUR_SCHEMA,)]


OPEN = "import sys; from storage.database import Database; Database(sys.argv[1]).close()"


def test_an_old_database_that_cannot_be_written_says_so(open_folder: Path) -> None:
    url = f"sqlite:///{open_folder / 'old.db'}"
    made_by_the_first_hpo(url)
    (open_folder / "old.db").chmod(0o444)
    open_folder.chmod(0o555)
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    opened = subprocess.run(
        [*bound, sys.executable, "-c", OPEN, url], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert opened.returncode != 0
    assert "of an earlier hpo" in opened.stderr and "0002" in opened.stderr


def test_an_empty_database_is_not_made_one_of_ours_by_looking(sqlite_url: str) -> None:
    Path(sqlite_url.removeprefix("sqlite:///")).touch()
    with pytest.raises(StorageError, match="holds no hpo studies yet"):
        Database(sqlite_url)


def test_seconds_of_work_leave_out_pauses_and_what_a_dead_process_did_not_do(storage_url: str) -> None:
    with Database(storage_url, create=True) as database:
        studies = Studies(database)
        study = studies.create(record(), identity={}, space=SPACE, folder="/none")
        store = studies.trials(study, "retrain")
        store.start(0, PARAMS, seed=1, epochs=3)
        assert studies.worked_s(study, "retrain", 0) is None
        store.start(1, PARAMS, seed=1, epochs=3)
    engine = create_engine(storage_url)
    with engine.begin() as connection:
        key = connection.execute(text("SELECT id FROM hpo_trials WHERE number = 1")).scalar_one()
        day = "2026-01-01T00:"
        connection.execute(text(f"UPDATE hpo_trials SET finished_at = '{day}59:00+00:00' WHERE number = 1"))
        connection.execute(text(f"DELETE FROM hpo_attempts WHERE trial = {key}"))
        for attempt, (start, end, how) in enumerate(
            [("00:00", "01:30", "interrupted"), ("10:00", "40:00", "lost"), ("50:00", "50:20", "finished")], 1
        ):
            connection.execute(
                text(
                    "INSERT INTO hpo_attempts (trial, attempt, started_at, ended_at, ended_how) VALUES "
                    f"({key}, {attempt}, '{day}{start}+00:00', '{day}{end}+00:00', '{how}')"
                )
            )
        connection.execute(
            text(
                "INSERT INTO hpo_points (trial, step, attempt, at, metrics) "
                f"VALUES ({key}, 1, 2, '{day}10:05+00:00', '{{}}')"
            )
        )
    engine.dispose()
    with Database(storage_url) as database:
        # 90 s, then 5 s up to the dead process's last report, then 20 s
        assert Studies(database).worked_s(study, "retrain", 1) == 115.0
