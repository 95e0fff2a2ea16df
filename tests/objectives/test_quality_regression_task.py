"""The network, its standardisation, the metrics of a task, and the baselines."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hpo.errors import UnknownName
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Job
from objectives.quality_regression import OBJECTIVE, QualityRegression
from objectives.quality_regression.data import TYPES, load, split
from objectives.quality_regression.model import QualityModel, Scaling, Shape
from search_spaces.quality_regression import SPACE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A thousand made-up records whose SSIM follows from two inputs."""
    rng = np.random.default_rng(0)
    features = rng.random((1000, 2048), dtype=np.float32)
    settings = rng.random((1000, 8), dtype=np.float32)
    table = {
        "logo_id": [f"{i:04d}" for i in range(1000)],
        "features": list(features),
        "settings": list(settings),
        "ssim": 0.5 + 0.3 * (features[:, 0] - 0.5) + 0.2 * (settings[:, 0] - 0.5),
        "logo_type": [TYPES[i % 4] for i in range(1000)],
    }
    path = tmp_path_factory.mktemp("data") / "logos.parquet"
    pq.write_table(pa.table(table), path)
    return {"path": str(path)}


def job(data: dict[str, Any], **changes: Any) -> Job:
    goal = Goal("val_loss")
    made = Job(
        "study", "series", 0, "quality_regression", dict(QualityRegression.default_params), data,
        TrainerSettings.model_validate(QualityRegression.default_trainer), (goal,), goal, 1, 2, 3, "nowhere",
    )  # fmt: skip
    return replace(made, **changes)


def test_the_default_is_the_hand_picked_network() -> None:
    model = OBJECTIVE().model(QualityRegression.default_params, {})
    layers = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert layers == [(2056, 1024), (1024, 512), (512, 256), (256, 1)]
    dropouts = [m.p for m in model.body.modules() if isinstance(m, torch.nn.Dropout)]  # type: ignore[union-attr]
    assert dropouts == pytest.approx([0.3, 0.2, 0.1])
    by_hand = (2056 * 1024 + 1024) + (1024 * 512 + 512) + (512 * 256 + 256) + (256 + 1)
    assert sum(p.numel() for p in model.parameters()) == by_hand == 2_762_753


def test_the_default_of_the_model_is_the_default_of_the_objective() -> None:
    assert vars(Shape()).items() <= QualityRegression.default_params.items()
    SPACE.check(QualityRegression.default_params)
    assert set(SPACE) == set(QualityRegression.default_params)


def test_default_settings_and_goals_are_valid() -> None:
    settings = TrainerSettings.model_validate(QualityRegression.default_trainer)
    assert settings.early_stopping is not None and settings.early_stopping.metric in QualityRegression.metrics
    assert set(QualityRegression.default_goals) <= set(QualityRegression.metrics)


@pytest.mark.parametrize(
    "params",
    [
        {"depth": 1, "width": 64},
        {"depth": 4, "width": 2048},
        {"squash": True, "modulate": True, "settings_gain": 32.0, "input_dropout": 0.4, "scale_floor": 1.0},
        {"activation": "gelu"},
        {"activation": "silu"},
    ],
)
def test_every_shape_gives_one_number_per_row(params: dict[str, Any]) -> None:
    model = OBJECTIVE().model(params, {})
    assert model(torch.rand(5, 2056)).shape == (5, 1)


def test_settings_gain_reaches_the_first_layer_undiminished() -> None:
    scaling = Scaling(np.zeros(2056), np.ones(2056), 0.0, 1.0)
    model = QualityModel(Shape(settings_gain=8.0, squash=True), scaling).eval()
    seen: list[torch.Tensor] = []
    model.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 2056), 100.0))
    assert seen[0][0, 0] == pytest.approx(3.0) and seen[0][0, -1] == pytest.approx(24.0)


def test_standardisation_uses_training_rows_only(data: dict[str, Any]) -> None:
    model = OBJECTIVE().task(job(data)).model
    records = load(data)
    train = split(records, 2).train
    inputs = np.concatenate([records.features[train], records.settings[train]], axis=1).astype(np.float64)
    np.testing.assert_allclose(model.input_mean.numpy(), inputs.mean(0), rtol=1e-5)
    np.testing.assert_allclose(model.input_scale.numpy(), inputs.std(0), rtol=1e-5)
    assert float(model.target_mean) == pytest.approx(records.ssim[train].mean(), rel=1e-6)
    assert float(model.target_mean) != pytest.approx(records.ssim.mean(), rel=1e-6)


def test_a_task_is_the_same_again_from_its_seeds(data: dict[str, Any]) -> None:
    first, again = OBJECTIVE().task(job(data)), OBJECTIVE().task(job(data))
    other = OBJECTIVE().task(job(data, seed=9))
    assert torch.equal(first.model.first.weight, again.model.first.weight)
    assert not torch.equal(first.model.first.weight, other.model.first.weight)
    assert torch.equal(first.train.data[0], again.train.data[0])


def test_the_test_set_exists_only_where_it_may_be_read(data: dict[str, Any]) -> None:
    assert OBJECTIVE().task(job(data)).test is None
    task = OBJECTIVE().task(job(data, use_test=True))
    assert task.test is not None and len(task.test()) + len(task.train) + len(task.validation) == 1000
    assert task.example[0].shape == (1, 2056)


def test_metrics_are_those_announced_overall_and_per_type(data: dict[str, Any]) -> None:
    task = OBJECTIVE().task(job(data))
    targets = task.validation.data[1]
    metrics = task.validation.metrics(targets + 0.01, targets)
    assert set(metrics) == set(QualityRegression.own_metrics)
    assert all(name.isidentifier() for name in metrics)
    assert metrics["val_mae_text"] == pytest.approx(0.01, abs=1e-6)
    assert task.facts["skipped_types"] == {}


def test_a_type_with_few_rows_is_skipped_and_listed(data: dict[str, Any], tmp_path: Path) -> None:
    table = pq.read_table(data["path"])
    kinds = ["complex" if i < 20 else TYPES[i % 3] for i in range(1000)]
    column = table.schema.get_field_index("logo_type")
    pq.write_table(table.set_column(column, "logo_type", pa.array(kinds)), tmp_path / "a.parquet")
    task = OBJECTIVE().task(job({"path": str(tmp_path / "a.parquet")}))
    targets = task.validation.data[1]
    assert "val_mse_complex" not in task.validation.metrics(targets, targets)
    assert task.facts["skipped_types"]["complex"] < 10


def test_plain_torch_trains_the_task(data: dict[str, Any]) -> None:
    task = OBJECTIVE().task(job(data, params={"width": 64, "depth": 1, "dropout": 0.0}))
    inputs, targets = task.train.data
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
    losses = []
    for _ in range(20):
        loss = task.loss(task.model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_gradient_checkpointing_knows_every_layer_after_the_first(data: dict[str, Any]) -> None:
    task = OBJECTIVE().task(job(data))
    inside = {parameter for block in task.blocks for parameter in block.parameters()}
    outside = set(task.model.parameters()) - inside
    assert outside == set(task.model.first.parameters())  # type: ignore[union-attr]
    assert len(task.blocks) == QualityRegression.default_params["depth"]


def test_an_unknown_parameter_is_named_and_trainer_parameters_pass(data: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match="'widht'.*Did you mean 'width'"):
        OBJECTIVE().task(job(data, params={"widht": 3}))
    OBJECTIVE().task(job(data, params={"lr": 0.1, "batch_size": 8, "optimizer": "sgd"}))


def test_weights_fit_a_model_built_without_data(data: dict[str, Any]) -> None:
    task = OBJECTIVE().task(job(data))
    empty = OBJECTIVE().model(job(data).params, task.facts)
    empty.load_state_dict(task.model.state_dict())
    assert torch.equal(empty.eval()(task.example[0]), task.model.eval()(task.example[0]))


def test_baselines_are_judged_on_the_same_rows_by_the_same_metrics(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from objectives.quality_regression import baselines

    monkeypatch.setattr(baselines, "TREES", 5)
    found = OBJECTIVE().baselines(data, 2, "validation")
    assert list(found) == ["random", "training_mean", "heuristic", "ridge_settings", "extra_trees"]
    assert all(set(metrics) == {"val_loss", *QualityRegression.own_metrics} for metrics in found.values())
    assert np.isnan(found["training_mean"]["val_pearson_r"])
    assert found["ridge_settings"]["val_pearson_r"] > 0.3 > abs(found["random"]["val_pearson_r"])
    assert all(name.startswith("test_") for name in OBJECTIVE().baselines(data, 2, "test")["heuristic"])
    with pytest.raises(UnknownName, match="part 'train'"):
        OBJECTIVE().baselines(data, 2, "train")


def test_looking_at_the_objective_and_its_data_loads_no_torch(data: dict[str, Any]) -> None:
    code = (
        "import sys; from objectives.quality_regression import OBJECTIVE\n"
        f"OBJECTIVE().check_data({data!r}); OBJECTIVE().space\n"
        "print([name for name in ('torch', 'sklearn', 'skimage', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
