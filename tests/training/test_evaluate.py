import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_kit import mae, make_task, regression

from hpo.errors import TrialFailed
from hpo.training.batches import Loading
from hpo.training.evaluate import evaluate
from hpo.training.task import Split


def test_the_loss_is_weighted_by_samples_and_outputs_keep_the_splits_order() -> None:
    x, y = regression(10)
    model = nn.Linear(4, 1)
    metrics, outputs, targets = evaluate(model, Split((x, y), mae), nn.functional.mse_loss, "cpu", batch_size=4)
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(x))
    assert torch.equal(targets, y)
    assert metrics["loss"] == pytest.approx(nn.functional.mse_loss(outputs, y).item(), rel=1e-6)
    assert metrics["val_mae"] == pytest.approx((outputs - y).abs().mean().item())


def test_it_runs_in_eval_mode_and_gives_the_mode_back() -> None:
    task = make_task()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    task.model.train()
    first = evaluate(task.model, task.validation, task.loss, "cpu", 8)[1]
    assert task.model.training
    assert torch.equal(first, evaluate(task.model, task.validation, task.loss, "cpu", 8)[1])  # no dropout
    assert all(torch.equal(before[name], value) for name, value in task.model.state_dict().items())


def test_metrics_get_float32_whatever_the_precision_and_integers_stay_integers() -> None:
    seen: list[torch.dtype] = []

    def dtypes(outputs: Tensor, targets: Tensor) -> dict[str, float]:
        seen.extend((outputs.dtype, targets.dtype))
        return {}

    split = Split((torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])), dtypes)
    evaluate(nn.Linear(4, 3), split, nn.functional.cross_entropy, "cpu", 4, precision="bf16")
    assert seen == [torch.float32, torch.int64]


def test_metrics_that_know_the_groups_of_their_rows_judge_the_first_ones_where_batches_are_limited() -> None:
    x, y = regression(10)
    weights = torch.arange(10.0)  # something that is known of each row

    def of_rows(outputs: Tensor, targets: Tensor, rows: np.ndarray) -> dict[str, float]:
        return {"val_weighted": ((outputs - targets)[:, 0] * weights[rows]).sum().item()}

    def of_all(outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return of_rows(outputs, targets, np.arange(10))

    split, model = Split((x, y), of_all, metrics_of_rows=of_rows), nn.Linear(4, 1)
    metrics, outputs, _ = evaluate(model, split, nn.functional.mse_loss, "cpu", 4, loading=Loading(limit=2))
    assert len(outputs) == 8
    assert metrics["val_weighted"] == pytest.approx(((outputs - y[:8])[:, 0] * weights[:8]).sum().item())


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(TrialFailed, match="at least one sample"):
        evaluate(nn.Linear(4, 1), Split(regression(0)), nn.functional.mse_loss, "cpu", 4)


def test_losses_that_are_infinite_both_ways_come_to_nan() -> None:
    x = torch.tensor([[1.0], [-1.0]])
    metrics, _, _ = evaluate(nn.Identity(), Split((x, x)), lambda output, target: (output / 0).mean(), "cpu", 1)
    assert math.isnan(metrics["loss"])
