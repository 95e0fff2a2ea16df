import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_kit import Trial, assert_same, make_settings, make_task, weights

from hpo.errors import TrialFailed
from hpo.training import checkpoints, trainer
from hpo.training.optimizers import OPTIMIZERS
from hpo.training.settings import EarlyStopping, TrainerSettings
from hpo.trial import GO_ON, Decision, Goal, Point, StopKind, StopReason, TrialStopped

EPOCHS = 6


def stop_at(step: int) -> Decision:
    return Decision(StopReason(StopKind.INTERRUPTED, f"stopped at {step}"))


def unbroken(folder: Path, settings: TrainerSettings) -> tuple[dict[str, torch.Tensor], Trial]:
    task, trial = make_task(), Trial(folder, epochs=EPOCHS)
    trial.fit(task, settings)
    return weights(task.model), trial


def assert_equal(a: Any, b: Any) -> None:
    """Nested state, equal bit for bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    else:
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def assert_same_training(a: Trial, b: Trial) -> None:
    """Same weights, optimiser and generators at the end, same curves, bit for bit."""
    first, second = (checkpoints.read(trial.folder / "last.pt") for trial in (a, b))
    assert_same(first["model"], second["model"])
    assert torch.equal(first["rng"]["torch"], second["rng"]["torch"])
    for key, state in first["optimizer"]["state"].items():
        assert_equal(state, second["optimizer"]["state"][key])
    assert repr(first["progress"]) == repr(second["progress"])  # equal where both are NaN, too
    for name in ("train_loss", "val_loss", "lr", "grad_norm"):
        assert [m[name] for m in first["history"]] == [m[name] for m in second["history"]]


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_stopped_trial_goes_on_as_if_it_had_never_stopped(tmp_path: Path, optimizer: str) -> None:
    settings = make_settings(optimizer=optimizer, schedule="cosine", warmup_epochs=1, grad_clip=1.0)
    expected, whole = unbroken(tmp_path / "whole", settings)
    folder = tmp_path / "broken"
    with pytest.raises(TrialStopped):
        Trial(folder, epochs=EPOCHS, answer=lambda p: stop_at(3) if p.step == 3 else GO_ON).fit(make_task(), settings)
    task, trial = make_task(), Trial(folder, epochs=EPOCHS, resume=True)
    trial.fit(task, settings)
    assert_same(weights(task.model), expected)
    assert_same_training(whole, trial)
    assert [point.step for point in trial.points] == [3, 4, 5, 6]  # the third again: its report may be lost


def test_fp16_resumes_with_its_scale(tmp_path: Path) -> None:
    settings = make_settings(precision="fp16")
    expected, whole = unbroken(tmp_path / "whole", settings)
    folder = tmp_path / "broken"
    with pytest.raises(TrialStopped):
        Trial(folder, epochs=EPOCHS, answer=lambda p: stop_at(2) if p.step == 2 else GO_ON).fit(make_task(), settings)
    task, trial = make_task(), Trial(folder, epochs=EPOCHS, resume=True)
    trial.fit(task, settings)
    assert_same(weights(task.model), expected)
    first, second = (checkpoints.read(t.folder / "last.pt")["scaler"] for t in (whole, trial))
    assert first == second


def test_a_killed_trial_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = make_settings(schedule="linear", checkpoint_every=2)
    expected, whole = unbroken(tmp_path / "whole", settings)
    folder = tmp_path / "killed"
    script = f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from training_kit import *
        from hpo.training import trainer
        trainer._LOOK_EVERY_S = 0
        looks = []
        def stop_requested():
            if len(trial.points) == 3:
                looks.append(True)
                if len(looks) == 4:  # three updates into the fourth epoch
                    os.kill(os.getpid(), signal.SIGKILL)
            return False
        trial = Trial(Path({str(folder)!r}), epochs={EPOCHS}, stop_requested=stop_requested)
        trial.fit(make_task(), make_settings(schedule="linear", checkpoint_every=2))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=300)
    assert done.returncode == -signal.SIGKILL
    task, trial = make_task(), Trial(folder, epochs=EPOCHS, resume=True)
    trial.fit(task, settings)
    assert_same(weights(task.model), expected)
    assert_same_training(whole, trial)


def test_a_request_to_stop_in_the_middle_of_an_epoch_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, whole = unbroken(tmp_path / "whole", make_settings())
    monkeypatch.setattr(trainer, "_LOOK_EVERY_S", 0.0)
    points: list[Point] = []
    looks: list[int] = []

    def stop_requested() -> bool:
        looks.extend([1] * (len(points) == 2))
        return len(looks) == 4  # three updates into the third epoch

    trial = Trial(tmp_path / "asked", epochs=EPOCHS, stop_requested=stop_requested)
    points = trial.points
    outcome = trial.fit(make_task())
    assert outcome.reason.kind is StopKind.INTERRUPTED
    assert outcome.reason.message == "asked to stop after 3 of 5 updates of epoch 3; goes on from there"
    left = checkpoints.read(tmp_path / "asked" / "last.pt")
    assert (left["epoch"], left["updates"]) == (2, 3)
    task = make_task()
    again = Trial(tmp_path / "asked", epochs=EPOCHS, resume=True, reported=2)
    assert again.fit(task).reason.kind is StopKind.FINISHED
    assert [point.step for point in again.points] == [2, 3, 4, 5, 6]
    assert_same(weights(task.model), expected)
    assert_same_training(whole, again)


def test_what_the_study_lost_is_reported_again_and_no_more(tmp_path: Path) -> None:
    """A database put back from an older copy knows fewer epochs than the checkpoint."""
    with pytest.raises(TrialStopped):
        Trial(tmp_path, epochs=EPOCHS, answer=lambda p: stop_at(4) if p.step == 4 else GO_ON).fit(make_task())
    trial = Trial(tmp_path, epochs=EPOCHS, resume=True, reported=1)
    trial.fit(make_task())
    assert [point.step for point in trial.points] == [2, 3, 4, 5, 6]
    assert [point.checkpoint for point in trial.points] == [None, None, "last.pt", "last.pt", "last.pt"]


def test_a_trial_that_was_over_gives_its_outcome_without_training(tmp_path: Path) -> None:
    settings = make_settings(early_stopping=EarlyStopping(metric="val_mae", direction="maximize", patience=1))
    first_task, first = make_task(), Trial(tmp_path, epochs=50, monitor=Goal("val_mae"))
    outcome = first.fit(first_task, settings)
    assert outcome.reason.kind is StopKind.EARLY
    task, trial = make_task(), Trial(tmp_path, epochs=50, monitor=Goal("val_mae"), resume=True)
    assert trial.fit(task, settings) == outcome
    assert_same(weights(task.model), weights(first_task.model))
    assert trial.points[-1].step == first.points[-1].step
    assert len(trial.points) == 1


def test_a_broken_last_checkpoint_falls_back_and_the_event_is_told(tmp_path: Path) -> None:
    expected, _ = unbroken(tmp_path / "whole", make_settings())
    folder = tmp_path / "broken"

    def answer(point: Point) -> Decision:
        return stop_at(4) if point.step == 4 else GO_ON

    with pytest.raises(TrialStopped):
        Trial(folder, epochs=EPOCHS, answer=answer).fit(make_task())
    path = folder / "last.pt"
    path.write_bytes(path.read_bytes()[:-200])
    task, trial = make_task(), Trial(folder, epochs=EPOCHS, resume=True)
    trial.fit(task)
    assert [event.kind for event in trial.points[0].events] == ["broken_checkpoint"]
    assert [point.step for point in trial.points] == [3, 4, 5, 6]
    assert_same(weights(task.model), expected)


def test_best_weights_lost_in_a_crash_come_back_from_the_last_checkpoint(tmp_path: Path) -> None:
    def answer(point: Point) -> Decision:
        return stop_at(2) if point.step == 2 else GO_ON

    with pytest.raises(TrialStopped):
        Trial(tmp_path, answer=answer).fit(make_task())
    assert checkpoints.read(tmp_path / "best.pt")["epoch"] == 2  # or this test shows nothing
    (tmp_path / "best.pt").unlink()
    with pytest.raises(TrialStopped):
        Trial(tmp_path, answer=answer, resume=True).fit(make_task())
    assert checkpoints.read(tmp_path / "best.pt")["epoch"] == 2


def test_last_weights_lost_in_a_crash_come_back_from_the_last_checkpoint(tmp_path: Path) -> None:
    task = make_task()
    Trial(tmp_path, report="last").fit(task)
    (tmp_path / "best.pt").unlink()
    Trial(tmp_path, report="last", resume=True).fit(make_task())
    assert_same(checkpoints.load_weights(tmp_path / "best.pt"), weights(task.model))


def test_resuming_with_no_checkpoint_begins_and_beginning_forgets_old_checkpoints(tmp_path: Path) -> None:
    trial = Trial(tmp_path, resume=True)
    trial.fit(make_task())
    assert [point.step for point in trial.points] == [1, 2, 3, 4]
    again = Trial(tmp_path, stop_requested=lambda: True)
    assert again.fit(make_task()).reason.kind is StopKind.INTERRUPTED
    assert {path.name for path in tmp_path.glob("*.pt")} == {"last.pt", "start.pt"}
    assert checkpoints.read(tmp_path / "last.pt")["epoch"] == 0


def test_another_models_checkpoint_fails_with_the_keys(tmp_path: Path) -> None:
    Trial(tmp_path, epochs=1).fit(make_task())
    with pytest.raises(TrialFailed, match=r"another model: it lacks .*it has the unknown"):
        Trial(tmp_path, resume=True).fit(make_task(model=nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Linear(1, 1))))


def test_checkpoints_hold_plain_values_only(tmp_path: Path) -> None:
    Trial(tmp_path, epochs=1).fit(make_task())
    for name in ("last.pt", "best.pt"):
        assert torch.load(tmp_path / name, weights_only=True)["format"] == 1


@pytest.mark.parametrize("changed", [{"seed": 12}, {"params": {"lr": 0.5}}])
def test_a_checkpoint_that_another_trial_of_this_number_left_is_not_gone_on_with(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    Trial(tmp_path, epochs=2).fit(make_task())
    trial = Trial(tmp_path, epochs=2, resume=True, reported=0, **changed)
    trial.fit(make_task())
    assert [point.step for point in trial.points] == [1, 2]
    assert trial.points[0].events[0].kind == "other_checkpoint"
    again = Trial(tmp_path, epochs=3, resume=True, reported=2, **changed)
    again.fit(make_task())
    assert [point.step for point in again.points] == [2, 3]
