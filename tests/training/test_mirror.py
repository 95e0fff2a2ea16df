"""Checkpoints at a second place: copied behind training's back, and gone on from when the first is lost."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from test_checkpoints import flip as damage
from test_checkpoints import folder_at, inside, names, state

from hpo import durable
from hpo.errors import DataError
from hpo.places import Folder
from hpo.training import checkpoints
from hpo.training.checkpoints import BEST, LAST, PREVIOUS
from hpo.training.checkpoints.mirror import Mirror

ROOT = Path(__file__).parents[2]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A trial's folder and its mirror, neither of which exists."""
    (tmp_path / "drive").mkdir()
    return tmp_path / "runs" / "trial", tmp_path / "drive" / "study" / "trial"


def epochs_in(folder: Path) -> dict[str, int]:
    return {path.name: checkpoints.read(path)["epoch"] for path in folder.glob("*.pt")}


def test_all_that_is_durable_here_is_there_at_the_end(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, events = folder_at(here, mirror=there, keep_every=2)
    folder.begin(resume=False)
    folder.write_start(state(0))
    for epoch in (1, 2, 3):
        folder.write_last(state(epoch))
        folder.keep_epoch(epoch, [1, 2, 3][:epoch])
        folder.write_best(epoch, state(epoch)["model"], {}, {})
    (here / "test_predictions.npz").write_bytes(b"npz")
    folder.finish()
    found = epochs_in(there)
    assert {LAST: found[LAST], BEST: found[BEST], "epoch-00002.pt": found["epoch-00002.pt"]} == {
        LAST: 3, BEST: 3, "epoch-00002.pt": 2,
    }  # fmt: skip
    assert found.keys() - {PREVIOUS} == {LAST, BEST, "epoch-00002.pt"}
    assert (there / "test_predictions.npz").read_bytes() == b"npz"
    assert not list(there.glob(".*"))
    assert events == []


def test_what_is_cleaned_up_here_is_cleaned_up_there(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, _ = folder_at(here, mirror=there, keep_best=2)
    folder.begin(resume=False)
    for epoch, order in ((1, [1]), (2, [2, 1]), (3, [3, 2, 1])):
        folder.write_last(state(epoch))
        folder.keep_epoch(epoch, order)
        folder.finish()
    assert sorted(checkpoints.kept_epochs(there)) == [2, 3]


def test_a_lost_folder_goes_on_from_the_mirror_with_all_that_was_there(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, _ = folder_at(here, mirror=there, keep_every=1)
    folder.begin(resume=False)
    folder.write_last(state(1))
    folder.keep_epoch(1, [1])
    folder.write_best(1, state(1)["model"], {}, {})
    folder.finish()
    folder.write_last(state(2))
    folder.finish()
    shutil.rmtree(here)
    again, events = folder_at(here, mirror=there)
    found = again.begin(resume=True)
    assert found is not None and found["epoch"] == 2
    assert events.kinds == ["checkpoint_from_mirror"]
    assert epochs_in(here) == {LAST: 2, BEST: 1, "epoch-00001.pt": 1}
    assert again.is_best(1)


def test_the_mirrors_copy_stands_in_for_broken_ones_and_for_older_ones(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, _ = folder_at(here, mirror=there)
    folder.begin(resume=False)
    folder.write_last(state(1))
    shutil.copytree(here, here.with_name("backup"))
    folder.write_last(state(2))
    folder.finish()
    damage(here / LAST, inside(here / LAST, 2.0))
    again, events = folder_at(here, mirror=there)
    found = again.begin(resume=True)
    assert found is not None and found["epoch"] == 2
    assert events.kinds == ["broken_checkpoint", "checkpoint_from_mirror"]
    shutil.rmtree(here)
    here.with_name("backup").rename(here)
    found = folder_at(here, mirror=there)[0].begin(resume=True)
    assert found is not None and found["epoch"] == 2


def test_a_broken_copy_in_the_mirror_falls_back_to_the_one_before(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, _ = folder_at(here, mirror=there)
    folder.begin(resume=False)
    for epoch in (1, 2):
        folder.write_last(state(epoch))
        folder.finish()
    assert epochs_in(there) == {PREVIOUS: 1, LAST: 2}
    shutil.rmtree(here)
    damage(there / LAST, inside(there / LAST, 2.0))
    found = folder_at(here, mirror=there)[0].begin(resume=True)
    assert found is not None and found["epoch"] == 1


def test_beginning_anew_forgets_the_mirrors_copies_too(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, _ = folder_at(here, mirror=there, keep_every=1)
    folder.begin(resume=False)
    folder.write_last(state(5))
    folder.keep_epoch(5, [5])
    folder.finish()
    (there / "notes.txt").write_text("mine")
    again, _ = folder_at(here, mirror=there)
    again.begin(resume=False)
    assert names(there) == {"notes.txt"}
    assert folder_at(here, mirror=there)[0].begin(resume=True) is None


def test_a_drive_that_is_away_is_told_once_and_caught_up_with(tmp_path: Path) -> None:
    here, drive = tmp_path / "trial", tmp_path / "drive"
    folder, events = folder_at(here, mirror=drive / "study" / "trial", keep_every=1)
    folder.begin(resume=False)
    for epoch in (1, 2):
        folder.write_last(state(epoch))
        folder.keep_epoch(epoch, [1, 2][:epoch])
        folder._mirror.wait(60)  # type: ignore[union-attr]
    folder.finish()
    assert events.kinds == ["mirror_failed"]
    assert f"there is no {drive} (mount its drive, or make it)" in events[0][1]
    assert not drive.exists()  # a drive that is not mounted is not made
    drive.mkdir()
    folder.write_last(state(3))
    folder.finish()
    assert epochs_in(drive / "study" / "trial") == {LAST: 3, "epoch-00001.pt": 1, "epoch-00002.pt": 2}
    assert events.kinds == ["mirror_failed"]


def test_what_should_be_forgotten_there_goes_first_when_the_drive_is_back(tmp_path: Path) -> None:
    """A drive that was away when a trial began anew must not keep the attempt before."""
    here, drive, away = tmp_path / "trial", tmp_path / "drive", tmp_path / "away"
    drive.mkdir()
    old, _ = folder_at(here, mirror=drive / "study" / "trial", keep_every=1)
    old.write_last(state(9))
    old.keep_epoch(9, [9])
    old.finish()
    drive.rename(away)
    folder, _ = folder_at(here, mirror=drive / "study" / "trial")
    folder.begin(resume=False)
    folder.write_last(state(1))
    folder._mirror.wait(60)  # type: ignore[union-attr]
    away.rename(drive)
    folder.write_last(state(2))
    folder.finish()
    assert epochs_in(drive / "study" / "trial") == {LAST: 2}


def test_a_full_mirror_stops_nothing_and_keeps_what_it_has(small_disk: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "trial", small_disk / "study" / "trial"
    folder, events = folder_at(here, mirror=there)
    folder.begin(resume=False)
    folder.write_last(state(1))
    folder.finish()
    folder.write_last(state(2, size=600_000))
    folder.finish()
    assert events.kinds == ["mirror_failed"]
    assert "No space left on device" in events[0][1]
    assert epochs_in(there) == {LAST: 1}
    assert names(there) == {LAST}
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    folder.finish()
    assert epochs_in(there) == {LAST: 2, PREVIOUS: 1}


def test_a_slow_drive_holds_no_writer_up_and_gets_the_newest_version(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = places
    at_work, go_on, copied = threading.Event(), threading.Event(), []
    real = durable.copy

    def slow(source: Path, path: Path, **options: Any) -> None:
        at_work.set()
        assert go_on.wait(30)
        real(source, path, **options)
        copied.append(checkpoints.read(path)["epoch"])

    monkeypatch.setattr(durable, "copy", slow)
    folder, events = folder_at(here, mirror=there)
    folder.begin(resume=False)
    folder.write_last(state(1))
    assert at_work.wait(30)
    for epoch in range(2, 7):
        folder.write_last(state(epoch))  # or this would wait for ever
    assert not there.joinpath(LAST).exists()
    go_on.set()
    folder.finish()
    assert copied[-1] == 6
    assert len(copied) == 2  # the versions in between were skipped
    assert events == []


def test_waiting_ends_though_the_drive_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(durable, "copy", lambda *_, **__: go_on.wait(30))
    (tmp_path / LAST).write_bytes(b"x")
    behind = Mirror(tmp_path, Folder(tmp_path / "there"), {})
    behind.copy(LAST)
    assert not behind.wait(0.05)
    assert ["was still behind after 0.05 s" in message for message in behind.news()] == [True]
    go_on.set()
    assert behind.wait(30)


def test_the_best_weights_come_from_the_mirror_when_the_folder_has_none(places: tuple[Path, Path]) -> None:
    here, there = places
    folder, _ = folder_at(here, mirror=there)
    folder.write_best(4, {"weight": torch.ones(3)}, {}, {})
    folder.finish()
    shutil.rmtree(here)
    assert checkpoints.find_best(here, Folder(there))["epoch"] == 4
    assert folder.best()["epoch"] == 4
    with pytest.raises(DataError, match="There is no checkpoint"):
        checkpoints.find_best(here)
    (there / BEST).write_bytes(b"x")
    with pytest.raises(DataError, match="Nor is it in the mirror"):
        checkpoints.find_best(here, Folder(there))


KILLED = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from hpo.places import Folder
from hpo.training import checkpoints
from hpo.training.checkpoints import CheckpointFolder
from hpo.training.settings import TrainerSettings

here, there, told = (Path(argument) for argument in sys.argv[1:4])
draw, told_events = random.Random(int(sys.argv[4])), []


def folder():
    told = lambda kind, message: told_events.append(kind)
    return CheckpointFolder(here, TrainerSettings(keep_every=3), told, Folder(there))


def write_for_ever():
    trial = folder()
    state = trial.begin(resume=True)
    epoch = state["epoch"] if state else 0
    while True:
        epoch += 1
        trial.write_last({"epoch": epoch, "updates": 0, "model": {"w": torch.full((40_000,), float(epoch))}})
        told.write_text(str(epoch))
        trial.keep_epoch(epoch, [])


for turn in range(12):
    before = told.read_text() if told.exists() else ""
    child = os.fork()
    if child == 0:
        write_for_ever()
    while turn % 3 == 0 and (not told.exists() or told.read_text() == before):
        time.sleep(0.001)  # in every third turn it gets somewhere first, on a slow machine too
    time.sleep(draw.uniform(0.02, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = int(told.read_text() or 0) if told.exists() else 0
    found = folder().newest()
    reached = found["epoch"] if found else 0
    assert reached >= acknowledged, (reached, acknowledged)
    assert found is None or found["model"]["w"].unique().tolist() == [reached]
    copies = [checkpoints.read(path)["epoch"] for path in there.glob("*.pt")]
    assert max(copies, default=0) <= reached
assert reached > 0 and told_events == [], told_events
folder().begin(resume=True)
time.sleep(0.2)
assert not list(here.glob(".*.tmp"))
print("fine", reached)
"""


def test_kills_at_random_moments_leave_no_checkpoint_broken_in_either_place(tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    arguments = [str(tmp_path / name) for name in ("trial", "drive/trial", "told")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments, "7"], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fine")
