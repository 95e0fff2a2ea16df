"""The network, its loss, what a task consists of, and the baselines."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import norm

from hpo.errors import DataError, UnknownName
from hpo.evaluation.localization import great_circle_m
from hpo.training.health import Watch, settle
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Job
from objectives.rf_localization import OBJECTIVE, RfLocalization, baselines
from objectives.rf_localization.baselines import Heard
from objectives.rf_localization.data import load, split
from objectives.rf_localization.features import cached
from objectives.rf_localization.fields import checked
from objectives.rf_localization.geometry import Frame
from objectives.rf_localization.model import Augment, Localizer, Shape, blocks_of, gaussian_nll
from objectives.rf_localization.presets import PRESETS
from objectives.rf_localization.task import empty_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rf") / "rf"
    OBJECTIVE().make_data(folder, seed=3, records=80, samples=4_096, receivers=4, progress=False)
    return {"path": str(folder)}


def job(data: dict[str, Any], **changes: Any) -> Job:
    goal = Goal("val_mae_m")
    made = Job(
        "study", "series", 0, "rf_localization", dict(RfLocalization.default_params), data,
        TrainerSettings.model_validate(RfLocalization.default_trainer), (goal,), goal, 1, 2, 3, "nowhere",
    )  # fmt: skip
    return replace(made, **changes)


def inputs(batch: int = 2, receivers: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    levels = torch.rand(batch, receivers, 3, 128, 32, generator=generator)
    return levels, torch.rand(batch, receivers, 2, generator=generator), torch.ones(batch, receivers)


# the network


def test_heads_are_those_that_were_asked_for() -> None:
    model = empty_model({}, "tiny", 128)
    for head in (model.position, model.spread):
        layers = [(m.in_features, m.out_features) for m in head if isinstance(m, torch.nn.Linear)]
        assert layers == [(512, 128), (128, 64), (64, 2)]
        assert [m.p for m in head if isinstance(m, torch.nn.Dropout)] == [0.2, 0.2]


@pytest.mark.parametrize(
    ("preset", "published"),
    [("small", 28_589_128), ("base", 88_591_464), ("large", 197_767_336)],
)
def test_backbones_are_those_of_the_paper(preset: str, published: int) -> None:
    """The published counts are with a head of 1,000 classes over the last width."""
    with torch.device("meta"):
        model = empty_model({}, preset, 128)
    width = PRESETS[preset].widths[-1]
    count = sum(parameter.numel() for parameter in model.backbone.parameters())
    assert count == published - 1_000 * (width + 1)
    assert len(blocks_of(model)) == sum(PRESETS[preset].depths)


def test_the_full_size_has_200_million_parameters_and_tiny_half_a_million() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in empty_model({}, name, 128).parameters()) for name in ("large", "tiny")]
    assert counts[0] == pytest.approx(198e6, rel=0.01) and counts[1] == 465_940
    assert counts[0] * 4 / 2**20 < PRESETS["large"].file_mb


def test_an_absent_receiver_changes_nothing() -> None:
    model = empty_model({}, "tiny", 128).eval()
    levels, sites, present = inputs()
    present[0, 2] = 0
    said = model(levels, sites, present)
    levels[0, 2], sites[0, 2] = 1e3, -5
    torch.testing.assert_close(model(levels, sites, present), said)
    torch.testing.assert_close(model(levels[:1, :2], sites[:1, :2], present[:1, :2]), said[:1])


def test_the_order_of_receivers_changes_nothing() -> None:
    model = empty_model({}, "tiny", 128).eval()
    turned = [part.flip(1) for part in inputs()]
    torch.testing.assert_close(model(*turned), model(*inputs()))


def test_the_level_of_a_recording_reaches_the_position() -> None:
    model = empty_model({}, "tiny", 128).eval()
    levels, sites, present = inputs()
    assert (model(levels + 0.5, sites, present) - model(levels, sites, present)).abs().max() > 1e-3


def test_sigma_stays_in_its_range() -> None:
    model = empty_model({}, "tiny", 128).eval()
    for bias, expected in ((50.0, 1.0), (-50.0, 0.01), (math.log(math.e**0.5 - 1), 0.5)):
        torch.nn.init.zeros_(model.spread[-1].weight)
        torch.nn.init.constant_(model.spread[-1].bias, bias)
        assert model(*inputs())[:, 2:].detach().numpy() == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_the_gaussian_likelihood_without_its_constant() -> None:
    outputs = torch.tensor([[0.1, -0.2, 0.5, 0.2], [1.0, 0.0, 0.1, 1.0]], dtype=torch.float64)
    targets = torch.tensor([[0.0, 0.1], [0.7, 0.4]], dtype=torch.float64)
    mean, sigma = outputs.numpy()[:, :2], outputs.numpy()[:, 2:]
    expected = -norm.logpdf(targets.numpy(), mean, sigma).mean() - 0.5 * math.log(2 * math.pi)
    assert float(gaussian_nll(outputs, targets)) == pytest.approx(expected)
    by_hand = math.log(0.5) + 0.01 / 0.5, math.log(0.2) + 0.09 / 0.08
    assert float(gaussian_nll(outputs[:1], targets[:1])) == pytest.approx(sum(by_hand) / 2)


# augmentation


def test_augmentation_is_for_training_alone() -> None:
    x = torch.rand(2, 3, 3, 128, 32)
    augment = Augment(0.1, 0.05)
    assert torch.equal(augment.eval()(x), x)
    assert not torch.equal(augment.train()(x), x)


def test_one_value_in_ten_is_dropped_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    changed = Augment(0.1, 0.0).train()(torch.ones(4, 4, 3, 128, 32))
    assert float((changed == 0).float().mean()) == pytest.approx(0.1, abs=0.003)  # 8 standard deviations
    assert float(changed.mean()) == pytest.approx(1, abs=0.004)


def test_recordings_are_shifted_by_5_frames_at_most_each_by_its_own() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(32.0).expand(100, 3, 3, 4, 32)
    shifts = (Augment(0.0, 0.0).train()(ramp)[..., 0] - 0).round().long()
    assert (shifts == shifts[:, :, :1, :1]).all()
    seen = {((32 - int(value)) % 32 + 16) % 32 - 16 for value in shifts[:, :, 0, 0].flatten()}
    assert seen == set(range(-5, 6))


def test_recordings_are_scaled_by_5_per_cent_at_most() -> None:
    torch.manual_seed(0)
    scales = Augment(0.0, 0.05).train()(torch.ones(300, 3, 1, 1, 32))[..., 0].flatten()
    assert 0.95 <= scales.min() < 0.952 and 1.048 < scales.max() <= 1.05


# the task


@pytest.mark.slow
def test_statistics_and_units_come_from_the_training_events(data: dict[str, Any]) -> None:
    task, events = OBJECTIVE().task(job(data)), load(data)
    train = split(events, checked(data), 2).train
    heard = events.recording[train]
    found = np.asarray(cached(events, checked(data)))[heard[heard >= 0], 0]
    mean = found.astype(np.float64).mean(axis=(0, 3))[..., None]
    std = np.maximum(found.astype(np.float64).std(axis=(0, 3)), 0.1)[..., None]
    np.testing.assert_allclose(task.model.feature_scale.numpy(), 1 / std, rtol=1e-4)
    np.testing.assert_allclose(task.model.feature_offset.numpy(), -mean / std, rtol=1e-3)
    targets = task.train.data[-1].numpy()
    assert np.abs(targets).max() == pytest.approx(1, abs=1e-5)
    frame = Frame.of(task.facts)
    np.testing.assert_allclose(frame.degrees(targets), events.positions[train], atol=1e-6)


def test_an_example_is_one_event_at_all_receivers(data: dict[str, Any]) -> None:
    task, events = OBJECTIVE().task(job(data)), load(data)
    levels, sites, present, _ = task.train.data
    train = split(events, checked(data), 2).train
    assert levels.shape == (56, 4, 3, 128, 32) and (present.numpy() == events.present[train]).all()
    assert (levels[present == 0] == -100).all()
    kept = np.asarray(cached(events, checked(data)))
    row, receiver = 5, int(np.flatnonzero(present[5])[0])
    np.testing.assert_array_equal(levels[row, receiver], kept[events.recording[train[row], receiver], 0])
    np.testing.assert_allclose(Frame.of(task.facts).degrees(sites[0].numpy()), events.sites, atol=1e-6)


def test_a_single_receiver_hears_alone(data: dict[str, Any]) -> None:
    task, events = OBJECTIVE().task(job({**data, "receivers": "single"})), load(data)
    train = split(events, checked(data), 2).train
    levels, sites, present, targets = task.train.data
    heard = int(events.present[train].sum())
    assert levels.shape == (heard, 1, 3, 128, 32) and bool(present.all()) and targets.shape == (heard, 2)
    example, receiver = np.nonzero(events.present[train])
    frame = Frame.of(task.facts)
    np.testing.assert_allclose(frame.degrees(sites[:, 0].numpy()), events.sites[receiver], atol=1e-6)
    np.testing.assert_allclose(frame.degrees(targets.numpy()), events.positions[train[example]], atol=1e-6)


@pytest.mark.slow
def test_windows_are_examples_of_their_own(tmp_path: Path) -> None:
    OBJECTIVE().make_data(tmp_path / "rf", seed=1, records=32, samples=33_000, receivers=3, progress=False)
    data = {"path": str(tmp_path / "rf"), "frames": "window"}  # 65 frames: two windows
    task, events = OBJECTIVE().task(job(data)), load(data)
    parts = split(events, checked(data), 2)
    assert len(task.train) == 2 * len(parts.train)
    kept = cached(events, checked(data))
    receiver = int(np.flatnonzero(events.present[parts.train[3]])[0])
    recording = events.recording[parts.train[3], receiver]
    np.testing.assert_array_equal(task.train.data[0][7, receiver], kept[recording, 1])
    assert task.validation.clusters is not None
    assert task.validation.clusters.tolist() == np.repeat(events.sessions[parts.validation], 2).tolist()


def test_metrics_are_in_metres(data: dict[str, Any]) -> None:
    task = OBJECTIVE().task(job(data))
    frame, targets = Frame.of(task.facts), task.validation.data[-1]
    off = torch.tensor([40.0, 0.0]) / frame.scale_m  # 40 m north
    sigma = torch.full_like(targets, 40 / frame.scale_m / 2**0.5)
    metrics = task.validation.metrics(torch.cat([targets + off, sigma], dim=1), targets)
    assert metrics["val_mae_m"] == pytest.approx(40, abs=0.1)
    assert (metrics["val_within_30m"], metrics["val_within_50m"]) == (0, 1)
    assert metrics["val_calibration_error_m"] == pytest.approx(0, abs=0.1)
    assert set(metrics) == set(RfLocalization.own_metrics)
    loss = float(gaussian_nll(torch.cat([targets + off, sigma], dim=1), targets))
    assert metrics["val_log_sigma_term"] + metrics["val_squared_error_term"] == pytest.approx(loss, rel=1e-4)


def test_a_fold_leaves_the_test_sessions_alone(data: dict[str, Any]) -> None:
    events, fields = load(data), checked(data)
    whole, fold = split(events, fields, 2), split(events, fields, 2, (0, 4))
    assert whole.test.tolist() == fold.test.tolist()
    assert sorted([*fold.train, *fold.validation]) == sorted([*whole.train, *whole.validation])
    with pytest.raises(UnknownName, match="Did you mean 'dropout'"):
        OBJECTIVE().task(job(data, params={"dropuot": 0.1}))


def test_hand_picked_settings_are_todays() -> None:
    settings = TrainerSettings.layered(RfLocalization.default_trainer).with_params(RfLocalization.default_params)
    assert (settings.optimizer, settings.lr, settings.weight_decay, settings.batch_size) == ("adam", 1e-3, 1e-4, 32)
    assert (settings.schedule, settings.warmup_epochs, settings.keep_best) == ("cosine", 5, 3)
    assert settings.early_stopping is not None
    assert (settings.early_stopping.patience, settings.early_stopping.min_delta) == (10, 1e-4)
    assert vars(Shape()).items() <= RfLocalization.default_params.items()


@pytest.mark.parametrize(
    ("changes", "converged"),
    [({}, True), ({"val_loss": 0.011}, False), ({"train_loss": -0.01}, False), ({"grad_norm": 11.0}, False),
     ({"grad_norm": 0.009}, False), ({"val_mae_m": math.nan}, False)],
)  # fmt: skip
def test_converged_means_what_was_said(changes: dict[str, float], converged: bool) -> None:
    """A loss that moves by ``val_loss`` and a training loss that falls by ``train_loss`` each epoch, over 11 epochs."""
    given = {"val_loss": 0.0009, "train_loss": 0.01, "grad_norm": 1.0, "val_mae_m": 100.0, **changes}
    history = [
        {**given, "val_loss": 1 - given["val_loss"] * epoch, "train_loss": 1 - given["train_loss"] * epoch}
        for epoch in range(11)
    ]
    rules = settle(RfLocalization.health, {}, monitor="val_loss", maximized=())
    told = [verdict.rule.name for verdict in Watch(rules).see(history)]
    assert ("converged" in told) is converged


# weights


def test_weights_of_a_classifier_fit_and_can_be_frozen(data: dict[str, Any], tmp_path: Path) -> None:
    donor = Localizer("tiny", Shape(), torch.zeros(3, 128, 1), torch.ones(3, 128, 1)).backbone
    named = {f"convnext.{name}": tensor.contiguous() for name, tensor in donor.state_dict().items()}
    save_file({**named, "classifier.weight": torch.zeros(10, 32)}, tmp_path / "a.safetensors")
    torch.save(donor.state_dict(), tmp_path / "a.pt")
    for file in ("a.safetensors", "a.pt"):
        model = OBJECTIVE().task(job({**data, "weights": str(tmp_path / file), "freeze": True})).model
        found = model.backbone.state_dict()
        assert all(torch.equal(tensor, found[name]) for name, tensor in donor.state_dict().items())
        assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
        assert all(parameter.requires_grad for parameter in model.position.parameters())


def test_weights_that_do_not_fit_are_refused(data: dict[str, Any], tmp_path: Path) -> None:
    state = empty_model({}, "tiny", 128).backbone.state_dict()
    first = next(iter(state))
    cases = {
        f"1 of another shape \\({first}\\)": {**state, first: torch.zeros(3)},
        f"1 missing \\({first}\\)": {n: state[n] for n in state if n != first},
        "must hold tensors by name": {"epoch": 3},
    }  # fmt: skip
    for message, content in cases.items():
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(DataError, match=message):
            OBJECTIVE().task(job({**data, "weights": str(tmp_path / "bad.pt")}))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(DataError, match="cannot be read"):
        OBJECTIVE().task(job({**data, "weights": str(tmp_path / "text.pt")}))


# baselines

SITES = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.3, -1.0]])


def ideal(positions: np.ndarray) -> Heard:
    """Power that falls by 20 dB a decade, from receivers of different gain."""
    distance = np.linalg.norm(positions[:, None] - SITES[None], axis=2)
    return Heard(np.array([40.0, 43, 38, 41]) - 20 * np.log10(distance), positions, SITES)


def test_least_squares_finds_what_free_space_says() -> None:
    rng = np.random.default_rng(0)
    train, judged = ideal(rng.uniform(-1, 1, (40, 2))), ideal(rng.uniform(-1, 1, (20, 2)))
    offset, slope = baselines.path_loss(train)
    assert offset == pytest.approx([40, 43, 38, 41]) and slope == pytest.approx(-20)
    judged.power_db[3, 1] = np.nan  # three receivers are enough
    assert baselines.least_squares(train, judged) == pytest.approx(judged.positions, abs=1e-3)


def test_the_centroid_is_drawn_to_the_loudest() -> None:
    heard = Heard(np.array([[0.0, 0, -np.inf, -np.inf], [10, 0, np.nan, np.nan]]), np.zeros((2, 2)), SITES)
    assert baselines.power_centroid(heard, heard) == pytest.approx(np.array([[0, 0], [9 / 11, 0]]))


def test_baselines_are_judged_in_metres_on_the_part_that_is_asked_for(data: dict[str, Any]) -> None:
    found = OBJECTIVE().baselines(data, 2, "test")
    assert list(found) == ["training_mean", "power_centroid", "least_squares"]
    events = load(data)
    parts = split(events, checked(data), 2)
    middle = np.tile(events.positions[parts.train].mean(axis=0), (len(parts.test), 1))
    assert found["training_mean"]["test_mae_m"] == pytest.approx(
        great_circle_m(middle, events.positions[parts.test]).mean(), rel=1e-3
    )
    alone = OBJECTIVE().baselines({**data, "receivers": "single"}, 2, "test")
    assert alone["least_squares"]["test_mae_m"] > found["least_squares"]["test_mae_m"]
