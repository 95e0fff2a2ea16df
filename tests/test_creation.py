"""Creating a study, or holding a file against the stored one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import service
from hpo.errors import StudyChanged, StudyFileError, UserError
from objectives.analytic import Analytic
from tests.studies import launch, rows


def test_a_change_deep_inside_is_named_by_its_path(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    space = {f"x{i}": {"type": "float", "low": -5.0 if i == 0 else 0.0, "high": 9.0} for i in range(2)}
    with pytest.raises(StudyChanged) as error:
        launch(tmp_path, sqlite_url, search_space=space)
    assert "search_space.x0.high: was 10.0, is 9.0" in str(error.value)
    assert "search_space.x1.high: was 15.0, is 9.0" in str(error.value)
    assert "low" not in str(error.value)


def test_points_that_were_run_stay_where_they_are(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, enqueue=[{"x0": 1.0}], budget={"trials": 2, "epochs": 1})
    for edited in ([{"x0": 2.0}], [], [{"x0": 2.0}, {"x0": 1.0}]):
        with pytest.raises(StudyFileError, match=r"enqueue\[0\] was run as trial 0"):
            launch(tmp_path, sqlite_url, enqueue=edited, budget={"trials": 3, "epochs": 1})
    launch(tmp_path, sqlite_url, enqueue=[{"x0": 1.0}, {"x0": 2.0}], budget={"trials": 3, "epochs": 1})
    settings = rows(sqlite_url, "SELECT settings FROM hpo_launches ORDER BY id")
    assert ['"enqueue"' in row[0] for row in settings] == [True, True]


def test_two_databases_never_share_a_studys_folder(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(UserError, match="holds another study's trials"):
        launch(tmp_path, other, runs=tmp_path / "runs")
    assert rows(other, "SELECT count(*) FROM hpo_studies") == [(0,)]


def test_a_folder_that_is_not_the_studys_survives_its_deletion(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    (tmp_path / "runs/branin/.study").write_text("somebody else's")
    service.delete(sqlite_url, "branin")
    assert (tmp_path / "runs/branin/.study").exists()


def test_runs_that_cannot_be_made_are_told_before_anything_is_written(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="Cannot make the study's folder"):
        launch(tmp_path, sqlite_url)
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_studies") == [(0,)]


@pytest.mark.parametrize("options", [{"workers": 9}, {"runner": "nope"}])
def test_a_wrong_option_leaves_no_study_behind(tmp_path: Path, sqlite_url: str, options: dict[str, object]) -> None:
    with pytest.raises(UserError):
        launch(tmp_path, sqlite_url, **options)
    assert not (tmp_path / "hpo.db").exists()
    assert not (tmp_path / "runs").exists()


def test_a_study_is_created_with_its_split_or_not_at_all(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Analytic, "split_ids", lambda self, data, seed: {"train": ["a", "b"], "test": ["c"]})
        with patch.context() as inner:
            inner.setattr("storage.studies.write_event", breaks)
            with pytest.raises(KeyboardInterrupt):
                launch(tmp_path, sqlite_url)
        assert rows(sqlite_url, "SELECT count(*) FROM hpo_studies") == [(0,)]
        launch(tmp_path, sqlite_url)
    told = rows(sqlite_url, "SELECT message FROM hpo_events WHERE kind = 'split'")
    assert told == [("data seed 3: 2 train, 1 test",)]
