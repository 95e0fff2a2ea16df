"""Where a trial goes back to, and what is left of the epochs that it takes back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_kit import Clock, Slow, Trial, assert_same, make_settings, make_task, regression, weights

from hpo.errors import TrialFailed
from hpo.training import checkpoints, trainer
from hpo.training.checkpoints import CheckpointFolder
from hpo.training.task import Split
from hpo.trial import GO_ON, Decision, Event, Goal, Point, StopKind, StopReason


class Failing(nn.Module):
    """A model whose n-th training passes, counted from 1, are NaN or raise."""

    def __init__(self, nan_at: set[int], error: Exception | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.zeros_(self.layer.weight)
        self.nan_at, self.error, self.passes = nan_at, error, 0

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)
        if self.training:
            self.passes += 1
            if self.passes in self.nan_at:
                if self.error is not None:
                    raise self.error
                return output * torch.nan
        return output


def planned(values: Callable[[int], float], trial: Trial) -> Split:
    """The validation set, with ``val_planned`` of the epoch in progress."""
    data = make_task().validation.data
    return Split(data, lambda outputs, targets: {"val_planned": values(1 + len(trial.points))})


def recoveries(trial: Trial) -> list[Event]:
    return [event for point in trial.points for event in point.events if event.kind == "recovery"]


PLANNED = Goal("val_planned")


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_LOOK_EVERY_S", 0.0)


def test_resuming_after_going_back_to_the_best_epoch_ignores_what_was_taken_back(tmp_path: Path) -> None:
    # One update per epoch. Epoch 1 is the best; epoch 4 is NaN twice; then 2 and 3 are done again.
    def answer(point: Point) -> Decision:
        over = len(trial.points) == 4  # 1, 2, 3, and 2 again
        return Decision(StopReason(StopKind.INTERRUPTED, "enough")) if over else GO_ON

    trial = Trial(tmp_path, epochs=6, monitor=PLANNED, answer=answer)
    task = make_task(model=Failing({4, 5}), validation=planned(float, trial))
    settings = make_settings(batch_size=40, keep_every=3)
    with pytest.raises(BaseException, match="enough"):
        trial.fit(task, settings)
    assert [(point.step, point.rewinds) for point in trial.points] == [(1, False), (2, False), (3, False), (2, True)]
    (_, again) = recoveries(trial)
    assert "Went back to the end of epoch 1, the best so far" in again.message
    resumed = Trial(tmp_path, epochs=6, monitor=PLANNED, resume=True, reported=2)
    resumed.fit(make_task(model=Failing(set()), validation=planned(float, resumed)), settings)
    assert [point.step for point in resumed.points] == [2, 3, 4, 5, 6]
    assert resumed.points[0].metrics == trial.points[-1].metrics  # with the smaller learning rate


def test_nan_before_any_epoch_was_the_best_recovers_all_the_same(tmp_path: Path) -> None:
    trial = Trial(tmp_path, epochs=3, monitor=PLANNED)
    nan_first = planned(lambda epoch: float("nan") if epoch == 1 else 1.0, trial)
    outcome = trial.fit(make_task(model=Failing({2, 3}), validation=nan_first), make_settings(batch_size=40))
    assert outcome.reason.kind is StopKind.FINISHED
    assert [point.step for point in trial.points] == [1, 2, 3]
    assert len(recoveries(trial)) == 2


def test_where_the_last_epoch_counts_no_best_epoch_is_claimed(tmp_path: Path) -> None:
    # Epochs 1 and 2 are checkpointed, 3 is not; 4 is NaN, and so is 3 when it is done again.
    trial = Trial(tmp_path, epochs=5, monitor=PLANNED, report="last")
    values = {1: 2.0, 2: 1.0}
    task = make_task(model=Failing({4, 5}), validation=planned(lambda epoch: values.get(epoch, 3.0), trial))
    trial.fit(task, make_settings(batch_size=40, checkpoint_every=10))
    assert [(point.step, point.rewinds) for point in trial.points] == [
        (1, False), (2, False), (3, False), (3, True), (4, False), (5, False)
    ]  # fmt: skip
    (_, again) = recoveries(trial)
    assert again.message.endswith("Went back to the end of epoch 2, with a fresh optimiser.")
    assert_same(weights(task.model), checkpoints.read(tmp_path / "best.pt")["model"])


def test_where_the_last_epoch_counts_a_time_limit_within_the_next_one_does_not_touch_it(
    tmp_path: Path, always_looking: None, clock: Clock
) -> None:
    trial, task = Trial(tmp_path, epochs=1000, report="last"), make_task(model=Slow(clock))
    outcome = trial.fit(task, make_settings(batch_size=1, time_limit=60))  # an epoch takes 40 s
    assert outcome.reason.kind is StopKind.TIME_LIMIT
    last, best = checkpoints.read(tmp_path / "last.pt"), checkpoints.read(tmp_path / "best.pt")
    assert (last["epoch"], last["updates"]) == (1, 20)  # it was left in the middle of an epoch
    assert best["epoch"] == len(trial.points) == 1
    assert_same(weights(task.model), best["model"])


def test_the_time_of_updates_that_are_taken_back_counts(tmp_path: Path, clock: Clock) -> None:
    class Slow(Failing):
        def forward(self, x: Tensor) -> Tensor:
            clock.now_s += self.training
            return super().forward(x)

    trial = Trial(tmp_path, epochs=2)
    trial.fit(make_task(model=Slow({2})), make_settings(batch_size=40))
    assert len(recoveries(trial)) == 1
    assert checkpoints.read(tmp_path / "last.pt")["elapsed_s"] == 3  # three passes, one of them in vain


def test_a_time_limit_that_passes_before_training_begins_fails_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="before the first epoch was done"):
        Trial(tmp_path).fit(make_task(), make_settings(time_limit=1e-9))


def test_a_time_limit_right_after_going_back_leaves_no_reported_epoch_that_is_void(
    tmp_path: Path, clock: Clock
) -> None:
    class Late(Failing):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and self.passes + 1 in self.nan_at:
                clock.now_s += 60
            return super().forward(x)

    trial = Trial(tmp_path, epochs=9, monitor=PLANNED, report="last")
    values = {1: 1.0}
    task = make_task(model=Late({4}), validation=planned(lambda epoch: values.get(epoch, 3.0), trial))
    outcome = trial.fit(task, make_settings(batch_size=40, checkpoint_every=10, time_limit=60))
    assert outcome.reason.kind is StopKind.TIME_LIMIT
    last = trial.points[-1]
    assert (last.step, last.rewinds) == (1, True)
    assert_same(weights(task.model), checkpoints.read(tmp_path / "best.pt")["model"])
    assert checkpoints.read(tmp_path / "best.pt")["epoch"] == 1


def test_pieces_of_a_batch_are_never_too_small_for_batch_norm(tmp_path: Path) -> None:
    class Crowded(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and len(x) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    model = Crowded(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    trial = Trial(tmp_path, epochs=2)
    outcome = trial.fit(make_task(model=model, train=Split(regression(42))), make_settings(batch_size=8))
    assert outcome.reason.kind is StopKind.FINISHED  # the last batch has two samples, in two pieces one each
    assert len(recoveries(trial)) == 1


def test_going_back_into_an_epoch_says_so(tmp_path: Path, always_looking: None) -> None:
    trial = Trial(tmp_path, epochs=2)
    model = Failing({9})  # the fourth update of the second epoch
    trial.fit(make_task(model=model), make_settings(checkpoint_minutes=1e-9))
    (told,) = recoveries(trial)
    assert told.message.endswith("Went back to update 3 of epoch 2.")


def test_weights_beyond_saving_in_the_first_epoch_are_left_for_those_of_the_start(
    tmp_path: Path, always_looking: None
) -> None:
    class Beyond(Failing):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            if self.training and self.passes == 3:
                with torch.no_grad():
                    self.layer.bias.fill_(1e30)  # finite; its square is not
            return output

    trial = Trial(tmp_path, epochs=2)
    outcome = trial.fit(make_task(model=Beyond(set())), make_settings(checkpoint_minutes=1e-9))
    assert outcome.reason.kind is StopKind.FINISHED
    assert recoveries(trial)[-1].message.endswith("Began again.")


def test_measuring_what_no_goal_asks_for_never_ends_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpo.training import meters

    def fails(*args: object) -> float:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(meters, "forward_gflops", fails)
    trial = Trial(tmp_path, epochs=2)
    outcome = trial.fit(make_task())
    assert outcome.reason.kind is StopKind.FINISHED
    assert recoveries(trial) == []
    assert "forward_gflops" not in trial.points[-1].metrics
    assert [event.kind for point in trial.points for event in point.events] == ["not_measured"]


def test_validation_that_draws_random_numbers_resumes_exactly(tmp_path: Path, always_looking: None) -> None:
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.evaluated = nn.Linear(4, 1), 0
            nn.init.ones_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                self.evaluated += 1
            output: Tensor = self.layer(x + torch.rand(()))
            return output

    settings = make_settings(eval_batch_size=4)
    whole = Trial(tmp_path / "whole", epochs=3)
    whole.fit(make_task(model=Drawing()), settings)
    model = Drawing()
    stop = Trial(tmp_path / "stopped", epochs=3, stop_requested=lambda: model.evaluated == 7)
    assert stop.fit(make_task(model=model), settings).reason.kind is StopKind.INTERRUPTED
    again = Trial(tmp_path / "stopped", epochs=3, resume=True, reported=1)
    again.fit(make_task(model=Drawing()), settings)
    assert stop.curve() + again.curve()[1:] == whole.curve()


def test_a_stop_whose_checkpoint_cannot_be_written_does_not_promise_it(
    tmp_path: Path, always_looking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointFolder, "write_last", lambda self, state: None)
    model = Failing(set())
    trial = Trial(tmp_path, stop_requested=lambda: model.passes == 3)
    reason = trial.fit(make_task(model=model)).reason
    assert reason.message == (
        "asked to stop after 3 of 5 updates of epoch 1; no checkpoint of it could be written, "
        "so it goes on from an earlier one"
    )
