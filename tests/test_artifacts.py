"""What a study keeps of its trials: logs and pictures at a folder or on S3, read back with Optuna's own stores."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import boto3
import optuna
import optuna_dashboard
import pytest
from bottle import HTTPError
from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore, get_all_artifact_meta

from hpo import service
from hpo.archive import keeping
from hpo.archive.drawing import Drawer
from hpo.service.browsing import StudyArtifacts
from hpo.trial import Point, StopKind, StopReason, TrialRecord, TrialState
from storage.database import Database
from storage.records import Snapshot
from tests.storage.test_trials import record
from tests.studies import launch, rows

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws has the lowest priority, so on a busy machine a picture may take minutes, and a trial seconds."""
    monkeypatch.setattr(keeping, "_WORTH_S", 3600.0)
    for name in ("keeping._PATIENCE_S", "drawing._LONGEST_S"):
        monkeypatch.setattr(f"hpo.archive.{name}", 600.0)
    monkeypatch.setattr("hpo.aside._WAIT_S", 900.0)


class Between:
    """Calls ``act`` after so many trials have ended."""

    def __init__(self, trials: int, act: Any) -> None:
        self.left, self.act = trials, act

    def started(self, job: object) -> None: ...
    def reported(self, number: int, point: object) -> None: ...

    def finished(self, record: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def loaded(url: str) -> optuna.Study:
    return optuna.load_study(study_name="branin", storage=url)


def events(url: str, kind: str) -> list[str]:
    return [message for (message,) in rows(url, f"SELECT message FROM hpo_events WHERE kind = '{kind}'")]


def test_every_trial_leaves_its_log_where_optuna_finds_it(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 2}, retrain={"confirm": 1, "pick": "f1"})
    folder, study = tmp_path / "runs" / "branin", loaded(sqlite_url)
    store = FileSystemArtifactStore(folder / "artifacts")
    for trial in study.trials:
        (meta,) = get_all_artifact_meta(trial, storage=study._storage)
        log = (folder / f"search-{trial.number:05d}" / "log.txt").read_bytes()
        assert (meta.filename, meta.mimetype) == (f"search-{trial.number:05d}.txt", "text/plain")
        assert store.open_reader(meta.artifact_id).read() == log and b"attempt 1" in log
    confirmed = {meta.filename for meta in get_all_artifact_meta(study)}
    assert confirmed and all(name.startswith("confirm-") for name in confirmed)
    for artifact in service.snapshot(sqlite_url, "branin").artifacts:
        content = (folder / "artifacts" / artifact.id).read_bytes()
        assert (artifact.bytes, artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (artifact.kind, artifact.place) == ("log", str(folder / "artifacts"))


def test_trials_of_a_moment_get_no_picture_and_longer_ones_do(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 1, "epochs": 2})
    monkeypatch.setattr(keeping, "_WORTH_S", 0.0)
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2})
    kept = service.snapshot(sqlite_url, "branin").artifacts
    assert [(one.number, one.kind) for one in kept] == [(0, "log"), (1, "log"), (1, "picture")]
    picture = (Path(kept[-1].place) / kept[-1].id).read_bytes()
    assert picture.startswith(PNG) and kept[-1].filename == "search-00001.png"


def test_pictures_that_would_hold_a_launch_up_are_left_out_and_counted(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_WORTH_S", 0.0)
    monkeypatch.setattr(keeping, "_PATIENCE_S", 0.0)
    launch(tmp_path, sqlite_url, budget={"trials": 5, "epochs": 2})
    kinds = [kind for (kind,) in rows(sqlite_url, "SELECT kind FROM hpo_artifacts")]
    (told,) = events(sqlite_url, "pictures_left_out")
    assert kinds.count("log") == 5 and told.startswith(f"{5 - kinds.count('picture')} trials have no picture")


def test_no_pictures_where_none_are_wanted(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_WORTH_S", 0.0)
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2}, artifacts={"pictures": False})
    assert rows(sqlite_url, "SELECT DISTINCT kind FROM hpo_artifacts") == [("log",)]
    assert not events(sqlite_url, "pictures_left_out")


def test_optunas_own_store_reads_them_from_a_bucket(tmp_path: Path, sqlite_url: str, s3_place: str) -> None:
    bucket, _, options = s3_place.removeprefix("s3://").partition("/runs")
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2}, artifacts={"place": f"s3://{bucket}{options}"})
    server = options.partition("endpoint_override=")[2].partition("&")[0]
    store = Boto3ArtifactStore(bucket, boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1"))
    study = loaded(sqlite_url)
    for trial in study.trials:
        (meta,) = get_all_artifact_meta(trial, storage=study._storage)
        log = tmp_path / "runs" / "branin" / f"search-{trial.number:05d}" / "log.txt"
        assert store.open_reader(meta.artifact_id).read() == log.read_bytes()
    service.delete(sqlite_url, "branin")
    assert "Contents" not in store.client.list_objects_v2(Bucket=bucket)


def test_a_place_that_is_not_there_stops_nothing_and_is_tried_again(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = tmp_path / "drive"
    launched = launch(
        tmp_path, sqlite_url, budget={"trials": 6, "epochs": 2}, artifacts={"place": str(drive / "kept")},
        listeners=lambda plan, ended: [Between(4, drive.mkdir)],
    )  # fmt: skip
    assert launched.how == "done"
    (told,) = events(sqlite_url, "artifacts_failed")
    assert told == f"Artifacts at {drive / 'kept'}: there is no {drive} (mount its drive, or make it). Trials go on."
    assert capsys.readouterr().err.count("mount its drive") == 1
    assert rows(sqlite_url, "SELECT number FROM hpo_artifacts ORDER BY number") == [(i,) for i in range(6)]
    assert len(list((drive / "kept").iterdir())) == 6


def test_what_was_not_kept_in_the_end_is_counted(tmp_path: Path, sqlite_url: str) -> None:
    place = str(tmp_path / "none" / "kept")
    launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 2}, artifacts={"place": place})
    assert events(sqlite_url, "artifacts_failed")[-1] == f"Of 3 trials not all artifacts were kept at {place}."
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_artifacts") == [(0,)]


def test_a_bucket_that_is_not_there_is_told_once(tmp_path: Path, sqlite_url: str, s3_place: str) -> None:
    place = s3_place.replace("/runs", "-none/runs")
    launched = launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 2}, artifacts={"place": place})
    first, last = events(sqlite_url, "artifacts_failed")
    assert launched.how == "done" and "NO_SUCH_BUCKET" in first and last.startswith("Of 3 trials")


def test_a_log_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "log.txt" and path.parent.name == "search-00001":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    launch(tmp_path, sqlite_url, budget={"trials": 4, "epochs": 2})
    assert rows(sqlite_url, "SELECT number FROM hpo_artifacts ORDER BY number") == [(0,), (2,), (3,)]
    (told,) = events(sqlite_url, "artifacts_failed")
    assert "Permission denied" in told


def test_a_full_disk_is_told_and_left_as_it_was(tmp_path: Path, sqlite_url: str, small_disk: Path) -> None:
    (small_disk / "kept").mkdir()
    (small_disk / "filler").write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    launched = launch(
        tmp_path, sqlite_url, budget={"trials": 3, "epochs": 2}, artifacts={"place": str(small_disk / "kept")}
    )
    assert launched.how == "done" and "No space left" in events(sqlite_url, "artifacts_failed")[0]
    assert not list((small_disk / "kept").iterdir())


def test_a_process_that_draws_and_dies_is_replaced() -> None:
    drawer = Drawer()
    run = TrialRecord(
        0, TrialState.COMPLETE, {}, 1, reason=StopReason(StopKind.FINISHED, "done"), last_step=2, best_step=2,
        points=(Point(1, {"loss": 2.0}), Point(2, {"loss": 1.0})),
    )  # fmt: skip
    found = Snapshot(record(), ())
    try:
        drawer.start()
        assert drawer._process is not None
        os.kill(drawer._process.pid, signal.SIGKILL)
        with pytest.raises(OSError, match="ended without a word"):
            drawer.draw(found, run, "search", Path("/none"))
        picture = drawer.draw(found, run, "search", Path("/none"))
        assert picture is not None and picture.startswith(PNG)
    finally:
        process = drawer._process
        drawer.close()
    assert process is not None and process.poll() is not None
    with pytest.raises(OSError, match="has been stopped"):
        drawer.start()


def request(app: Any, path: str, method: str = "GET", body: bytes = b"") -> tuple[str, bytes]:
    """What a WSGI application answers: its status and its bytes."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    more = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
    environ.update({"PATH_INFO": path, "REQUEST_METHOD": method, **more})
    statuses: list[str] = []
    answered = app(environ, lambda status, headers, error=None: statuses.append(status))
    return statuses[0], b"".join(answered)


def test_the_dashboard_shows_them_and_changes_nothing(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 1, "epochs": 2})
    launch(tmp_path, sqlite_url, name="other", budget={"trials": 1, "epochs": 2}, artifacts={"place": str(tmp_path)})
    with Database(sqlite_url) as database:
        app = optuna_dashboard.wsgi(sqlite_url, artifact_store=StudyArtifacts(database))
        for study, name in ((1, "branin"), (2, "other")):
            (kept,) = service.snapshot(sqlite_url, name).artifacts
            log = (tmp_path / "runs" / name / "search-00000" / "log.txt").read_bytes()
            assert request(app, f"/artifacts/{study}/{study}/{kept.id}") == ("200 OK", log)
            status, said = request(app, f"/api/artifacts/{study}/{study}/{kept.id}", "DELETE")
            assert status.startswith("403") and b"only shows artifacts" in said
            assert (Path(kept.place) / kept.id).is_file()
        upload = b'{"file": "data:text/plain;base64,eA==", "filename": "../x.txt"}'
        status, said = request(app, "/api/artifacts/1", "POST", upload)
        assert status.startswith("403") and b"only shows artifacts" in said
        shutil.rmtree(tmp_path / "runs" / "branin" / "artifacts")
        (gone,) = service.snapshot(sqlite_url, "branin").artifacts
        status, said = request(app, f"/artifacts/1/1/{gone.id}")
        assert status.startswith("404") and b"cannot be read" in said


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", "0" * 36])
def test_no_name_leads_out_of_a_place(sqlite_url: str, name: str) -> None:
    with Database(sqlite_url, create=True) as database, pytest.raises(HTTPError) as refused:
        StudyArtifacts(database).open_reader(name)
    assert refused.value.status_code == 404
