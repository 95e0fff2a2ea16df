"""What is known of artifacts, in our table and where Optuna looks for it."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from hpo import service
from storage import artifacts, checking
from storage.database import Database
from storage.records import RETRAIN, SEARCH, ArtifactRecord
from storage.studies import StoredStudy, Studies
from tests import studies as helper
from tests.storage.test_trials import PARAMS, SPACE, record

ID = "00000000-0000-4000-8000-00000000000"  # and one digit more


def artifact(digit: int, number: int, series: str = SEARCH, name: str = "a.png") -> ArtifactRecord:
    at = f"2026-01-01T00:00:0{digit}+00:00"
    return ArtifactRecord(f"{ID}{digit}", series, number, "picture", name, 2**40, "f" * 64, at, "/place")


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    with Database(storage_url, create=True) as opened:
        yield opened


@pytest.fixture
def study(database: Database) -> StoredStudy:
    studies = Studies(database)
    study = studies.create(record(), identity={}, space=SPACE, folder="/none")
    for number in range(2):
        studies.trials(study).start(number, PARAMS, seed=1, epochs=1)
    studies.trials(study, RETRAIN).start(0, PARAMS, seed=1, epochs=1, subject=1)
    return study


def test_optuna_lists_them_with_the_trial_or_with_the_study(
    database: Database, study: StoredStudy, storage_url: str
) -> None:
    kept = [artifact(1, 1), artifact(2, 1, name="log.txt"), artifact(3, 0, RETRAIN)]
    artifacts.add(database, study.id, kept)
    theirs = optuna.load_study(study_name="s", storage=storage_url)
    metas = [get_all_artifact_meta(trial, storage=theirs._storage) for trial in theirs.trials]
    assert metas[0] == []
    assert [(m.artifact_id, m.filename, m.mimetype, m.encoding) for m in metas[1]] == [
        (f"{ID}1", "a.png", "image/png", None), (f"{ID}2", "log.txt", "text/plain", None),
    ]  # fmt: skip
    assert [meta.artifact_id for meta in get_all_artifact_meta(theirs)] == [f"{ID}3"]
    assert service.snapshot(storage_url, "s").artifacts == tuple(kept)
    assert artifacts.find(database, f"{ID}2") == kept[1] and artifacts.find(database, "none") is None
    assert checking.examine(database).counts["hpo_artifacts"] == 3


def test_what_is_removed_is_gone_from_both(database: Database, study: StoredStudy, storage_url: str) -> None:
    artifacts.add(
        database, study.id, [artifact(i, i % 2, series) for i, series in enumerate((SEARCH, SEARCH, RETRAIN))]
    )
    artifacts.remove(database, [f"{ID}1", f"{ID}2", "unknown"])
    theirs = optuna.load_study(study_name="s", storage=storage_url)
    assert [len(get_all_artifact_meta(trial, storage=theirs._storage)) for trial in theirs.trials] == [1, 0]
    assert get_all_artifact_meta(theirs) == []
    assert [found.id for found in service.snapshot(storage_url, "s").artifacts] == [f"{ID}0"]


def test_thousands_are_added_and_removed_at_once(database: Database, study: StoredStudy, storage_url: str) -> None:
    many = [ArtifactRecord(f"{i:036d}", SEARCH, i % 2, "log", "x", 1, "0" * 64, "t", "/p") for i in range(1200)]
    artifacts.add(database, study.id, many)
    counts = "SELECT count(*) FROM trial_system_attributes WHERE key LIKE 'artifacts:%'".replace("key", _key(database))
    assert helper.rows(storage_url, counts) == [(1200,)]
    artifacts.remove(database, [one.id for one in many])
    assert helper.rows(storage_url, counts) == helper.rows(storage_url, "SELECT count(*) FROM hpo_artifacts") == [(0,)]


def _key(database: Database) -> str:
    return "`key`" if database.engine.dialect.name in ("mysql", "mariadb") else "key"
