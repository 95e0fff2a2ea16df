"""Pruning what is kept: what is needed never goes, what goes is shown, told and forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from hpo import places, service
from hpo.errors import DataError, StudyBusy
from hpo.service.retention import Keep, Pruning
from storage import codec
from storage.database import Database
from storage.leases import Lease
from storage.records import ModelRecord
from storage.studies import Studies
from tests.studies import launch, rows

WEIGHTS = ("best.pt", "epoch-00002.pt", "last.prev.pt", "last.pt")


@pytest.fixture
def runs(tmp_path: Path, sqlite_url: str) -> Path:
    """A study of six trials, whose folders hold what a training would leave; the best two are confirmed."""
    launch(tmp_path, sqlite_url, budget={"trials": 6, "epochs": 2}, retrain={"confirm": 2, "pick": "f1"})
    folder = tmp_path / "runs" / "branin"
    for trial in folder.glob("*-*"):
        for name in WEIGHTS:
            (trial / name).write_bytes(b"x" * 1000)
        (trial / "val_predictions.npz").write_bytes(b"x" * 10)
        (trial / "mine.pt").write_bytes(b"the objective's own")
    return folder


def pruned(url: str, keep: Keep, **options: Any) -> Pruning:
    return service.prune_artifacts(url, "branin", keep, agree=lambda found: True, **options)


def weights(runs: Path) -> dict[str, list[str]]:
    """By run, the checkpoints it still has."""
    found = {
        folder.name: sorted(p.name for p in folder.glob("*.pt") if p.name != "mine.pt") for folder in runs.glob("*-*")
    }
    return {name: names for name, names in sorted(found.items()) if names}


def ranking(url: str) -> list[int]:
    """The search's trials, the best first, without our code."""
    values = rows(url, "SELECT number, goal_values FROM hpo_trials WHERE series = 'search'")
    return sorted((number for number, _ in values), key=lambda number: json.loads(dict(values)[number])[0])


def run_names(url: str, series: str) -> list[str]:
    found = rows(url, f"SELECT number FROM hpo_trials WHERE series = '{series}' ORDER BY number")
    return [f"{series}-{number:05d}" for (number,) in found]


def test_front_keeps_all_of_what_anything_needs(runs: Path, sqlite_url: str) -> None:
    first, second = ranking(sqlite_url)[:2]
    done = pruned(sqlite_url, "front")
    needed = sorted([*run_names(sqlite_url, "confirm"), f"search-{first:05d}", f"search-{second:05d}"])
    assert weights(runs) == dict.fromkeys(needed, sorted(WEIGHTS))
    assert [run for kind, run in _kept(sqlite_url) if kind == "log"] == needed
    for number in ranking(sqlite_url)[2:]:
        left = {path.name for path in (runs / f"search-{number:05d}").iterdir()}
        assert left == {"log.txt", "mine.pt", "pruned.txt"}
    assert (runs / ".study").exists()
    gone = len([held for held in done.to_go if held.kind == "checkpoint"])
    ((told,),) = rows(sqlite_url, "SELECT details FROM hpo_events WHERE kind = 'pruned_artifacts'")
    assert gone == 16 and json.loads(told)["files"] == 24  # 4 trials: 4 checkpoints, predictions, a log
    assert json.loads(told)["trials"] == {"search": sorted(ranking(sqlite_url)[2:])}


def test_none_keeps_the_weights_that_are_needed_alone(runs: Path, sqlite_url: str) -> None:
    first, second = ranking(sqlite_url)[:2]
    pruned(sqlite_url, "none")
    needed = sorted([*run_names(sqlite_url, "confirm"), f"search-{first:05d}", f"search-{second:05d}"])
    assert weights(runs) == {name: ["best.pt"] for name in needed}
    assert all((runs / name / "val_predictions.npz").exists() for name in needed)
    assert _kept(sqlite_url) == [] and not list((runs / "artifacts").iterdir())


def test_best_keeps_the_picked_trial_whole_and_what_else_is_needed(runs: Path, sqlite_url: str) -> None:
    picked = service.choose(sqlite_url, "branin")[1].number
    (other,) = set(ranking(sqlite_url)[:2]) - {picked}
    pruned(sqlite_url, "best")
    assert weights(runs)[f"search-{picked:05d}"] == sorted(WEIGHTS)
    assert weights(runs)[f"search-{other:05d}"] == ["best.pt"]


def test_completed_lets_only_what_failed_go(runs: Path, sqlite_url: str) -> None:
    worst = ranking(sqlite_url)[-1]
    _set(sqlite_url, worst, "fail")
    pruned(sqlite_url, "completed")
    assert f"search-{worst:05d}" not in weights(runs) and len(weights(runs)) == len(list(runs.glob("*-*"))) - 1


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_trial_that_is_to_go_on_loses_nothing(runs: Path, sqlite_url: str, state: str) -> None:
    worst = ranking(sqlite_url)[-1]
    _set(sqlite_url, worst, state)
    pruned(sqlite_url, "none")
    assert weights(runs)[f"search-{worst:05d}"] == sorted(WEIGHTS)


def test_a_trial_that_a_model_was_made_of_keeps_its_weights(runs: Path, sqlite_url: str) -> None:
    worst = ranking(sqlite_url)[-1]
    with Database(sqlite_url) as database:
        studies = Studies(database)
        studies.add_model(studies.get("branin"), ModelRecord(codec.now(), "/bundle", worst, {}))
    pruned(sqlite_url, "none")
    assert weights(runs)[f"search-{worst:05d}"] == ["best.pt"]


def test_needed_weights_stay_whatever_they_are_called(runs: Path, sqlite_url: str) -> None:
    best = runs / f"search-{ranking(sqlite_url)[0]:05d}"
    (best / "best.pt").unlink()
    pruned(sqlite_url, "none")
    assert sorted(path.name for path in best.glob("*.pt")) == ["epoch-00002.pt", "last.prev.pt", "last.pt", "mine.pt"]


def test_a_front_of_two_goals_is_kept_whole(tmp_path: Path, sqlite_url: str) -> None:
    goals = {"data": {"function": "zdt1"}, "goals": [{"metric": "f1"}, {"metric": "f2"}], "retrain": {"confirm": 0}}
    launch(tmp_path, sqlite_url, budget={"trials": 12, "epochs": 1}, **goals)
    values = {n: json.loads(v) for n, v in rows(sqlite_url, "SELECT number, goal_values FROM hpo_trials")}
    front = [
        n for n, (a, b) in values.items()
        if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in values.values())
    ]  # fmt: skip
    for number in values:
        (tmp_path / "runs" / "branin" / f"search-{number:05d}" / "best.pt").write_bytes(b"x")
    pruned(sqlite_url, "none")
    assert list(weights(tmp_path / "runs" / "branin")) == [f"search-{n:05d}" for n in sorted(front)]
    assert 1 < len(front) < 12


def test_a_checkpoint_that_was_pruned_says_so(runs: Path, sqlite_url: str) -> None:
    pruned(sqlite_url, "front")
    gone = runs / f"search-{ranking(sqlite_url)[-1]:05d}" / "best.pt"
    with pytest.raises(DataError, match=r"best\.pt is no longer there: deleted by hpo prune-artifacts --keep front at"):
        service.export_checkpoint(gone)
    with pytest.raises(DataError, match=r"There is no checkpoint .*never\.pt"):
        service.export_checkpoint(gone.with_name("never.pt"))


def test_a_study_that_is_run_is_refused(runs: Path, sqlite_url: str) -> None:
    with Database(sqlite_url) as database, Lease(database, 1, "branin"), pytest.raises(StudyBusy):
        pruned(sqlite_url, "none")
    assert len(weights(runs)) == len(list(runs.glob("*-*")))


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(
    runs: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = ranking(sqlite_url)[-1]
    stuck, remove = runs / f"search-{worst:05d}" / "last.pt", places.Folder.remove

    def refuse(self: places.Folder, name: str) -> None:
        if self.path / name == stuck:
            raise PermissionError(1, "Operation not permitted")
        remove(self, name)

    monkeypatch.setattr(places.Folder, "remove", refuse)
    done = CliRunner().invoke(app, ["prune-artifacts", "branin", "--keep", "front", "--yes", "--storage", sqlite_url])
    assert done.exit_code == 1 and f"Cannot delete {stuck}: Operation not permitted." in done.stderr
    assert weights(runs)[f"search-{worst:05d}"] == ["last.pt"] and "Deleted 23 files" in done.stdout


def test_the_mirror_is_left_alone_unless_asked_for(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "drive").mkdir()
    launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 1}, mirror=str(tmp_path / "drive"))
    worst = f"search-{ranking(sqlite_url)[-1]:05d}"
    copies = tmp_path / "drive" / "branin"
    for folder in (tmp_path / "runs" / "branin" / worst, copies / worst):
        folder.mkdir(exist_ok=True)
        (folder / "best.pt").write_bytes(b"x")
    assert pruned(sqlite_url, "front").mirror == str(copies)
    assert (copies / worst / "best.pt").exists()
    assert pruned(sqlite_url, "front", mirror=True).mirror is None
    assert not (copies / worst / "best.pt").exists() and (copies / "study.db").exists()


def test_artifacts_in_a_bucket_go_too(tmp_path: Path, sqlite_url: str, s3_place: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 1}, artifacts={"place": s3_place})
    place = places.parse(s3_place)
    assert len(place.names()) == 3
    pruned(sqlite_url, "front")
    assert place.names() == [id for (id,) in rows(sqlite_url, "SELECT id FROM hpo_artifacts")] != []


def test_nothing_goes_unless_somebody_agrees(runs: Path, sqlite_url: str) -> None:
    command = ["prune-artifacts", "branin", "--keep", "none", "--storage", sqlite_url]
    shown = CliRunner().invoke(app, [*command, "--dry-run"])
    assert shown.exit_code == 0 and "Nothing was deleted." in shown.stdout and "checkpoint" in shown.stdout
    as_json = json.loads(CliRunner().invoke(app, [*command, "--dry-run", "--json"]).stdout)
    kinds = {row["kind"]: (row["there"], row["to stay"], row["to go"]) for row in as_json["kinds"]}
    n = len(list(runs.glob("*-*")))
    assert kinds == {"checkpoint": (4 * n, n - 4, 3 * n + 4), "predictions": (n, n - 4, 4), "log": (n, 0, n)}
    declined = CliRunner().invoke(app, command, input="n\n")
    assert declined.exit_code == 1 and "Left as it is." in declined.stdout
    assert len(weights(runs)) == n
    agreed = CliRunner().invoke(app, command, input="y\n")
    assert agreed.exit_code == 0 and len(weights(runs)) == n - 4
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "Nothing to delete" in again.stdout


def test_another_studys_folder_is_left_alone(runs: Path, sqlite_url: str) -> None:
    (runs / ".study").write_text("2020-01-01T00:00:00+00:00")
    done = pruned(sqlite_url, "none")
    assert {held.kind for held in done.files} == {"log"}
    assert weights(runs) == {folder.name: sorted(WEIGHTS) for folder in runs.glob("*-*")}


def _set(url: str, number: int, state: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.begin() as connection:
        where = f"series = 'search' AND number = {number}"
        connection.execute(text(f"UPDATE hpo_trials SET state = '{state}' WHERE {where}"))
    engine.dispose()


def _kept(url: str) -> list[tuple[str, str]]:
    found = service.snapshot(url, "branin", curves=False).artifacts
    return sorted((one.kind, f"{one.series}-{one.number:05d}") for one in found)
