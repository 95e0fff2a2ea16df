from pathlib import Path

import pytest
import torch
from torch import nn

from hpo.errors import DataError, TrialFailed
from hpo.training import checkpoints
from hpo.training.checkpoints import BEST, LAST, PREVIOUS


def state(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "model": {"weight": torch.full((2000,), float(epoch))}}


def newest(folder: Path) -> tuple[int | None, list[str]]:
    said: list[str] = []
    found = checkpoints.read_newest(folder, said.append)
    return (found["epoch"] if found else None), said


def test_the_checkpoint_before_the_last_is_kept_and_nothing_unfinished_is_left(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoints.write_last(tmp_path, state(epoch))
    assert checkpoints.read(tmp_path / LAST)["epoch"] == 3
    assert checkpoints.read(tmp_path / PREVIOUS)["epoch"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {LAST, PREVIOUS}


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "not a zip"])
def test_a_broken_last_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoints.write_last(tmp_path, state(1))
    checkpoints.write_last(tmp_path, state(2))
    path = tmp_path / LAST
    content = bytearray(path.read_bytes())
    at = content.index(torch.full((4,), 2.0).numpy().tobytes()) + 100
    content[at] ^= 1
    half = content[: len(content) // 2]
    path.write_bytes(bytes({"truncated": half, "one byte": content, "empty": b"", "not a zip": b"x" * 100}[damage]))
    epoch, said = newest(tmp_path)
    assert epoch == 1
    assert len(said) == 1
    assert LAST in said[0]
    checkpoints.write_last(tmp_path, state(3))
    assert checkpoints.read(tmp_path / PREVIOUS)["epoch"] == 1  # the broken file did not push the good one out


def test_a_crash_between_the_two_renames_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints.write_last(tmp_path, state(1))
    (tmp_path / LAST).rename(tmp_path / PREVIOUS)
    assert newest(tmp_path) == (1, [])


def test_no_checkpoint_is_none_and_broken_ones_are_all_told(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    (tmp_path / LAST).write_bytes(b"")
    (tmp_path / PREVIOUS).write_bytes(b"")
    epoch, said = newest(tmp_path)
    assert epoch is None
    assert len(said) == 2


def test_weights_are_read_back_for_other_rooms(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    checkpoints.write_best(tmp_path, 7, model.state_dict(), {"val_loss": 0.5})
    loaded = nn.Linear(3, 2)
    loaded.load_state_dict(checkpoints.load_weights(tmp_path / BEST))
    assert torch.equal(loaded.weight, model.weight)
    assert checkpoints.read(tmp_path / BEST)["metrics"] == {"val_loss": 0.5}
    with pytest.raises(DataError, match="There is no checkpoint"):
        checkpoints.load_weights(tmp_path / "none.pt")


def test_another_models_checkpoint_is_refused_by_its_keys_and_shapes() -> None:
    mine, stored = nn.Linear(3, 2).state_dict(), nn.Linear(4, 2).state_dict()
    stored["extra"] = stored.pop("bias")
    with pytest.raises(TrialFailed, match=r"lacks bias; it has the unknown extra; it has weight \(2, 4\) for \(2, 3\)"):
        checkpoints.check_fits(mine, stored, "last.pt")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    checkpoints.write_last(tmp_path, state(1))

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrialFailed, match="No space left on device"):
        checkpoints.write_atomically(tmp_path / LAST, full, keep=tmp_path / PREVIOUS)
    assert newest(tmp_path) == (1, [])
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
