import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpo import durable
from hpo.errors import DataError, TrialFailed
from hpo.places import Folder
from hpo.training import checkpoints
from hpo.training.checkpoints import BEST, LAST, PREVIOUS, START, CheckpointFolder
from hpo.training.settings import TrainerSettings


def state(epoch: int, updates: int = 0, size: int = 2000) -> dict[str, Any]:
    return {"epoch": epoch, "updates": updates, "model": {"weight": torch.full((size,), float(epoch))}}


class Events(list[tuple[str, str]]):
    """What a folder told."""

    def __call__(self, kind: str, message: str, **details: Any) -> None:
        self.append((kind, message))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


def folder_at(path: Path, *, mirror: Path | None = None, **settings: Any) -> tuple[CheckpointFolder, Events]:
    events = Events()
    return CheckpointFolder(path, TrainerSettings(**settings), events, mirror and Folder(mirror)), events


def newest(path: Path) -> tuple[int | None, Events]:
    folder, events = folder_at(path)
    found = folder.begin(resume=True)
    return (found["epoch"] if found else None), events


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(bytes(content))


def inside(path: Path, value: float) -> int:
    """Where in a checkpoint a weight of this value stands."""
    return path.read_bytes().index(torch.full((4,), value).numpy().tobytes()) + 100


def test_the_checkpoint_before_the_last_is_kept_and_nothing_unfinished_is_left(tmp_path: Path) -> None:
    folder, events = folder_at(tmp_path)
    assert folder.begin(resume=False) is None
    assert [folder.write_last(state(epoch)) for epoch in (1, 2, 3)] == [LAST, LAST, LAST]
    assert checkpoints.read(tmp_path / LAST)["epoch"] == 3
    assert checkpoints.read(tmp_path / PREVIOUS)["epoch"] == 2
    assert names(tmp_path) == {LAST, PREVIOUS}
    assert events == []


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "not a zip"])
def test_a_broken_last_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    folder, _ = folder_at(tmp_path)
    for epoch in (1, 2):
        folder.write_last(state(epoch))
    path = tmp_path / LAST
    if damage == "one byte":
        flip(path, inside(path, 2.0))
    else:
        half = path.read_bytes()[: path.stat().st_size // 2]
        path.write_bytes({"truncated": half, "empty": b"", "not a zip": b"x" * 100}[damage])
    again, events = folder_at(tmp_path)
    found = again.begin(resume=True)
    assert found is not None and found["epoch"] == 1
    assert events.kinds == ["broken_checkpoint"]
    assert LAST in events[0][1]
    again.write_last(state(3))
    assert checkpoints.read(tmp_path / PREVIOUS)["epoch"] == 1  # the broken file did not push the good one out


@pytest.mark.parametrize("seed", [0, 1])
def test_damage_anywhere_is_seen_or_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Any flipped bit, any truncation: refused, or in a place that no value depends on."""
    draw, path = random.Random(seed), tmp_path / LAST
    generator = torch.Generator().manual_seed(seed)
    content = {
        "epoch": 4,
        "model": {"a": torch.randn(500, generator=generator), "b": torch.randn(3, 5, generator=generator)},
        "history": [{"val_loss": 0.25}, {"val_loss": float("inf")}],
    }
    folder_at(tmp_path)[0].write_last(content)
    whole = path.read_bytes()
    seen = 0
    for _ in range(300):
        path.write_bytes(whole)
        flip(path, draw.randrange(len(whole)), draw.randrange(8))
        try:
            found = checkpoints.read(path)
        except DataError:
            seen += 1
            continue
        assert {name: found[name] for name in ("epoch", "history")} == {"epoch": 4, "history": content["history"]}
        assert all(torch.equal(found["model"][name], value) for name, value in content["model"].items())
    assert seen > 100
    for length in [0, 1, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=LAST):
            checkpoints.read(path)


def test_every_byte_of_the_weights_is_covered(tmp_path: Path) -> None:
    path = tmp_path / LAST
    folder_at(tmp_path)[0].write_last(state(2))
    whole, first = path.read_bytes(), inside(path, 2.0) - 100
    for at in range(first, first + 2000 * 4, 61):
        path.write_bytes(whole)
        flip(path, at)
        with pytest.raises(DataError, match="is damaged"):
            checkpoints.read(path)


def test_a_crash_between_the_two_renames_leaves_the_one_before(tmp_path: Path) -> None:
    folder_at(tmp_path)[0].write_last(state(1))
    (tmp_path / LAST).rename(tmp_path / PREVIOUS)
    assert newest(tmp_path) == (1, [])


def test_no_checkpoint_is_none_and_broken_ones_are_all_told(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    (tmp_path / LAST).write_bytes(b"")
    (tmp_path / PREVIOUS).write_bytes(b"")
    epoch, events = newest(tmp_path)
    assert epoch is None
    assert events.kinds == ["broken_checkpoint"] * 2


def test_what_has_come_furthest_wins_also_within_an_epoch(tmp_path: Path) -> None:
    folder, _ = folder_at(tmp_path, keep_every=1)
    for progress in ((3, 0), (3, 7)):
        folder.write_last(state(*progress))
    found = folder.newest()
    assert found is not None and (found["epoch"], found["updates"]) == (3, 7)
    (tmp_path / LAST).rename(tmp_path / "epoch-00009.pt")
    (tmp_path / PREVIOUS).rename(tmp_path / LAST)
    found = folder_at(tmp_path)[0].begin(resume=True)
    assert found is not None and found["updates"] == 7
    assert checkpoints.read(tmp_path / LAST)["updates"] == 7


def test_beginning_anew_forgets_an_earlier_attempt(tmp_path: Path) -> None:
    folder, _ = folder_at(tmp_path, keep_every=1)
    folder.write_start(state(0))
    folder.write_last(state(1))
    folder.keep_epoch(1, [1])
    folder.write_best(1, state(1)["model"], {}, {})
    (tmp_path / START).write_bytes(b"old")
    (tmp_path / "error.txt").write_text("mine")
    assert folder_at(tmp_path)[0].begin(resume=False) is None
    assert names(tmp_path) == {"error.txt"}


def test_only_what_a_dead_process_or_this_one_left_unfinished_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine, dead = tmp_path / f".last.pt.{os.getpid()}-0.tmp", tmp_path / f".last.pt.{gone.pid}-3.tmp"
    alive, foreign = tmp_path / f".last.pt.{os.getppid()}-0.tmp", tmp_path / ".notes.tmp"
    for path in (mine, dead, alive, foreign):
        path.touch()
    folder_at(tmp_path)[0].begin(resume=True)
    assert names(tmp_path) == {alive.name, foreign.name}


def test_weights_are_read_back_for_other_rooms(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    folder, _ = folder_at(tmp_path)
    folder.write_best(7, model.state_dict(), {"val_loss": 0.5}, {"job": {"number": 3}})
    loaded = nn.Linear(3, 2)
    loaded.load_state_dict(checkpoints.load_weights(tmp_path / BEST))
    assert torch.equal(loaded.weight, model.weight)
    best = checkpoints.find_best(tmp_path)
    assert (best["epoch"], best["metrics"], best["facts"]) == (7, {"val_loss": 0.5}, {"job": {"number": 3}})
    assert folder.is_best(7) and not folder.is_best(6)
    with pytest.raises(DataError, match="There is no checkpoint"):
        checkpoints.load_weights(tmp_path / "none.pt")


def test_another_models_checkpoint_is_refused_by_its_keys_and_shapes() -> None:
    mine, stored = nn.Linear(3, 2).state_dict(), nn.Linear(4, 2).state_dict()
    stored["extra"] = stored.pop("bias")
    with pytest.raises(TrialFailed, match=r"lacks bias; it has the unknown extra; it has weight \(2, 4\) for \(2, 3\)"):
        checkpoints.check_fits(mine, stored, "last.pt")


# What is kept


def train(folder: CheckpointFolder, losses: list[float], **last: Any) -> None:
    for epoch in range(1, len(losses) + 1):
        folder.write_last(state(epoch, **last))
        folder.keep_epoch(epoch, sorted(range(1, epoch + 1), key=lambda e: losses[e - 1]))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, set()),
        ({"keep_best": 1}, set()),  # best.pt is that one
        ({"keep_best": 2}, {2, 5}),
        ({"keep_every": 3}, {3, 6}),
        ({"keep_best": 3, "keep_every": 4}, {2, 3, 4, 5}),
    ],
)
def test_the_best_and_every_nth_epoch_are_kept_and_the_rest_cleaned_up(
    tmp_path: Path, settings: dict[str, int], kept: set[int]
) -> None:
    folder, _ = folder_at(tmp_path, **settings)
    train(folder, [6.0, 2.0, 3.0, 4.0, 1.0, 5.0])
    assert set(checkpoints.kept_epochs(tmp_path)) == kept
    for epoch, path in checkpoints.kept_epochs(tmp_path).items():
        assert checkpoints.read(path)["epoch"] == epoch
    assert {path.name for path in checkpoints.kept_epochs(tmp_path).values()} == {f"epoch-{e:05d}.pt" for e in kept}


def test_a_kept_epoch_costs_no_second_copy_and_outlives_the_next(tmp_path: Path) -> None:
    folder, _ = folder_at(tmp_path, keep_every=1)
    folder.write_last(state(1))
    folder.keep_epoch(1, [1])
    assert (tmp_path / "epoch-00001.pt").samefile(tmp_path / LAST)
    folder.write_last(state(2))
    assert checkpoints.read(tmp_path / "epoch-00001.pt")["epoch"] == 1


def test_without_hard_links_a_kept_epoch_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(durable.os, "link", no_links)
    folder, events = folder_at(tmp_path, keep_every=1)
    train(folder, [1.0, 2.0])
    assert sorted(checkpoints.kept_epochs(tmp_path)) == [1, 2]
    assert not (tmp_path / "epoch-00002.pt").samefile(tmp_path / LAST)
    assert events == []


def test_an_epoch_without_its_own_checkpoint_is_not_kept_under_its_name(tmp_path: Path) -> None:
    folder, _ = folder_at(tmp_path, keep_every=1)
    folder.write_last(state(1))
    folder.keep_epoch(2, [2, 1])
    folder.write_last(state(2, updates=5))
    folder.keep_epoch(2, [2, 1])
    assert checkpoints.kept_epochs(tmp_path) == {}


# The start


def test_the_start_is_there_to_go_back_to_until_a_checkpoint_is(tmp_path: Path) -> None:
    folder, _ = folder_at(tmp_path)
    folder.begin(resume=False)
    assert folder.newest() is None
    folder.write_start(state(0))
    found = folder.newest()
    assert found is not None and found["epoch"] == 0
    folder.write_last(state(1))
    found = folder.newest()
    assert found is not None and found["epoch"] == 1
    assert folder.start() is None
    assert names(tmp_path) == {LAST}


def test_a_start_is_no_checkpoint_of_another_attempt(tmp_path: Path) -> None:
    folder_at(tmp_path)[0].write_start(state(0))
    folder, _ = folder_at(tmp_path)
    assert folder.begin(resume=True) is None
    assert names(tmp_path) == set()


# Disks that are full, read-only or gone


def test_a_full_disk_stops_no_training_and_loses_nothing_that_was_saved(small_disk: Path) -> None:
    trial = small_disk / "trial"
    folder, events = folder_at(trial)
    folder.begin(resume=False)
    folder.write_last(state(1))
    folder.write_best(1, state(1)["model"], {"val_loss": 2.0}, {})
    big = 600_000  # 2.3 MB
    folder.write_start(state(0, size=big))
    assert folder.write_last(state(2, size=big)) is None
    assert folder.write_last(state(3, size=big)) is None
    folder.write_best(3, state(3, size=big)["model"], {"val_loss": 1.0}, {})
    assert events.kinds == ["checkpoint_failed"]  # once for one cause
    assert "No space left on device" in events[0][1]
    assert checkpoints.read(trial / LAST)["epoch"] == 1
    assert checkpoints.read(trial / BEST)["epoch"] == 1
    assert names(trial) == {LAST, BEST}
    assert folder.is_best(3)
    assert torch.equal(folder.best()["model"]["weight"], torch.full((big,), 3.0))
    # Room again: the next checkpoint is written, and with it the best that could not be.
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert folder.write_last(state(4)) == LAST
    assert checkpoints.read(trial / BEST)["epoch"] == 3
    assert checkpoints.read(trial / LAST)["epoch"] == 4


def test_a_start_that_finds_no_room_is_kept_in_memory(small_disk: Path) -> None:
    folder, events = folder_at(small_disk / "trial")
    folder.begin(resume=False)
    given = state(0, size=600_000)
    folder.write_start(given)
    given["model"]["weight"].fill_(9.0)
    found = folder.newest()
    assert found is not None and found["model"]["weight"].unique().tolist() == [0.0]
    found["model"]["weight"].fill_(9.0)
    found = folder.start()
    assert found is not None and found["model"]["weight"].unique().tolist() == [0.0]
    assert events.kinds == ["checkpoint_failed"]


def test_a_read_only_disk_stops_no_training(small_disk: Path) -> None:
    trial = small_disk / "trial"
    before, _ = folder_at(trial)
    before.begin(resume=False)
    before.write_last(state(1))
    before.write_last(state(2))
    flip(trial / LAST, inside(trial / LAST, 2.0))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    folder, events = folder_at(trial, keep_every=1)
    found = folder.begin(resume=True)
    assert found is not None and found["epoch"] == 1
    assert folder.write_last(state(3)) is None
    folder.keep_epoch(3, [3])
    folder.write_best(3, state(3)["model"], {}, {})
    assert folder.best()["epoch"] == 3
    assert set(events.kinds) == {"broken_checkpoint", "checkpoint_failed"}
    assert events.kinds.count("checkpoint_failed") == 1
    with pytest.raises(TrialFailed, match="Make .* writable, or remove it"):
        folder_at(trial)[0].begin(resume=False)


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    folder, events = folder_at(trial)
    folder.begin(resume=False)
    folder.write_last(state(1))
    trial.rename(tmp_path / "elsewhere")
    assert folder.write_last(state(2)) == LAST
    assert checkpoints.read(trial / LAST)["epoch"] == 2
    assert events == []


def test_a_folder_that_cannot_be_made_fails_the_trial(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrialFailed, match="Cannot make the trial's folder"):
        folder_at(tmp_path / "file" / "trial")[0].begin(resume=False)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder_at(tmp_path)[0].write_last(state(1))

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrialFailed, match="No space left on device"):
        checkpoints.write_atomically(tmp_path / LAST, full)
    assert newest(tmp_path) == (1, [])
    assert names(tmp_path) == {LAST}
