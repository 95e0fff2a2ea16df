"""What a model learns from and sees, the metrics of a task, and the two hand-picked points."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images import with_params
from PIL import Image
from ruamel.yaml import YAML
from torch import nn

from hpo.errors import DataError, UnknownName
from hpo.training.batches import Loading, make_batches
from hpo.training.health import settle
from hpo.training.schedules import Schedule
from hpo.training.settings import TrainerSettings
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Point, TrialContext
from objectives.image_classification import OBJECTIVE
from objectives.image_classification.augment import AUGMENTS, flipped
from objectives.image_classification.data import load, split
from objectives.image_classification.fields import Fields
from objectives.image_classification.loading import Pictures, Pixels, mean_and_std
from objectives.image_classification.presets import PRESETS
from objectives.image_classification.task import Judge
from search_spaces.image_classification import SPACE

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("own_cache")


# What training sees


def test_only_training_images_are_changed_and_smoothed(digits: Path) -> None:
    task = OBJECTIVE().task(with_params(digits, label_smoothing=0.1, augment="standard"))
    (_, images) = load({"path": str(digits)})
    row = split(images, 1).validation[0]
    with Image.open(digits / str(images.paths[row])) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    pixels, label = task.validation.data[0]  # type: ignore[index]
    assert (pixels.numpy() == expected).all()
    assert label.dtype == torch.int64 and label == images.labels[row]
    _, target = task.train.data[0]  # type: ignore[index]
    assert sorted(target.tolist()) == pytest.approx([0.01] * 9 + [0.91])
    assert target.argmax() == images.labels[split(images, 1).train[0]]


def test_smoothed_targets_have_the_loss_of_pytorchs_label_smoothing(digits: Path) -> None:
    smoothed = OBJECTIVE().task(with_params(digits, label_smoothing=0.15))
    plain = OBJECTIVE().task(with_params(digits))
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    targets = torch.stack([smoothed.train.data[i][1] for i in range(6)])  # type: ignore[index]
    labels = torch.stack([plain.train.data[i][1] for i in range(6)])  # type: ignore[index]
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=0.15)
    torch.testing.assert_close(smoothed.loss(logits, targets), expected)


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_changed_image_has_the_old_shape_and_follows_torchs_seed(name: str) -> None:
    pixels = torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(AUGMENTS[name](pixels))
    assert all(one.shape == pixels.shape and one.dtype == torch.uint8 for one in seen)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2]) == (name == "none")


def test_a_small_change_moves_the_picture_by_an_eighth_at_most() -> None:
    pixels = torch.zeros(3, 32, 32, dtype=torch.uint8)
    pixels[:, 16, 16] = 255
    torch.manual_seed(0)
    places = {tuple(AUGMENTS["small"](pixels)[0].nonzero()[0].tolist()) for _ in range(600)}
    rows, columns = ({place[axis] for place in places} for axis in (0, 1))
    assert rows == columns == set(range(12, 21))


def test_flipping_mirrors_every_other_image_and_is_off_by_default(digits: Path) -> None:
    pixels = torch.arange(12, dtype=torch.uint8).view(1, 3, 4).expand(3, 3, 4)
    torch.manual_seed(0)
    mirrored = sum(torch.equal(flipped(pixels), pixels.flip(-1)) for _ in range(400))
    assert 160 < mirrored < 240
    assert OBJECTIVE.default_data["flip"] is False


@pytest.mark.parametrize("cache_mb", [0, 256])
def test_what_is_kept_in_memory_is_what_is_decoded(digits: Path, cache_mb: int) -> None:
    _, images = load({"path": str(digits)})
    pixels = Pixels(images, 24, cache_mb)
    assert (pixels.kept is None) == (cache_mb == 0)
    kept = Pixels(images, 24, 256)
    assert all(torch.equal(pixels[row], kept[row]) for row in range(5))


def test_mean_and_deviation_are_those_of_the_training_images(digits: Path) -> None:
    _, images = load({"path": str(digits)})
    rows = split(images, 1).train
    values = np.stack([np.asarray(Image.open(digits / str(path)).convert("RGB")) for path in images.paths[rows]]) / 255
    mean, std = mean_and_std(Pixels(images, 32, 256), rows)
    assert mean == pytest.approx(values.mean((0, 1, 2)))
    assert std == pytest.approx(values.std((0, 1, 2)), rel=1e-4)


def test_workers_load_the_same_changed_images_whatever_their_number(digits: Path) -> None:
    task = OBJECTIVE().task(with_params(digits, augment="standard", label_smoothing=0.1))

    def epoch(workers: int) -> torch.Tensor:
        loading = Loading(workers=workers, persistent=False)
        batches = make_batches(task.train, "training", 16, CPU, seed=4, shuffle=True, loading=loading)
        return torch.cat([batch[0] for batch in batches.epoch(2)])

    assert torch.equal(epoch(1), epoch(2))


def test_an_image_that_broke_after_the_check_is_named(digits: Path, tmp_path: Path) -> None:
    _, images = load({"path": str(digits)})
    gone = replace(images, root=tmp_path)
    with pytest.raises(DataError, match="was a whole image when the data was checked"):
        Pictures(Pixels(gone, 32, 0), np.arange(3))[0]


# Metrics


class Says(nn.Module):
    """A model that calls every image the class that it was told."""

    def __init__(self, said: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.nn.functional.one_hot(torch.tensor(said), 10).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(pixels), 10)


def test_the_gap_is_training_accuracy_less_validation_accuracy(digits: Path) -> None:
    _, images = load({"path": str(digits)})
    rows = np.flatnonzero(np.isin(images.labels, [3, 4]))
    judge = Judge(Pictures(Pixels(images, 32, 256), rows))
    share = float((images.labels[rows] == 3).mean())
    assert judge.probe(Says(3)) == {"train_accuracy": pytest.approx(share)}
    outputs, targets = torch.eye(10)[[1, 1, 2, 3]], torch.tensor([1, 2, 2, 2])
    found = judge.with_gap(outputs, targets)
    assert found["val_accuracy"] == 0.5
    assert found["accuracy_gap"] == pytest.approx(share - 0.5)
    # Of 1, 2 and 3: precision 1/2, 1/1, 0/1; recall 1/1, 1/3, 0. F1: 2/3, 1/2, 0.
    assert found["val_macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_an_epoch_reports_every_metric_and_the_gap_adds_up(digits: Path, tmp_path: Path) -> None:
    points: list[Point] = []

    def send(point: Point) -> Any:
        points.append(point)
        return GO_ON

    wanted = replace(with_params(digits, warmup_epochs=0, label_smoothing=0.1), epochs=1, folder=str(tmp_path))
    Trainer(wanted.trainer.with_params(wanted.params)).fit(OBJECTIVE().task(wanted), TrialContext(wanted, send))
    said = points[-1].metrics
    assert set(OBJECTIVE.own_metrics) <= set(said)
    assert said["accuracy_gap"] == pytest.approx(said["train_accuracy"] - said["val_accuracy"])


def test_the_warning_signs_are_raised_and_can_be_set() -> None:
    rules = {
        rule.name: rule
        for rule in settle(
            OBJECTIVE.health, {"first_epoch_accuracy": 0.5}, monitor="val_accuracy", maximized={"val_accuracy"}
        )
    }
    falling = [{"val_accuracy": value, "accuracy_gap": 0.05, "train_loss": 1.2} for value in (0.6, 0.59, 0.58, 0.57)]

    def holds(name: str, history: list[dict[str, float]]) -> bool:
        verdict = rules[name].judge(history)
        return verdict is not None and verdict.holds

    assert not holds("first_epoch_accuracy", falling)  # set to 0.5
    assert holds("first_epoch_accuracy", [{"val_accuracy": 0.49}])
    assert [holds("falling_accuracy", falling[:n]) for n in (1, 2, 3, 4)] == [False, False, False, True]
    assert holds("accuracy_gap", falling) and not holds("accuracy_gap", [{"accuracy_gap": 0.029}])
    assert holds("first_epoch_loss", falling[:1])
    assert holds("not_finite", [{"val_loss": math.nan}])
    assert not holds("converged", falling) and holds("converged", [*falling, {"val_accuracy": 0.97}])


# The points that people picked


BEFORE = {
    "lr": 3e-5, "weight_decay": 0.07, "dropout": 0.2, "drop_path": 0.1, "label_smoothing": 0.05, "batch_size": 4,
    "accumulation": 16, "patience": 5, "warmup_epochs": 0,
}  # fmt: skip
AFTER = {
    "lr": 2e-5, "weight_decay": 0.05, "dropout": 0.15, "drop_path": 0.05, "label_smoothing": 0, "batch_size": 8,
    "accumulation": 8, "patience": 7, "warmup_epochs": 2,
}  # fmt: skip


@pytest.mark.parametrize("example", ["image.yaml", "image-three-goals.yaml"])
def test_both_points_are_tried_first_in_the_examples_and_lie_in_the_space(example: str) -> None:
    study = YAML(typ="safe").load(ROOT / "examples" / example)
    before, after = study["enqueue"][:2]
    assert BEFORE.items() <= before.items() and AFTER.items() <= after.items()
    for point in (before, after):
        SPACE.check(point)
        assert point["batch_size"] * point["accumulation"] == 64
    assert after == dict(OBJECTIVE.default_params)


def test_patience_is_that_of_early_stopping(digits: Path) -> None:
    wanted = with_params(digits, patience=5)
    stopping = wanted.trainer.with_params(wanted.params).early_stopping
    assert stopping is not None
    assert (stopping.patience, stopping.metric, stopping.direction) == (5, "val_accuracy", "maximize")
    assert TrainerSettings().with_params({"patience": 5}).early_stopping is None


@pytest.mark.parametrize(("peak_factor", "peak"), [(1.0, 1.0), (8.0, 8.0)])
def test_one_cycle_is_pytorchs_with_its_peak_at_the_base_rate(peak_factor: float, peak: float) -> None:
    """``OneCycleLR`` starts at max_lr / div_factor and ends at that / final_div_factor; a hundredth of the peak."""
    settings = TrainerSettings.layered(OBJECTIVE.default_trainer).with_params(
        {**OBJECTIVE.default_params, "peak_factor": peak_factor}
    )
    ours = Schedule.over(settings, epochs=20, updates_per_epoch=10)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=200, pct_start=0.1, div_factor=10, final_div_factor=10
    )
    for update in range(200):
        assert ours(update) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6), update
        optimizer.step()
        if update < 199:
            theirs.step()


def test_cosine_falls_to_a_hundredth() -> None:
    settings = TrainerSettings.layered(OBJECTIVE.default_trainer).with_params(
        {**OBJECTIVE.default_params, "schedule": "cosine"}
    )
    schedule = Schedule.over(settings, epochs=20, updates_per_epoch=10)
    assert schedule(20) == 1.0  # after two epochs of warm-up
    assert schedule(200) == pytest.approx(0.01)


def test_a_parameter_of_neither_model_nor_trainer_is_refused(digits: Path) -> None:
    with pytest.raises(UnknownName, match="drop_block"):
        OBJECTIVE().task(with_params(digits, drop_block=0.1))
    with pytest.raises(UnknownName, match="mixup"):
        OBJECTIVE().task(with_params(digits, augment="mixup"))


def test_fewer_images_than_a_batch_are_refused(digits: Path) -> None:
    with pytest.raises(DataError, match="160 training images, fewer than a batch of 256"):
        OBJECTIVE().task(with_params(digits, batch_size=256))


def test_every_preset_has_a_size_of_its_own() -> None:
    assert {name: Fields(model=name).side_px for name in PRESETS}["eva02-base"] == 224
    assert Fields(model="vit-base", image_size=96).side_px == 96
