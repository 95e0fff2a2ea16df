"""Training on while its disk is full, read-only or its folder gone: the same weights, and nothing saved is lost."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from training_kit import Trial, assert_same, make_task, weights

from hpo.places import Folder
from hpo.training import checkpoints
from hpo.training.checkpoints import BEST, LAST, PREVIOUS
from hpo.trial import GO_ON, Decision, Outcome, Point, StopKind


def kinds(trial: Trial, outcome: Outcome) -> list[str]:
    told = [*(event for point in trial.points for event in point.events), *outcome.events]
    return [event.kind for event in told if "checkpoint" in event.kind or "mirror" in event.kind]


def after_the_second_epoch(act: Callable[[], object]) -> Callable[[Point], Decision]:
    def answer(point: Point) -> Decision:
        if point.step == 2:
            act()
        return GO_ON

    return answer


def test_a_disk_that_fills_up_ends_no_trial_and_changes_no_weight(small_disk: Path, tmp_path: Path) -> None:
    whole = make_task()
    Trial(tmp_path / "whole").fit(whole)

    def fill() -> None:
        used = sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file())
        with (small_disk / "ballast").open("wb") as file:
            try:
                file.write(b"x" * (2 * 2**20 - used))
                file.flush()
            except OSError:
                pass

    task = make_task()
    trial = Trial(small_disk / "trial", answer=after_the_second_epoch(fill))
    outcome = trial.fit(task)
    assert outcome.reason.kind is StopKind.FINISHED
    assert [(point.step, point.checkpoint) for point in trial.points] == [(1, LAST), (2, LAST), (3, None), (4, None)]
    assert kinds(trial, outcome) == ["checkpoint_failed"]
    assert_same(weights(task.model), weights(whole.model))
    assert checkpoints.read(small_disk / "trial" / LAST)["epoch"] == 2
    assert checkpoints.read(small_disk / "trial" / PREVIOUS)["epoch"] == 1
    # With room again, it goes on from there to the same end.
    (small_disk / "ballast").unlink()
    task, again = make_task(), Trial(small_disk / "trial", resume=True, reported=2)
    again.fit(task)
    assert [point.step for point in again.points] == [2, 3, 4]
    assert_same(weights(task.model), weights(whole.model))


def test_a_disk_that_turns_read_only_ends_no_trial(small_disk: Path) -> None:
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    trial = Trial(small_disk / "trial", answer=after_the_second_epoch(lambda: subprocess.run(remount, check=True)))
    outcome = trial.fit(make_task())
    assert outcome.reason.kind is StopKind.FINISHED
    assert [point.checkpoint for point in trial.points] == [LAST, LAST, None, None]
    assert kinds(trial, outcome).count("checkpoint_failed") == 1
    assert checkpoints.read(small_disk / "trial" / LAST)["epoch"] == 2


def test_a_folder_that_vanishes_during_training_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    trial = Trial(folder, answer=after_the_second_epoch(lambda: shutil.rmtree(folder)))
    outcome = trial.fit(make_task())
    assert outcome.reason.kind is StopKind.FINISHED
    assert [point.checkpoint for point in trial.points] == [LAST] * 4
    assert checkpoints.read(folder / LAST)["epoch"] == 4


@pytest.mark.parametrize("where", ["the mirror's drive", "the trial's folder"])
def test_with_a_mirror_either_place_may_go(tmp_path: Path, where: str) -> None:
    folder, drive = tmp_path / "trial", tmp_path / "drive"
    drive.mkdir()
    lost = drive if where == "the mirror's drive" else folder
    trial = Trial(
        folder,
        mirror=str(drive / "study" / "trial"),
        answer=after_the_second_epoch(lambda: lost.rename(tmp_path / "gone")),
    )
    task = make_task()
    outcome = trial.fit(task)
    assert outcome.reason.kind is StopKind.FINISHED
    if lost is drive:
        assert set(kinds(trial, outcome)) == {"mirror_failed"}
        assert checkpoints.read(folder / LAST)["epoch"] == 4
    else:
        assert checkpoints.read(drive / "study" / "trial" / LAST)["epoch"] == 4
        shutil.rmtree(folder)
        best = checkpoints.find_best(folder, Folder(drive / "study" / "trial"))
        assert_same(best["model"], weights(task.model))
        assert not (folder / BEST).exists()
