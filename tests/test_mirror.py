"""A study with a mirror: everything local is lost, and it goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hpo import mirror, service
from hpo.errors import DataError, StorageError, StudyChanged, UserError
from hpo.places import Folder
from hpo.training import checkpoints
from storage import backup
from storage.database import Database
from storage.studies import Studies
from tests.studies import launch, rows
from tests.test_crashes import kill, start

TRAINED: dict[str, Any] = {
    "name": "slow",
    "objective": "mirrored:Slow",
    "data": None,
    "goals": [{"metric": "val_loss"}],
    "sampler": {"name": "tpe", "startup_trials": 2},
    "budget": {"trials": 3, "epochs": 8},
    "trainer": {"optimizer": "sgd", "batch_size": 16, "threads": 1},
    "deterministic": True,
    "seed": 5,
    "retrain": {"confirm": 0, "pick": "val_loss", "seeds": [0], "epochs": 2},
    "export": {"formats": ["safetensors"]},
}
SMALL: dict[str, Any] = {"budget": {"trials": 3, "epochs": 2}}


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    return folder


def copied(drive: Path, query: str, study: str = "branin") -> list[tuple[Any, ...]]:
    """What the mirror's copy of the database says."""
    with closing(sqlite3.connect(f"file:{drive / study / mirror.DATABASE}?mode=ro&immutable=1", uri=True)) as found:
        return [tuple(row) for row in found.execute(query)]


def events(url: str) -> list[str]:
    """What has happened to a study, apart from what its baselines were found to be."""
    return [kind for (kind,) in rows(url, "SELECT kind FROM hpo_events WHERE kind <> 'baselines' ORDER BY id")]


def lose(tmp_path: Path) -> None:
    """Everything local: the database with its log, and the folders of the trials."""
    for path in [*tmp_path.glob("hpo.db*")]:
        path.unlink()
    shutil.rmtree(tmp_path / "runs")


def results(url: str) -> tuple[list[Any], list[Any]]:
    """What a study came to, clocks left out."""
    trials = rows(
        url, "SELECT number, state, params, goal_values, best_step, stop_kind FROM hpo_trials ORDER BY number"
    )
    points = rows(
        url,
        "SELECT t.number, p.step, json_extract(p.metrics, '$.val_loss'), json_extract(p.metrics, '$.train_loss') "
        "FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial ORDER BY t.number, p.step",
    )
    return trials, points


# Everything lost in the middle


def wait_until_under_way(drive: Path, process: subprocess.Popen[str], trial: int, epoch: int) -> None:
    """Until the mirror has ``epoch`` epochs of a trial, and its database knows the trial and an earlier one's end."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            ended = copied(drive, "SELECT count(*) FROM hpo_trials WHERE state = 'complete'", "slow")[0][0]
            running = copied(drive, f"SELECT 1 FROM hpo_trials WHERE number = {trial} AND state = 'running'", "slow")
            state = checkpoints.read(drive / "slow" / f"search-{trial:05d}" / checkpoints.LAST)
            if ended >= 1 and running and state["epoch"] >= epoch:
                return
        except (sqlite3.Error, DataError):  # not there yet
            pass
        time.sleep(0.01)
    raise AssertionError(f"trial {trial} never got to epoch {epoch}: {process.poll()}")


@pytest.mark.slow
def test_a_study_whose_local_folder_is_deleted_goes_on_from_its_mirror(
    tmp_path: Path, drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(Path(__file__).with_name("mirrored.py"), tmp_path)
    fields = {**TRAINED, "mirror": str(drive)}
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    study_file = tmp_path / "branin.yaml"  # the name that ``start`` launches
    study_file.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))
    (tmp_path / "hold").touch()
    process = start(tmp_path, url)
    try:
        wait_until_under_way(drive, process, trial=1, epoch=4)
    finally:
        kill(process)
    (tmp_path / "hold").unlink()
    known = copied(drive, "SELECT last_step FROM hpo_trials WHERE number = 1", "slow")[0][0]
    assert known <= checkpoints.read(drive / "slow/search-00001/last.pt")["epoch"]
    lose(tmp_path)
    service.launch(study_file, storage=url, runs=tmp_path / "runs")
    told = capsys.readouterr().err
    assert f"The database {tmp_path / 'hpo.db'} was gone; restored it from {drive / 'slow/study.db'}" in told
    assert {"restored", "folder_made_again", "checkpoint_from_mirror"} <= set(events(url))
    assert (tmp_path / "runs/slow/.study").read_text() == (drive / "slow/.study").read_text()
    assert rows(url, "SELECT attempts FROM hpo_trials ORDER BY number") == [(1,), (2,), (1,)]
    # And it is the study that was never interrupted.
    whole = f"sqlite:///{tmp_path / 'whole.db'}"
    study_file.write_text(json.dumps({k: v for k, v in TRAINED.items() if v is not None}))
    service.launch(study_file, storage=whole, runs=tmp_path / "whole")
    assert results(url) == results(whole)
    assert [(number, step) for number, step, *_ in results(url)[1]] == [(n, s) for n in range(3) for s in range(1, 9)]
    # The mirror has it all, too: a lost model is exported from there.
    assert service.retrain(url, "slow") is not None
    shutil.rmtree(tmp_path / "runs")
    service.export(url, "slow", tmp_path / "bundle")
    assert (tmp_path / "bundle/formats/safetensors/model.safetensors").exists()


# The database's copies


def test_after_a_launch_the_mirror_has_the_whole_database(tmp_path: Path, sqlite_url: str, drive: Path) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    everything = "SELECT t.number, p.step, p.metrics FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial"
    assert copied(drive, everything) == rows(sqlite_url, everything)
    assert copied(drive, "SELECT ended_how FROM hpo_launches") == [("done",)]
    assert copied(drive, "SELECT count(*) FROM hpo_leases") == [(0,)]
    assert {path.name for path in (drive / "branin").iterdir()} == {".study", "study.db"}
    assert events(sqlite_url) == []


def test_snapshots_are_taken_while_trials_run(tmp_path: Path, sqlite_url: str, drive: Path) -> None:
    seen: list[tuple[int]] = []

    class Look:
        def started(self, job: object) -> None: ...
        def finished(self, record: object) -> None: ...

        def reported(self, number: int, point: object) -> None:
            deadline = time.monotonic() + 300
            while number == 1 and not seen and time.monotonic() < deadline:
                if (drive / "branin" / mirror.DATABASE).exists():
                    seen.extend(copied(drive, "SELECT number FROM hpo_trials WHERE state = 'complete'"))
                time.sleep(0.01)

    launch(tmp_path, sqlite_url, mirror=str(drive), listeners=lambda *_: [Look()], **SMALL)
    assert seen == [(0,)]


def test_reports_alone_bring_a_new_snapshot_after_a_while(
    tmp_path: Path, sqlite_url: str, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(tmp_path, sqlite_url, **SMALL)
    with Database(sqlite_url) as database:
        studies = Studies(database)
        behind = mirror.StudyMirror(studies, studies.get("branin"), Folder(drive / "branin"), database.file)
        behind.open()
        behind.reported(0, None)  # type: ignore[arg-type]
        assert behind._thread is None
        monkeypatch.setattr(mirror, "_EVERY_S", 0.0)
        behind.reported(0, None)  # type: ignore[arg-type]
        deadline = time.monotonic() + 300
        while not (drive / "branin" / mirror.DATABASE).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (drive / "branin" / mirror.DATABASE).exists()
        behind.close()
    assert copied(drive, "SELECT count(*) FROM hpo_trials") == [(3,)]


def test_a_server_is_not_copied_but_its_study_keeps_its_place(tmp_path: Path, storage_url: str, drive: Path) -> None:
    launch(tmp_path, storage_url, mirror=str(drive), **SMALL)
    launch(tmp_path, storage_url, mirror=str(drive), budget={"trials": 4, "epochs": 2})
    assert (drive / "branin/study.db").exists() == storage_url.startswith("sqlite")
    assert rows(storage_url, "SELECT created_at FROM hpo_studies") == [((drive / "branin/.study").read_text(),)]


# A place that fails


def test_a_drive_that_is_not_there_is_told_once_and_stops_nothing(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    launched = launch(tmp_path, sqlite_url, mirror=str(tmp_path / "file" / "drive"), **SMALL)
    assert launched.how == "done"
    assert [trial.state.value for trial in launched.snapshot.trials] == ["complete"] * 3
    assert "Cannot write to the mirror" in capsys.readouterr().err
    assert 1 <= len(events(sqlite_url)) <= 2  # it could not be made, nor written to later
    assert set(events(sqlite_url)) == {"mirror_failed"}


def test_a_drive_that_is_not_mounted_is_not_made_for_a_study_under_way(
    tmp_path: Path, sqlite_url: str, drive: Path
) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    drive.rename(tmp_path / "unmounted")
    launch(tmp_path, sqlite_url, mirror=str(drive), budget={"trials": 4, "epochs": 2})
    assert not drive.exists()
    assert set(events(sqlite_url)) == {"mirror_failed"}
    (tmp_path / "unmounted").rename(drive)
    launch(tmp_path, sqlite_url, mirror=str(drive), budget={"trials": 5, "epochs": 2})
    assert copied(drive, "SELECT count(*) FROM hpo_trials") == [(5,)]


def test_a_full_drive_is_told_once_and_stops_nothing(tmp_path: Path, sqlite_url: str, small_disk: Path) -> None:
    launch(tmp_path, sqlite_url, mirror=str(small_disk), budget={"trials": 1, "epochs": 2})
    before = (small_disk / "branin/study.db").read_bytes()
    (small_disk / "ballast").write_bytes(b"x" * (2 * 2**20 - len(before) - 40_000))
    launched = launch(tmp_path, sqlite_url, mirror=str(small_disk), budget={"trials": 6, "epochs": 2})
    assert launched.how == "done"
    assert events(sqlite_url) == ["mirror_failed"]
    assert (small_disk / "branin/study.db").read_bytes() == before
    assert {path.name for path in (small_disk / "branin").iterdir()} == {".study", "study.db"}


def test_a_mirror_must_be_an_absolute_path(tmp_path: Path, sqlite_url: str) -> None:
    with pytest.raises(UserError, match="mirror: must be an absolute path.* got 'drive'"):
        launch(tmp_path, sqlite_url, mirror="drive", **SMALL)
    assert not (tmp_path / "hpo.db").exists()


# What a launch finds there


def test_a_lost_database_is_restored_also_where_the_runs_are_elsewhere_now(
    tmp_path: Path, sqlite_url: str, drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    before = rows(sqlite_url, "SELECT number, params, goal_values FROM hpo_trials ORDER BY number")
    lose(tmp_path)
    moved = f"sqlite:///{tmp_path / 'new/place/hpo.db'}"
    launch(tmp_path, moved, mirror=str(drive), runs=tmp_path / "new/runs", budget={"trials": 4, "epochs": 2})
    assert rows(moved, "SELECT number, params, goal_values FROM hpo_trials ORDER BY number")[:3] == before
    assert rows(moved, "SELECT folder FROM hpo_studies") == [(str(tmp_path / "new/runs/branin"),)]
    assert set(events(moved)) == {"restored", "folder_made_again"}
    assert "was gone; restored it from" in capsys.readouterr().err


def test_a_folder_alone_that_is_lost_is_made_again_at_its_place(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, **SMALL)
    shutil.rmtree(tmp_path / "runs")
    launch(tmp_path, sqlite_url, runs=tmp_path / "elsewhere", budget={"trials": 4, "epochs": 2})
    assert (tmp_path / "runs/branin/.study").read_text() == rows(sqlite_url, "SELECT created_at FROM hpo_studies")[0][0]
    assert not (tmp_path / "elsewhere").exists()


def test_a_study_that_only_the_mirror_knows_is_not_merged_into_another_database(
    tmp_path: Path, sqlite_url: str, drive: Path
) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    launch(tmp_path, other, name="another", **SMALL)
    with pytest.raises(UserError, match=r"(?s)never merged.*by hand.*to begin a new study, remove"):
        launch(tmp_path, other, mirror=str(drive), **SMALL)
    assert rows(other, "SELECT name FROM hpo_studies") == [("another",)]
    assert not (tmp_path / "runs-other/branin").exists()


def test_a_new_study_does_not_take_anothers_place(tmp_path: Path, storage_url: str, drive: Path) -> None:
    (drive / "branin").mkdir()
    (drive / "branin/.study").write_text("2020-01-01T00:00:00.000000+00:00")
    with pytest.raises(UserError, match="belongs to another study called 'branin'"):
        launch(tmp_path, storage_url, mirror=str(drive), **SMALL)
    assert rows(storage_url, "SELECT count(*) FROM hpo_studies") == [(0,)]
    # Nor does one that was made without a mirror.
    launch(tmp_path, storage_url, **SMALL)
    with pytest.raises(UserError, match="created 2020-01-01T00:00:00"):
        launch(tmp_path, storage_url, mirror=str(drive), **SMALL)
    shutil.rmtree(drive / "branin")
    launch(tmp_path, storage_url, mirror=str(drive), budget={"trials": 4, "epochs": 2})


def test_an_old_database_does_not_go_over_a_newer_copy(tmp_path: Path, sqlite_url: str, drive: Path) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), budget={"trials": 1, "epochs": 2})
    backup.back_up(tmp_path / "hpo.db", tmp_path / "old.db")
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    for path in tmp_path.glob("hpo.db*"):
        path.unlink()
    (tmp_path / "old.db").rename(tmp_path / "hpo.db")
    with pytest.raises(UserError, match=r"mirror knows more of study 'branin'.*move .* away.* remove "):
        launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    (drive / "branin/study.db").unlink()
    launch(tmp_path, sqlite_url, mirror=str(drive), budget={"trials": 2, "epochs": 2})
    assert copied(drive, "SELECT count(*) FROM hpo_trials") == [(2,)]


def test_another_description_is_not_restored(tmp_path: Path, sqlite_url: str, drive: Path) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    lose(tmp_path)
    with pytest.raises(StudyChanged, match="made from another description"):
        launch(tmp_path, sqlite_url, mirror=str(drive), seed=4, **SMALL)
    assert not (tmp_path / "hpo.db").exists()


def test_a_drive_that_turns_out_to_be_anothers_is_left_alone(tmp_path: Path, sqlite_url: str, drive: Path) -> None:
    """Away at the launch, so that nothing could be seen of it; back while trials run."""
    launch(tmp_path, sqlite_url, **SMALL)
    with Database(sqlite_url) as database:
        studies = Studies(database)
        behind = mirror.StudyMirror(studies, studies.get("branin"), Folder(drive / "branin"), database.file)
        drive.rename(tmp_path / "away")
        behind.open()
        (tmp_path / "away" / "branin").mkdir()
        (tmp_path / "away" / "branin" / ".study").write_text("2020-01-01T00:00:00.000000+00:00")
        (tmp_path / "away").rename(drive)
        behind.close()
    assert os.listdir(drive / "branin") == [".study"]
    assert rows(sqlite_url, "SELECT message FROM hpo_events WHERE message LIKE '%another study%'") != []


def test_a_damaged_copy_is_not_restored_but_replaced_while_the_database_lives(
    tmp_path: Path, sqlite_url: str, drive: Path
) -> None:
    launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    copy = drive / "branin/study.db"
    copy.write_bytes(copy.read_bytes()[:9000])
    launch(tmp_path, sqlite_url, mirror=str(drive), budget={"trials": 4, "epochs": 2})
    assert copied(drive, "SELECT count(*) FROM hpo_trials") == [(4,)]
    copy.write_bytes(copy.read_bytes()[:9000])
    lose(tmp_path)
    with pytest.raises(StorageError, match=r"To begin a new study instead, remove .*branin"):
        launch(tmp_path, sqlite_url, mirror=str(drive), **SMALL)
    assert not (tmp_path / "hpo.db").exists()
