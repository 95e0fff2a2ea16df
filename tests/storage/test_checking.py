"""hpo db check finds what is wrong, on every kind of database, and nothing where nothing is."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from hpo import service
from hpo.errors import StorageError
from hpo.trial import StopKind, StopReason
from storage.database import OUR_SCHEMA, Database
from storage.optuna_rows import OPTUNA_SCHEMA
from storage.studies import Studies
from tests.storage.test_trials import PARAMS, SPACE, record
from tests.studies import launch, rows


def change(url: str, *statements: str) -> None:
    """Plain SQL, as somebody would type it; foreign keys are not in its way."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if connection.dialect.name == "mysql":
            connection.execute(text("SET foreign_key_checks = 0"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def problems(url: str) -> list[str]:
    return [problem.what for problem in service.check_database(url).problems]


@pytest.fixture
def studied(storage_url: str) -> str:
    """A database with one study of two complete trials, 0 and 1, each with a point."""
    with Database(storage_url, create=True) as database:
        study = Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
        store = Studies(database).trials(study)
        for number in range(2):
            store.start(number, PARAMS, seed=5, epochs=3)
            done = StopReason(StopKind.FINISHED, "ran all 3 epochs")
            store.finish(number, done, values=[0.1], metrics={"loss": 0.1}, best_step=2, attempt=1)
    return storage_url


def test_a_sound_database_has_no_problems_and_right_counts(studied: str) -> None:
    found = service.check_database(studied)
    assert found.problems == ()
    assert (found.versions.ours, found.versions.optuna) == (OUR_SCHEMA, OPTUNA_SCHEMA)
    counted = {name: rows(studied, f"SELECT count(*) FROM {name}")[0][0] for name in found.counts}
    assert dict(found.counts) == counted
    assert (counted["hpo_trials"], counted["trials"], counted["hpo_studies"]) == (2, 2, 1)


def test_what_optuna_keeps_of_pruned_and_infinite_trials_is_no_problem(sqlite_url: str, tmp_path: Path) -> None:
    theirs = optuna.create_study(storage=f"sqlite:///{tmp_path / 'theirs.db'}", study_name="theirs")
    for number, ending in enumerate([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]):
        trial = theirs.ask({"x": FloatDistribution(0, 1)})
        trial.report(float(number), 1)
        theirs.tell(trial, [0.5, math.inf, None][number], state=ending)  # gives the pruned one the value 2.0
    service.import_trials(str(tmp_path / "theirs.db"), storage=sqlite_url, runs=tmp_path)
    assert problems(sqlite_url) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE trials SET state = 'FAIL' WHERE number = 1", "Optuna's tables say other things of trials 1"),
        ("UPDATE trials SET number = 7 WHERE number = 1", "Optuna's tables say other things of trials 1"),
        ("UPDATE trial_values SET value = 0.25", "Optuna's tables say other things of trials 0, 1"),
        ("DELETE FROM trial_params", "Optuna's tables say other things of trials 0, 1"),
        ("DELETE FROM hpo_trials WHERE number = 1", "1 trials of Optuna's tables are not of hpo's making"),
        ("DELETE FROM hpo_trials WHERE number = 1", "1 rows of hpo_attempts belong to no row of hpo_trials"),
        ("DELETE FROM hpo_studies", "2 rows of hpo_trials belong to no row of hpo_studies"),
        ("UPDATE hpo_trials SET state = 'running' WHERE number = 1", "1 trials stand as running, and no process"),
    ],
)
def test_what_is_wrong_is_told(studied: str, damage: str, told: str) -> None:
    change(studied, damage)
    assert any(told in problem for problem in problems(studied)), problems(studied)


def test_a_trial_under_a_live_lease_may_run(studied: str) -> None:
    from storage.leases import Lease

    change(studied, "UPDATE hpo_trials SET state = 'running'", "UPDATE trials SET state = 'RUNNING'")
    assert any("no process runs them" in problem for problem in problems(studied))
    with Database(studied) as database, Lease(database, Studies(database).get("s").id, "s"):
        assert problems(studied) == []


def test_an_older_schema_is_told_and_left_alone_until_upgraded(storage_url: str) -> None:
    from tests.storage.test_migrations import made_by_the_first_hpo

    made_by_the_first_hpo(storage_url)
    (problem,) = service.check_database(storage_url).problems
    assert "0001" in problem.what and "hpo db upgrade" in problem.remedy
    assert rows(storage_url, "SELECT version_num FROM hpo_alembic_version") == [("0001",)]
    done = service.upgrade_database(storage_url)
    assert (done.before.ours, done.after.ours) == ("0001", OUR_SCHEMA)
    if done.copy is None:
        assert not storage_url.startswith("sqlite")
    else:
        assert rows(f"sqlite:///{done.copy}", "SELECT version_num FROM hpo_alembic_version") == [("0001",)]
    assert problems(storage_url) == []
    assert service.upgrade_database(storage_url).copy is None


@pytest.mark.parametrize("table", ["hpo_alembic_version", "alembic_version"])
def test_a_newer_schema_is_refused_and_nothing_is_copied(sqlite_url: str, tmp_path: Path, table: str) -> None:
    Database(sqlite_url, create=True).close()
    change(sqlite_url, f"UPDATE {table} SET version_num = '9999'")
    for use in (lambda: Database(sqlite_url).close(), lambda: service.upgrade_database(sqlite_url)):
        with pytest.raises(StorageError, match="newer.*[Ii]nstall"):
            use()
    assert len(problems(sqlite_url)) == 1
    assert [path.name for path in tmp_path.glob("*.db")] == ["hpo.db"]


def test_optunas_own_older_schema_is_upgraded_by_optuna(sqlite_url: str) -> None:
    """v3.0.0.d lacks an index, which Optuna's v3.2.0.a adds (its optuna/storages/_rdb/alembic/versions)."""
    Database(sqlite_url, create=True).close()
    change(
        sqlite_url,
        "DROP INDEX ix_trials_study_id",
        "UPDATE alembic_version SET version_num = 'v3.0.0.d'",
    )
    with pytest.raises(StorageError, match="hpo db upgrade"):
        Database(sqlite_url)
    done = service.upgrade_database(sqlite_url)
    assert (done.before.optuna, done.after.optuna) == ("v3.0.0.d", OPTUNA_SCHEMA)
    assert rows(sqlite_url, "SELECT 1 FROM sqlite_master WHERE name = 'trials_study_id_key'") == [(1,)]
    assert problems(sqlite_url) == []


def test_a_damaged_file_is_told(sqlite_url: str, tmp_path: Path) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2})
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:  # an index that lacks a row: SQLite's own example of corruption
        connection.execute(text("PRAGMA writable_schema = ON"))
        connection.execute(text("DELETE FROM sqlite_master WHERE name = 'hpo_events_study'"))
    engine.dispose()
    assert any("The file is damaged" in problem for problem in problems(sqlite_url))


def test_a_copy_holds_everything_and_replaces_no_file(sqlite_url: str, tmp_path: Path) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2})
    copy = service.backup_database(sqlite_url)
    assert problems(f"sqlite:///{copy}") == []
    assert rows(f"sqlite:///{copy}", "SELECT * FROM hpo_points") == rows(sqlite_url, "SELECT * FROM hpo_points")
    before = copy.read_bytes()
    for out, told in ((copy, "already"), (tmp_path / "none" / "x.db", "folder")):
        with pytest.raises(StorageError, match=told):
            service.backup_database(sqlite_url, out)
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("postgresql+psycopg://me:s3kret@h/studies", "pg_dump --format=custom .*'postgresql://me@h/studies'"),
        ("mysql+pymysql://me:s3kret@h/studies", "mysqldump --host=h --user=me --password --single-tr.*studies$"),
    ],
)  # fmt: skip
def test_of_a_server_the_command_that_copies_it_is_told(url: str, command: str) -> None:
    with pytest.raises(StorageError, match=command) as told:
        service.backup_database(url)
    assert "s3kret" not in str(told.value)
