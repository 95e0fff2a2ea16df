"""The models, what they see and learn from, the metrics of a task, and the two hand-picked points."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file
from torch import nn

from hpo.errors import DataError, UnknownName
from hpo.training.batches import Loading, make_batches
from hpo.training.health import settle
from hpo.training.schedules import Schedule
from hpo.training.settings import TrainerSettings
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Direction, Goal, Job, Point, TrialContext
from objectives.image_classification import OBJECTIVE
from objectives.image_classification.augment import AUGMENTS, flipped
from objectives.image_classification.data import load, split
from objectives.image_classification.fields import Fields, checked
from objectives.image_classification.loading import Pictures, Pixels, mean_and_std
from objectives.image_classification.model import ImageModel, Shape, architecture, blocks_of, build
from objectives.image_classification.presets import PRESETS
from objectives.image_classification.task import Judge
from search_spaces.image_classification import SPACE

ROOT = Path(__file__).parents[2]
MINI = ("convnext-mini", "vit-mini", "dinov2-mini")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return OBJECTIVE().make_data(tmp_path_factory.mktemp("data") / "digits", seed=2, records=200, progress=False)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CACHE", str(tmp_path_factory.mktemp("cache")))


def job(digits: Path, **changes: Any) -> Job:
    goal = Goal("val_accuracy", Direction.MAXIMIZE)
    made = Job(
        study="study", series="search", number=0, objective="image_classification",
        params=dict(OBJECTIVE.default_params), data={"path": str(digits)},
        trainer=TrainerSettings.layered(OBJECTIVE.default_trainer, {"threads": 1}), goals=(goal,), monitor=goal,
        epochs=3, folder="nowhere", seed=3, data_seed=1,
    )  # fmt: skip
    return replace(made, **changes)


def with_params(digits: Path, **params: Any) -> Job:
    return job(digits, params={**OBJECTIVE.default_params, **params})


def made(model: str, classes: int = 10, **shape: float) -> ImageModel:
    return build(architecture(checked({"model": model})), classes, Shape(**shape))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Models


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("vit-base", 86_567_656),  # google/vit-base-patch16-224; 86 M in table 1 of arXiv 2010.11929
        ("vit-small", 22_050_664),  # deit_small_patch16_224; 22 M in table 1 of arXiv 2012.12877
        ("convnext-tiny", 28_589_128),  # convnext_tiny of torchvision; 28.6 M in table 9 of arXiv 2201.03545
    ],
)
def test_a_preset_has_the_parameters_that_were_published(model: str, published: int) -> None:
    with torch.device("meta"):
        assert parameters(made(model, classes=1000)) == published


def test_a_vision_transformer_has_the_parameters_counted_by_hand() -> None:
    width, layers, tokens = 96, 6, (32 // 4) ** 2 + 1
    block = 4 * (width * width + width) + 2 * (4 * width * width) + 4 * width + width + 4 * width
    patches = 3 * 4 * 4 * width + width
    assert parameters(made("vit-mini")) == layers * block + patches + tokens * width + width + 2 * width + 970


@pytest.mark.parametrize("model", MINI)
def test_a_model_takes_pixels_as_they_are_stored_and_normalises_them_itself(model: str) -> None:
    torch.manual_seed(1)
    whole = made(model).eval()
    whole.normalise_with([0.5, 0.4, 0.3], [0.2, 0.25, 0.5])
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    by_hand = torch.stack(
        [(pixels[:, c] / 255.0 - m) / s for c, (m, s) in enumerate([(0.5, 0.2), (0.4, 0.25), (0.3, 0.5)])], dim=1
    )
    with torch.no_grad():
        torch.testing.assert_close(whole(pixels), whole.net(by_hand).logits)


def test_dropout_stands_before_the_last_layer_and_in_training_alone() -> None:
    torch.manual_seed(1)
    model = made("convnext-mini", dropout=0.5)
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    features = torch.ones(4000, heads[-1].in_features)
    heads[-1].weight.data.zero_()
    heads[-1].weight.data[0, 0] = 1
    kept = heads[-1](features)[:, 0]
    assert set(kept.detach().unique().tolist()) == {0.0, 2.0}
    assert kept.mean().item() == pytest.approx(1, abs=0.06)  # four standard deviations
    assert (heads[-1].eval()(features)[:, 0] == 1).all()
    names = set(model.state_dict())
    assert names == set(made("convnext-mini").state_dict()) and "net.classifier.weight" in names


@pytest.mark.slow
@pytest.mark.parametrize("model", MINI)
def test_drop_path_changes_training_and_nothing_else(model: str) -> None:
    torch.manual_seed(1)
    dropping = made(model, drop_path=0.5)
    plain = made(model)
    plain.load_state_dict(dropping.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        dropping.train(), plain.train()
        assert not torch.equal(dropping(pixels), dropping(pixels))
        assert torch.equal(plain(pixels), plain(pixels))
        dropping.eval(), plain.eval()
        torch.testing.assert_close(dropping(pixels), plain(pixels))


def test_a_skipped_block_of_a_vision_transformer_keeps_the_mean() -> None:
    """The deepest block is left out for half the samples, and of the others its change counts double."""
    torch.manual_seed(1)
    block = blocks_of(made("vit-mini", drop_path=0.5).net)[-1].train()
    state = torch.randn(1, 5, 96).expand(64, 5, 96)
    with torch.no_grad():
        change = block.eval()(state)[0] - state[0]
        seen = block.train()(state) - state
    kinds = [torch.allclose(one, torch.zeros_like(one)) for one in seen]
    assert 20 < sum(kinds) < 44
    for one, skipped in zip(seen, kinds, strict=True):
        if not skipped:
            torch.testing.assert_close(one, 2 * change, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", MINI)
def test_every_block_is_named_and_can_be_copied_and_checkpointed(model: str, digits: Path) -> None:
    task = OBJECTIVE().task(job(digits, data={"path": str(digits), "model": model}))
    assert len(task.blocks) == {"convnext-mini": 5}.get(model, 6)
    inside = {id(module) for module in task.model.modules()}
    assert all(id(block) in inside for block in task.blocks)
    copy.deepcopy(task.model)(*task.example)


def test_a_model_by_its_folder_is_built_and_its_weights_are_loaded(digits: Path, tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(5)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    saved = ResNetForImageClassification(config)
    saved.save_pretrained(tmp_path / "resnet")
    data = {"path": str(digits), "model": str(tmp_path / "resnet"), "image_size": 32}
    fresh = OBJECTIVE().task(job(digits, data=data)).model.state_dict()
    loaded = OBJECTIVE().task(job(digits, data={**data, "weights": "pretrained"})).model.state_dict()
    first = "resnet.embedder.embedder.convolution.weight"
    assert torch.equal(loaded[f"net.{first}"], saved.state_dict()[first])
    assert not torch.equal(fresh[f"net.{first}"], saved.state_dict()[first])
    assert loaded["net.classifier.1.weight"].shape == (10, 16)


def test_a_folder_without_a_configuration_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable config"):
        OBJECTIVE().task(job(digits, data={"path": str(digits), "model": str(tmp_path), "image_size": 32}))


# Weights


def weights_job(digits: Path, path: Path) -> Job:
    return job(digits, data={"path": str(digits), "model": "vit-mini", "weights": str(path)})


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_of_other_classes_go_into_all_but_the_last_layer(digits: Path, tmp_path: Path, kind: str) -> None:
    given = made("vit-mini", classes=3).net.state_dict()
    path = tmp_path / f"weights.{kind}"
    save_file(given, path) if kind == "safetensors" else torch.save({"state_dict": given}, path)
    state = OBJECTIVE().task(weights_job(digits, path)).model.get_submodule("net").state_dict()
    unequal = {name for name in given if state[name].shape != given[name].shape or (state[name] != given[name]).any()}
    assert unequal == {"classifier.weight", "classifier.bias"}


def test_weights_of_a_shipped_model_go_in_whole(digits: Path, tmp_path: Path) -> None:
    shipped = made("vit-mini")
    save_file(shipped.state_dict(), tmp_path / "weights.safetensors")
    model = OBJECTIVE().task(weights_job(digits, tmp_path / "weights.safetensors")).model
    assert torch.equal(model.state_dict()["net.classifier.weight"], shipped.state_dict()["net.classifier.weight"])


def test_weights_of_another_model_are_refused_with_counts_and_names(digits: Path, tmp_path: Path) -> None:
    save_file(made("dinov2-mini").net.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"must be those of this model; \d+ missing \(vit\..*\d+ unknown \(dinov2\."):
        OBJECTIVE().task(weights_job(digits, tmp_path / "other.safetensors"))


def test_a_file_that_is_no_weights_is_refused_and_never_run(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    torch.save(print, tmp_path / "code.pt")
    for name, told in (
        ("text.safetensors", "cannot be read"),
        ("numbers.pt", "by name"),
        ("code.pt", "cannot be read"),
    ):
        with pytest.raises(DataError, match=told):
            OBJECTIVE().task(weights_job(digits, tmp_path / name))


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
    torch.testing.assert_close(pixels.stack(np.arange(5)), Pixels(images, 24, 256).stack(np.arange(5)))


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
