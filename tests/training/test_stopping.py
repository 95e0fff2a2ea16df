"""Trials that end before their epochs do, and checkpoints in the middle of an epoch."""

import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from training_kit import Clock, Slow, Trial, assert_same, make_settings, make_task, weights

from hpo.errors import TrialFailed
from hpo.training import checkpoints, device_lock, trainer
from hpo.training.settings import EarlyStopping
from hpo.trial import GO_ON, Decision, Goal, Point, StopKind

ROOT = Path(__file__).parents[2]


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_LOOK_EVERY_S", 0.0)


def test_a_time_limit_ends_a_trial_with_its_best_epoch_and_a_checkpoint(
    tmp_path: Path, always_looking: None, clock: Clock
) -> None:
    task, trial = make_task(model=Slow(clock)), Trial(tmp_path, epochs=1000)
    outcome = trial.fit(task, make_settings(time_limit="38s"))  # an epoch takes 5 s
    assert outcome.reason.kind is StopKind.TIME_LIMIT
    assert len(trial.points) == 7
    assert outcome.reason.message == "its time limit of 38 s has passed; 7 of 1000 epochs are done"
    left = checkpoints.read(tmp_path / "last.pt")
    assert (left["epoch"], left["updates"], left["elapsed_s"]) == (7, 3, 38)
    best = checkpoints.read(tmp_path / "best.pt")
    assert best["epoch"] == min(range(1, 8), key=lambda epoch: trial.curve()[epoch - 1])
    assert_same(weights(task.model), best["model"])


def test_a_time_limit_counts_all_attempts(tmp_path: Path, always_looking: None, clock: Clock) -> None:
    settings = make_settings(time_limit=38)
    first = Trial(tmp_path, epochs=1000, stop_requested=lambda: len(first.points) == 3)
    assert first.fit(make_task(model=Slow(clock)), settings).reason.kind is StopKind.INTERRUPTED
    assert checkpoints.read(tmp_path / "last.pt")["elapsed_s"] == 15
    clock.now_s += 1000  # between two attempts
    second = Trial(tmp_path, epochs=1000, resume=True, reported=3)
    assert second.fit(make_task(model=Slow(clock)), settings).reason.kind is StopKind.TIME_LIMIT
    assert [point.step for point in second.points] == [3, 4, 5, 6, 7]
    assert checkpoints.read(tmp_path / "last.pt")["elapsed_s"] == 38


def test_a_time_limit_within_the_first_epoch_fails_with_the_numbers(
    tmp_path: Path, always_looking: None, clock: Clock
) -> None:
    with pytest.raises(TrialFailed, match=r"time limit of 3 s passed before the first epoch was done \(3 of 5 updates"):
        Trial(tmp_path).fit(make_task(model=Slow(clock)), make_settings(time_limit=3))


@pytest.mark.parametrize(("direction", "values", "stops_after"), [
    ("maximize", [0.5, 0.65, 0.7, 0.74, 0.5, 0.5], 4),  # 0.7 and 0.74 are no gains of 0.1 over 0.65
    ("minimize", [0.5, 0.3, 0.25, 0.22, 0.1, 0.1], 4),
])  # fmt: skip
def test_early_stopping_takes_any_metric_direction_and_min_delta(
    tmp_path: Path, direction: str, values: list[float], stops_after: int
) -> None:
    trial = Trial(tmp_path, epochs=6)
    validation = make_task().validation
    planned = type(validation)(validation.data, lambda outputs, targets: {"val_planned": values[len(trial.points)]})
    stopping = EarlyStopping(metric="val_planned", direction=direction, patience=2, min_delta=0.1)  # type: ignore[arg-type]
    outcome = trial.fit(make_task(validation=planned), make_settings(early_stopping=stopping))
    assert outcome.reason.kind is StopKind.EARLY
    assert len(trial.points) == stops_after
    assert "has not improved by 0.1 for 2 epochs since epoch 2" in outcome.reason.message


def test_minutes_between_checkpoints_count_within_an_epoch_and_resuming_there_is_exact(
    tmp_path: Path, always_looking: None
) -> None:
    settings = make_settings(checkpoint_minutes=1e-9, checkpoint_every=100, schedule="one_cycle")
    expected = make_task()
    Trial(tmp_path / "whole", epochs=4).fit(expected, settings)
    folder = tmp_path / "killed"
    script = f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from training_kit import *
        from hpo.training import trainer
        trainer._LOOK_EVERY_S = 0
        def stop_requested():
            newest = Path({str(folder)!r}) / "last.pt"
            if newest.exists():
                from hpo.training import checkpoints
                state = checkpoints.read(newest)
                if (state["epoch"], state["updates"]) == (2, 3):
                    os.kill(os.getpid(), signal.SIGKILL)
            return False
        trial = Trial(Path({str(folder)!r}), epochs=4, stop_requested=stop_requested)
        trial.fit(make_task(), make_settings(
            checkpoint_minutes=1e-9, checkpoint_every=100, schedule="one_cycle"))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=300)
    assert done.returncode == -signal.SIGKILL
    task, trial = make_task(), Trial(folder, epochs=4, resume=True, reported=2)
    trial.fit(task, settings)
    assert_same(weights(task.model), weights(expected.model))
    whole = checkpoints.read(tmp_path / "whole" / "last.pt")
    assert [entry["train_loss"] for entry in whole["history"]] == trial_history(folder, "train_loss")


def trial_history(folder: Path, metric: str) -> list[float]:
    return [entry[metric] for entry in checkpoints.read(folder / "last.pt")["history"]]


KILLED_AT_RANDOM = """
import os, random, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from training_kit import *
from hpo.training import trainer

trainer._LOOK_EVERY_S = 0
folder, looks, precision = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

def stop_requested():
    global looks
    looks -= 1
    if looks == 0:  # anywhere: in an update, in a checkpoint that is being written, in a report
        threading.Timer(random.uniform(0, 0.02), os.kill, (os.getpid(), signal.SIGKILL)).start()
    return False

model = build_model(lambda: nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1)), 3)
trial = Trial(folder, epochs=10, resume=True, reported=0, stop_requested=stop_requested)
settings = make_settings(schedule="cosine", warmup_share=0.1, accumulation=2, batch_size=3, lr=0.02,
    precision=precision, checkpoint_minutes=0.0005, keep_best=2, keep_every=4, grad_clip=1.0)
trial.fit(make_task(model=model), settings)
if looks <= 0:  # the kill is on its way
    signal.pause()
torch.save(weights(model), folder / "final.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_killed_at_random_moments_ends_in_the_same_weights(tmp_path: Path, precision: str) -> None:
    """Ten epochs straight, and ten epochs killed wherever they happen to be, in processes of their own."""

    def run(folder: str, looks: int) -> int:
        arguments = [str(Path(__file__).parent), str(tmp_path / folder), str(looks), precision]
        return subprocess.run([sys.executable, "-c", KILLED_AT_RANDOM, *arguments], timeout=300).returncode

    assert run("straight", 10**6) == 0
    rng, kills = random.Random(20), 0
    while (code := run("killed", rng.randint(5, 40))) != 0:  # of about 80 looks in all
        assert code == -signal.SIGKILL
        kills += 1
        assert kills < 20
    assert kills >= 2
    straight, killed = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("straight", "killed"))
    assert_same(straight, killed)
    for metric in ("train_loss", "val_loss", "lr", "grad_norm"):
        assert trial_history(tmp_path / "straight", metric) == trial_history(tmp_path / "killed", metric)


def test_the_best_and_every_so_many_epochs_keep_their_checkpoints(tmp_path: Path) -> None:
    planned = [5.0, 2.0, 4.0, 1.0, 3.0, 6.0, 7.0]
    trial = Trial(tmp_path, epochs=7, monitor=Goal("val_planned"))
    validation = make_task().validation
    split = type(validation)(validation.data, lambda outputs, targets: {"val_planned": planned[len(trial.points)]})
    trial.fit(make_task(validation=split), make_settings(keep_best=3, keep_every=3, checkpoint_every=100))
    kept = sorted(path.name for path in tmp_path.glob("epoch-*.pt"))
    assert kept == [f"epoch-{epoch:05d}.pt" for epoch in (2, 3, 4, 5, 6)]  # best: 4, 2, 5; every third: 3, 6
    assert checkpoints.read(tmp_path / "epoch-00005.pt")["epoch"] == 5
    assert checkpoints.read(tmp_path / "best.pt")["epoch"] == 4


def make_goal(metric: str):
    from hpo.trial import Goal

    return Goal(metric)


def test_a_stop_that_comes_with_a_report_leaves_a_checkpoint_of_that_epoch(tmp_path: Path) -> None:
    wishes: list[bool] = []

    def answer(point: Point) -> Decision:
        wishes.append(True)
        return GO_ON

    trial = Trial(tmp_path, epochs=9, answer=answer, stop_requested=lambda: len(wishes) == 2)
    trial.fit(make_task(), make_settings(checkpoint_every=100))
    assert checkpoints.read(tmp_path / "last.pt")["epoch"] == 2


def test_an_interrupted_trial_leaves_its_last_checkpoint_at_the_mirror_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpo import durable

    copy = durable.copy

    def slowly(source: Path, path: Path, *, keep: Path | None = None) -> None:
        time.sleep(0.3)
        copy(source, path, keep=keep)

    monkeypatch.setattr(durable, "copy", slowly)
    (tmp_path / "drive").mkdir()
    there = tmp_path / "drive" / "study" / "trial"
    trial = Trial(tmp_path / "here", epochs=1000, mirror=str(there), stop_requested=lambda: len(trial.points) == 2)
    assert trial.fit(make_task()).reason.kind is StopKind.INTERRUPTED
    assert checkpoints.read(there / "last.pt")["epoch"] == checkpoints.read(tmp_path / "here" / "last.pt")["epoch"] == 2


def test_standing_aside_for_a_measurement_counts_in_no_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = textwrap.dedent("""
        import sys, torch
        from hpo.training.device_lock import alone
        with alone(torch.device("cpu")):
            print("alone", flush=True)
            sys.stdin.read()
    """)
    neighbour: list[subprocess.Popen[str]] = []
    flock, timers = device_lock._flock, []

    def answer(point: Point) -> Decision:
        if point.step == 1:
            command, pipe = [sys.executable, "-c", measuring], subprocess.PIPE
            neighbour.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT))
            assert neighbour[0].stdout and neighbour[0].stdout.readline() == "alone\n"
        return GO_ON

    def waiting(path: Path, how: int) -> int:
        """The neighbour ends half a second after the trial begins to wait for it."""
        if neighbour and not timers:
            timers.append(threading.Timer(0.5, neighbour[0].stdin.close))  # type: ignore[union-attr]
            timers[0].start()
        return flock(path, how)

    monkeypatch.setattr(device_lock, "_flock", waiting)
    # Reporting takes as long as the neighbour needs to start, and is the trial's own time.
    trial = Trial(tmp_path, epochs=3, answer=answer)
    began = time.perf_counter()
    trial.fit(make_task())
    whole = time.perf_counter() - began
    neighbour[0].wait()
    assert checkpoints.read(tmp_path / "last.pt")["elapsed_s"] <= whole - 0.5
