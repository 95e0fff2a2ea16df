import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_kit import Trial, assert_same, mae, make_settings, make_task, regression, weights

from hpo.errors import TrialFailed
from hpo.training import checkpoints
from hpo.training.settings import EarlyStopping
from hpo.training.task import Split
from hpo.trial import GO_ON, Decision, Goal, Point, StopKind, StopReason, TrialStopped


def test_every_epoch_is_reported_with_its_metrics_after_its_checkpoint(tmp_path: Path) -> None:
    seen: list[int] = []

    def answer(point: Point) -> Decision:
        seen.append(checkpoints.read(tmp_path / "last.pt")["epoch"])
        return GO_ON

    trial = Trial(tmp_path, answer=answer, epochs=3)
    outcome = trial.fit(make_task(), make_settings(grad_clip=1.0, schedule="linear"))
    assert outcome.reason.kind is StopKind.FINISHED
    assert [point.step for point in trial.points] == seen == [1, 2, 3]
    assert all(point.checkpoint == "last.pt" for point in trial.points)
    expected = {"train_loss", "val_loss", "val_mae", "lr", "grad_norm", "epoch_s", "forward_gflops", "parameter_mb"}
    assert expected <= set(trial.points[0].metrics)
    # 5 updates an epoch; the last of 15 has index 14 and runs at 1/15 of the base
    assert trial.curve("lr") == pytest.approx([0.01 * 11 / 15, 0.01 * 6 / 15, 0.01 / 15])


def test_it_trains_as_a_plain_loop_does(tmp_path: Path) -> None:
    x, y = regression(24)
    start, theirs = nn.Linear(4, 1), nn.Linear(4, 1)
    theirs.load_state_dict(start.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    norms = []
    for _ in range(3):  # one batch holds everything, so the order is of no account
        optimizer.zero_grad()
        nn.functional.mse_loss(theirs(x), y).backward()
        norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5).item())
        optimizer.step()
    trial = Trial(tmp_path, epochs=3)
    settings = make_settings(optimizer="sgd", lr=0.05, batch_size=24, grad_clip=0.5)
    trial.fit(make_task(model=start, train=Split((x, y))), settings)
    torch.testing.assert_close(start.weight, theirs.weight)
    assert trial.curve("grad_norm") == pytest.approx(norms, rel=1e-5)


def test_the_best_epochs_weights_are_restored_after_early_stopping(tmp_path: Path) -> None:
    by_epoch: list[dict[str, torch.Tensor]] = []

    def answer(point: Point) -> Decision:
        by_epoch.append(weights(task.model))
        return GO_ON

    planned = [5.0, 3.0, 4.0, 3.5, 9.0]
    split = Split(regression(16, 2), lambda outputs, targets: {"val_planned": planned[len(by_epoch)]})
    task = make_task(validation=split)
    trial = Trial(tmp_path, answer=answer, epochs=50, monitor=Goal("val_planned"))
    outcome = trial.fit(task, make_settings(early_stopping=EarlyStopping(metric="val_planned", patience=2)))
    assert outcome.reason == StopReason(StopKind.EARLY, "val_planned has not improved for 2 epochs since epoch 2 (3)")
    assert len(by_epoch) == 4
    assert_same(weights(task.model), by_epoch[1])
    assert_same(checkpoints.load_weights(tmp_path / "best.pt"), by_epoch[1])
    assert not torch.equal(by_epoch[3]["0.weight"], by_epoch[1]["0.weight"])


def test_where_the_last_epoch_counts_its_weights_are_kept_tested_and_stored(tmp_path: Path) -> None:
    by_epoch: list[dict[str, torch.Tensor]] = []

    def answer(point: Point) -> Decision:
        by_epoch.append(weights(task.model))
        return GO_ON

    planned = [5.0, 3.0, 4.0]  # the second is the best
    split = Split(regression(16, 2), lambda outputs, targets: {"val_planned": planned[min(len(by_epoch), 2)]})
    task = make_task(validation=split, test=lambda: Split(regression(16, 5)))
    trial = Trial(tmp_path, answer=answer, epochs=3, monitor=Goal("val_planned"), report="last", use_test=True)
    outcome = trial.fit(task, make_settings())
    assert_same(weights(task.model), by_epoch[2])
    assert_same(checkpoints.load_weights(tmp_path / "best.pt"), by_epoch[2])
    assert checkpoints.read(tmp_path / "best.pt")["epoch"] == 3
    model = make_task().model.eval()
    model.load_state_dict(by_epoch[2])
    x, y = regression(16, 5)
    with torch.no_grad():
        assert outcome.metrics["test_loss"] == pytest.approx(nn.functional.mse_loss(model(x), y).item(), rel=1e-5)


def test_where_the_last_epoch_counts_a_stop_between_checkpoints_leaves_its_weights(tmp_path: Path) -> None:
    """A time limit completes a trial wherever it stands."""

    def answer(point: Point) -> Decision:
        return Decision(StopReason(StopKind.TIME_LIMIT, "over")) if point.step == 3 else GO_ON

    task = make_task()
    with pytest.raises(TrialStopped):
        Trial(tmp_path, answer=answer, epochs=9, report="last").fit(task, make_settings(checkpoint_every=5))
    assert checkpoints.read(tmp_path / "best.pt")["epoch"] == 3
    assert_same(checkpoints.load_weights(tmp_path / "best.pt"), weights(task.model))


def test_a_stop_unwinds_without_touching_a_file(tmp_path: Path) -> None:
    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    at_stop: list[dict[str, int]] = []

    def answer(point: Point) -> Decision:
        if point.step < 2:
            return GO_ON
        at_stop.append(files())
        return Decision(StopReason(StopKind.PRUNED, "hopeless"))

    with pytest.raises(TrialStopped, match="hopeless"):
        Trial(tmp_path, answer=answer).fit(make_task())
    assert files() == at_stop[0]


def test_a_loss_that_is_not_finite_fails_with_epoch_update_and_lr(tmp_path: Path) -> None:
    x, y = regression(40)
    y[17] = math.nan
    with pytest.raises(TrialFailed, match=r"became nan at epoch 1, update [1-5]; lr 0\.01"):
        Trial(tmp_path).fit(make_task(train=Split((x, y))))


def test_empty_data_and_a_model_that_does_not_fit_them_fail_clearly(tmp_path: Path) -> None:
    x, y = regression(8)
    with pytest.raises(TrialFailed, match="training data must hold at least one sample"):
        Trial(tmp_path).fit(make_task(train=Split((x[:0], y[:0]))))
    with pytest.raises(TrialFailed, match=r"Model and data do not fit.*inputs \(8, 4\)"):
        Trial(tmp_path).fit(make_task(model=nn.Linear(5, 1)))
    with pytest.raises(TrialFailed, match=r"would be broadcast.*target \(8,\), output \(8, 1\)"):
        Trial(tmp_path).fit(make_task(train=Split((x, y[:, 0]))))


def test_a_monitor_that_the_task_does_not_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="'val_r' is not"):
        Trial(tmp_path, monitor=Goal("val_r")).fit(make_task())


def test_accumulation_equals_a_larger_batch_up_to_rounding(tmp_path: Path) -> None:
    def train(folder: str, **settings: int) -> nn.Module:
        model = nn.Linear(4, 1)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        # 44 samples: the last group is one full batch of 8 and one of 4
        Trial(tmp_path / folder, epochs=2).fit(
            make_task(model=model, train=Split(regression(44))), make_settings(optimizer="sgd", **settings)
        )
        return model

    torch.testing.assert_close(
        train("a", batch_size=8, accumulation=4).weight, train("b", batch_size=32, accumulation=1).weight
    )


def test_trials_in_one_process_do_not_influence_each_other_nor_their_process(tmp_path: Path) -> None:
    alone, after = make_task(), make_task()
    Trial(tmp_path / "a").fit(alone)
    Trial(tmp_path / "b", seed=99, deterministic=True).fit(make_task(), make_settings(lr=0.5, threads=2))
    random.random(), np.random.rand(), torch.rand(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    flags = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.backends.cudnn.benchmark
    Trial(tmp_path / "c").fit(after)
    assert_same(weights(alone.model), weights(after.model))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])
    now = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.backends.cudnn.benchmark
    assert now == flags
    assert not torch.are_deterministic_algorithms_enabled()


def test_random_numbers_drawn_by_the_study_in_the_same_process_change_nothing(tmp_path: Path) -> None:
    quiet, noisy = make_task(), make_task()
    Trial(tmp_path / "a").fit(quiet)
    Trial(tmp_path / "b", answer=lambda point: (torch.rand(5), np.random.rand(), GO_ON)[-1]).fit(noisy)
    assert_same(weights(quiet.model), weights(noisy.model))


def test_the_test_set_is_read_by_retraining_alone_and_its_predictions_are_kept(tmp_path: Path) -> None:
    read: list[int] = []

    def test() -> Split:
        read.append(1)
        return Split(regression(12, 5), mae)

    outcome = Trial(tmp_path / "a").fit(make_task(test=test))
    assert not read
    assert not (tmp_path / "a" / "test_predictions.npz").exists()
    task = make_task(test=test)
    outcome = Trial(tmp_path / "b", use_test=True).fit(task)
    kept = np.load(tmp_path / "b" / "test_predictions.npz")
    x, y = regression(12, 5)
    with torch.no_grad():
        outputs = task.model.eval()(x)
    np.testing.assert_allclose(kept["outputs"], outputs.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kept["targets"], y.numpy())
    assert outcome.metrics["test_loss"] == pytest.approx(nn.functional.mse_loss(outputs, y).item(), rel=1e-5)
    assert outcome.metrics["test_mae"] == pytest.approx((outputs - y).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precisions_train_on_a_cpu_too(tmp_path: Path, precision: str) -> None:
    trial = Trial(tmp_path, epochs=3)
    trial.fit(make_task(), make_settings(precision=precision))
    assert trial.curve()[-1] < trial.curve()[0]


def test_fp16_finds_its_loss_scale_even_where_an_epoch_has_one_update(tmp_path: Path) -> None:
    x, y = regression(8)
    task = make_task(model=nn.Linear(4, 1), train=Split((x, y * 1000)))  # times 65536 beyond what fp16 can hold
    trial = Trial(tmp_path, epochs=30)
    trial.fit(task, make_settings(precision="fp16"))
    assert [event.kind for event in trial.points[0].events] == ["skipped_updates"]
    assert math.isfinite(trial.curve("grad_norm")[-1])


def test_fp16_gradients_that_no_loss_scale_makes_finite_end_the_trial(tmp_path: Path) -> None:
    def broken(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output * 0).sqrt().mean()  # 0, and its gradient is not a number

    with pytest.raises(TrialFailed, match="every update of epoch 4 were infinite or NaN at any loss scale"):
        Trial(tmp_path, epochs=9).fit(make_task(loss=broken), make_settings(precision="fp16", max_recoveries=0))


def test_a_metric_that_is_never_a_number_leaves_the_last_weights_and_says_so(tmp_path: Path) -> None:
    split = Split(regression(16, 2), lambda outputs, targets: {"val_r": math.nan})
    outcome = Trial(tmp_path, monitor=Goal("val_r"), epochs=2).fit(make_task(validation=split))
    assert [event.kind for event in outcome.events] == ["no_best_epoch"]


def test_a_last_batch_of_one_sample_is_left_out_where_batch_norm_could_not_learn_from_it(tmp_path: Path) -> None:
    seen: list[int] = []

    def train(model: nn.Module, samples: int, folder: str) -> list[int]:
        seen.clear()
        model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])) if module.training else None)
        Trial(tmp_path / folder, epochs=1).fit(make_task(model=model, train=Split(regression(samples))))
        return list(seen)

    assert train(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)), 17, "a") == [8, 8]
    assert train(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)), 18, "b") == [8, 8, 2]
    assert train(nn.Linear(4, 1), 17, "c") == [8, 8, 1]
