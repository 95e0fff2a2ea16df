"""Memory that runs out and numbers that explode, with real causes."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_kit import Trial, assert_same, make_settings, make_task, regression, weights

from hpo.errors import OutOfMemory, TrialFailed
from hpo.training import checkpoints
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split
from hpo.trial import Decision, Event, Goal, Point, StopKind


class Crowded(nn.Module):
    """A CPU's stand-in for a small GPU: batches above ``most`` do not fit, as PyTorch puts it."""

    def __init__(self, most: int, most_in_eval: int = 10**6) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.most, self.most_in_eval = most, most_in_eval
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > (self.most if self.training else self.most_in_eval):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        if self.training:
            self.seen.append(len(x))
        return self.layer(x)


def recoveries(trial: Trial) -> list[Event]:
    return [event for point in trial.points for event in point.events if event.kind == "recovery"]


def explosive(lr: float, **settings: int) -> tuple[nn.Module, TrainerSettings]:
    """Gradient descent on a parabola, which diverges above lr = 1 / curvature."""
    model = nn.Linear(4, 1)
    nn.init.constant_(model.weight, 2)
    nn.init.zeros_(model.bias)
    return model, make_settings(optimizer="sgd", momentum=0.0, lr=lr, batch_size=40, **settings)


def test_memory_that_runs_out_halves_the_batch_and_the_updates_stay_the_same(tmp_path: Path) -> None:
    roomy, crowded = Crowded(10**6), Crowded(5)
    settings = make_settings(batch_size=16, schedule="cosine", grad_clip=1.0)
    whole, trial = Trial(tmp_path / "whole"), Trial(tmp_path / "crowded")
    whole.fit(make_task(model=roomy), settings)
    outcome = trial.fit(make_task(model=crowded), settings)
    assert outcome.reason.kind is StopKind.FINISHED
    told = recoveries(trial)
    assert [event.details["parts"] for event in told] == [2, 4]
    assert [event.details["cause"] for event in told] == ["OutOfMemoryError"] * 2
    assert told[0].message == (
        "Out of memory at a physical batch of 16 (CUDA out of memory. Tried to allocate 2.00 GiB.). "
        "Physical batch 8, 2 times the accumulation. Began again."
    )
    assert max(crowded.seen) == 4
    torch.testing.assert_close(crowded.layer.weight, roomy.layer.weight)
    assert trial.curve() == pytest.approx(whole.curve(), rel=1e-5)
    assert trial.curve("lr") == whole.curve("lr")


def test_memory_that_runs_out_later_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    model = Crowded(16)
    trial = Trial(tmp_path, epochs=4)

    def answer(point: object) -> None:
        model.most = 8 if len(trial.points) >= 2 else 16

    send = trial.context._send
    trial.context._send = lambda point: (send(point), answer(point))[0]
    trial.fit(make_task(model=model), make_settings(batch_size=16))
    (told,) = recoveries(trial)
    assert told.details["epoch"] == 2
    assert told.message.endswith("Went back to the end of epoch 2.")
    assert [point.step for point in trial.points] == [1, 2, 3, 4]


def test_speed_and_memory_are_measured_again_at_the_smaller_batch(tmp_path: Path) -> None:
    model = Crowded(16)
    trial = Trial(tmp_path, epochs=3, goals=(Goal("peak_memory_mb"),))
    send = trial.context._send

    def crowd(point: Point) -> Decision:
        model.most = 8
        return send(point)

    trial.context._send = crowd
    outcome = trial.fit(make_task(model=model), make_settings(batch_size=16))
    first, last = (trial.points[i].metrics["peak_memory_mb"] for i in (0, -1))
    assert outcome.metrics["peak_memory_mb"] == last != first


def test_a_batch_of_one_that_does_not_fit_fails_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"Out of memory at a physical batch of 1 .*The physical batch is 1 already"):
        Trial(tmp_path).fit(make_task(model=Crowded(0)), make_settings(batch_size=4))


def test_what_cannot_fit_is_refused_before_its_first_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 4 rows and a bias of 4 bytes each: 1.25 MB, with gradients and AdamW's two moments 5 MB.
    model = nn.Sequential(nn.Linear(4, 2**16), nn.Flatten(0), nn.Unflatten(0, (-1, 2**16)), nn.AdaptiveAvgPool1d(1))
    monkeypatch.setattr("hpo.training.checks.estimate.available_mb", lambda device, share: 4.9)
    with pytest.raises(OutOfMemory, match=r"Refused before its first update: .* together 5\.0 MB; 4\.9 MB are free"):
        Trial(tmp_path).fit(make_task(model=model))
    monkeypatch.setattr("hpo.training.checks.estimate.available_mb", lambda device, share: 5.1)
    assert Trial(tmp_path / "roomy").fit(make_task(model=model)).reason.kind is StopKind.FINISHED


def test_memory_that_runs_out_while_evaluating_only_evaluates_smaller_batches(tmp_path: Path) -> None:
    model, roomy = Crowded(10**6, most_in_eval=5), Crowded(10**6)
    trial, whole = Trial(tmp_path / "a"), Trial(tmp_path / "b")
    trial.fit(make_task(model=model), make_settings(batch_size=8))  # evaluates 16 at once
    whole.fit(make_task(model=roomy), make_settings(batch_size=8))
    assert [event.details["eval_batch_size"] for event in recoveries(trial)] == [16, 8, 4]
    assert_same(weights(model), weights(roomy))
    assert trial.curve() == pytest.approx(whole.curve(), rel=1e-6)


def test_an_exploding_loss_goes_back_with_half_the_learning_rate_until_it_holds(tmp_path: Path) -> None:
    model, settings = explosive(1.6)  # the curvature is about 2, so from 0.8 on it converges
    trial = Trial(tmp_path, epochs=400)
    outcome = trial.fit(make_task(model=model), settings)
    assert outcome.reason.kind is StopKind.FINISHED
    told = recoveries(trial)
    assert [event.details["lr_factor"] for event in told] == [0.5**n for n in range(1, len(told) + 1)]
    assert 1 <= len(told) <= 3
    assert "must stay finite; it became" in told[0].message
    assert trial.curve("lr")[-1] == pytest.approx(1.6 * 0.5 ** len(told))
    assert trial.curve("train_loss")[-1] < 1e-3
    assert all(math.isfinite(value) for value in trial.curve("train_loss"))


def test_after_three_recoveries_the_trial_fails_with_every_cause(tmp_path: Path) -> None:
    x, y = regression(40)
    y[17] = math.nan  # no learning rate helps
    trial = Trial(tmp_path)
    with pytest.raises(TrialFailed, match=r"became nan at epoch 1, update [1-5]; .*Recovered 3 times before") as failed:
        trial.fit(make_task(train=Split((x, y))))
    assert str(failed.value).count("became nan") == 4
    assert [event.kind for event in trial.context.take_events()] == ["recovery"] * 3


def test_recovering_can_be_switched_off(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="Out of memory at a physical batch of 8"):
        Trial(tmp_path).fit(make_task(model=Crowded(4)), make_settings(max_recoveries=0))


@pytest.mark.slow
def test_what_was_reported_after_the_checkpoint_is_taken_back(tmp_path: Path) -> None:
    model, settings = explosive(1.6, checkpoint_every=50)
    trial = Trial(tmp_path, epochs=400, report="last")
    trial.fit(make_task(model=model), settings)
    (first, *_) = [point for point in trial.points if point.rewinds]
    before = trial.points[trial.points.index(first) - 1]
    assert first.step == 2  # only the first epoch was better than all before it
    assert before.step > 20
    kept = {point.step: point for point in trial.points}
    assert sorted(kept) == list(range(1, 401))


def test_a_resumed_trial_keeps_what_it_recovered_to(tmp_path: Path) -> None:
    whole, broken = Crowded(5), Crowded(5)
    settings = make_settings(batch_size=16)
    Trial(tmp_path / "whole", epochs=4).fit(make_task(model=whole), settings)
    stop = Trial(tmp_path / "broken", epochs=4, stop_requested=lambda: len(stop.points) == 2)
    assert stop.fit(make_task(model=broken), settings).reason.kind is StopKind.INTERRUPTED
    assert checkpoints.read(tmp_path / "broken" / "last.pt")["recovery"]["parts"] == 4
    again = Trial(tmp_path / "broken", epochs=4, resume=True)
    model = Crowded(5)
    again.fit(make_task(model=model), settings)
    assert recoveries(again) == []
    assert_same(weights(model), weights(whole))
