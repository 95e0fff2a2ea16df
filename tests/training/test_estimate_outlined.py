"""The memory of updates that are never made: against those that are, and against sums by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from hpo.errors import OutOfMemory
from hpo.training.batches import make_batches
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checks.dry_run import DryRuns
from hpo.training.checks.findings import Finding, Result
from hpo.training.checks.outlined import check_outline, estimate_outline
from hpo.training.checks.preflight import Extent, preflight
from hpo.training.checks.ways import ways_out
from hpo.training.meters import Subject, peak_memory_mb
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Split, Task
from objectives.multimodal.model import PlanetModel, blocks_of
from objectives.multimodal.presets import (
    FULL_DIMENSIONS,
    PARTS,
    PRESETS,
    CubeSize,
    Dimensions,
    FusionSize,
    GraphSize,
    Preset,
    TextSize,
)

MB = 2**20
CPU, GPU = torch.device("cpu"), torch.device("cuda")
CARD_MB = 24 * 1024

# Sizes


def planets(rows: int, size: Dimensions, length: int, nodes: int) -> tuple[Tensor, ...]:
    """Inputs and classes of ``rows`` planets; the values do not matter."""
    mask = torch.ones(rows, length, dtype=torch.bool)
    graph = torch.ones(rows, nodes, nodes, dtype=torch.bool)
    return (
        torch.zeros(rows, length, dtype=torch.long), mask,
        torch.randn(rows, nodes, size.node_features), graph, graph[:, 0],
        torch.randn(rows, *size.cube), mask[:, :1],
        torch.zeros(rows, dtype=torch.long),
    )  # fmt: skip


def planet_loss(output: dict[str, Tensor], target: Tensor) -> Tensor:
    parts = [output[name].mean() for name in ("graph_reconstruction", "graph_kl", "cube_reconstruction")]
    return cross_entropy(output["logits"], target) + torch.stack(parts).sum()


def planet_task(preset: Preset, size: Dimensions, length: int, nodes: int, rows: int) -> Task:
    model = PlanetModel(preset, size, dropout=0.1)
    split = Split(planets(rows, size, length, nodes))
    return Task(model, split, split, planet_loss, (), blocks=blocks_of(model, PARTS))


def tiny() -> Task:
    return planet_task(PRESETS["tiny"], Dimensions(8, (4, 4, 8, 16), 5), 32, 16, rows=8)


def between() -> Task:
    preset = Preset(
        TextSize(width=128, depth=4, heads=4, vocabulary=1024, length=64),
        GraphSize(width=64, depth=3, heads=4, latent=16),
        CubeSize(channels=(16, 32), width=96, depth=4, heads=4),
        FusionSize(width=64, depth=2, heads=4, queries=4),
    )
    return planet_task(preset, Dimensions(16, (4, 8, 16, 32), 8), 64, 32, rows=4)


def small() -> Task:
    return planet_task(PRESETS["small"], Dimensions(16, (4, 8, 16, 32), 8), 128, 32, rows=2)


def language() -> Task:
    """A GPT-2 of ``transformers``, with a vocabulary whose logits are the largest tensor."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_embd=64, n_head=2, vocab_size=5000, n_positions=64, bos_token_id=1, eos_token_id=1
    )

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = transformers.GPT2LMHeadModel(config)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.inner(input_ids=tokens, use_cache=False).logits

    def loss(logits: Tensor, tokens: Tensor) -> Tensor:
        return cross_entropy(logits.flatten(0, 1), tokens.flatten())

    model, tokens = Logits(), torch.zeros(4, 64, dtype=torch.long)
    split = Split((tokens, tokens))
    return Task(model, split, split, loss, (), blocks=list(model.inner.transformer.h))


def outlined(task: Task) -> Outline:
    assert isinstance(task.train.data, tuple)
    return Outline(task.model, tuple(part[:1] for part in task.train.data), task.loss, task.blocks)


def measured_mb(task: Task, settings: TrainerSettings) -> float:
    with checkpointed_blocks(task.blocks, wanted=settings.gradient_checkpointing):
        batches = make_batches(task.train, "training", settings.batch_size, CPU)
        return peak_memory_mb(Subject(task, batches, settings, CPU))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sgd": {"optimizer": "sgd"},
    "8 bit": {"optimizer": "adamw8bit"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "checkpointed": {"gradient_checkpointing": True},
    "all": {"optimizer": "adamw8bit", "precision": "bf16", "gradient_checkpointing": True, "accumulation": 2},
}
OFTEN = ("plain", "bf16", "all")  # the others only in the slow matrix


@pytest.mark.parametrize(
    "option", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in OPTIONS]
)
@pytest.mark.parametrize(
    "make", [tiny, language, *(pytest.param(large, marks=pytest.mark.slow) for large in (between, small))]
)
def test_the_estimate_is_within_15_percent_of_the_measured_peak(make: Callable[[], Task], option: str) -> None:
    task, given = make(), OPTIONS[option]
    if given.get("optimizer") == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    assert isinstance(task.train.data, tuple)
    rows = len(task.train.data[-1])
    settings = TrainerSettings(**{"batch_size": rows, "precision": "fp32", **given})
    measured = measured_mb(task, settings)
    found = estimate_outline(outlined(task), settings, CPU)
    assert found.peak_mb == pytest.approx(measured, rel=0.15)


# By hand


class Two(nn.Module):
    """A million weights in ``large``, ten thousand in ``head``."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.head = nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.large(x)))


def two(*, blocks: bool = False) -> Outline:
    with torch.device("meta"):
        model, sample = Two(), (torch.empty(1, 1000), torch.empty(1, 10))
    return Outline(model, sample, mse_loss, [model.large] if blocks else [])


def settings(**given: Any) -> TrainerSettings:
    return TrainerSettings(**{"precision": "fp32", "batch_size": 500, **given})


def test_the_parts_are_told_apart() -> None:
    found = estimate_outline(two(), settings(), CPU)
    assert found.parameters_mb * MB == found.gradients_mb * MB == 1_010_000 * 4
    assert found.optimizer_mb * MB == 1_010_000 * 8
    # relu's output (500, 1000), the prediction (500, 10) and the loss in float32
    assert found.activations_mb is not None
    assert found.activations_mb * MB == pytest.approx(500 * 1010 * 4, rel=0.001)


def test_autocast_keeps_activations_and_weights_in_two_bytes() -> None:
    found = estimate_outline(two(), settings(precision="bf16"), CPU)
    assert found.activations_mb is not None
    # the input, relu's output and the head's weights in bfloat16; the prediction in float32. An input needs
    # no gradient, so the weights of the first layer are not kept.
    by_hand = 500 * 1000 * 2 + 500 * 1000 * 2 + 10_000 * 2 + 500 * 10 * 4
    assert found.activations_mb * MB == pytest.approx(by_hand, rel=0.001)


def test_sharing_halves_what_is_kept_and_gathers_the_rest() -> None:
    found = estimate_outline(two(blocks=True), settings(devices=2, strategy="fsdp"), CPU)
    assert found.kept_mb * MB == 1_010_000 * 16 / 2
    assert found.gathered_mb * MB == 10_000 * 8 + 2 * 1_000_000 * 8
    assert found.peak_mb is not None
    # At the end of the backward pass a device has its batch of 250 rows and, at least, one gradient beside.
    beside = found.peak_mb - found.kept_mb - found.gathered_mb
    assert 250 * 1010 * 4 < beside * MB < 250 * 1010 * 4 * 3 + 1_000_000 * 4 + 1000


def test_a_dry_run_changes_nothing_and_takes_no_memory() -> None:
    outline = two(blocks=True)
    kept = type(outline.model.large)
    estimate_outline(outline, settings(gradient_checkpointing=True), CPU)
    assert all(parameter.is_meta and parameter.grad is None for parameter in outline.model.parameters())
    assert type(outline.model.large) is kept


def test_without_a_sample_what_is_kept_is_counted() -> None:
    found = estimate_outline(Outline(two().model), settings(), CPU)
    assert (found.activations_mb, found.peak_mb) == (None, None)
    assert found.total_mb * MB == 1_010_000 * 16


# What would do


@pytest.mark.slow
def test_each_way_out_comes_with_its_figure() -> None:
    outline, given = two(blocks=True), settings()
    found = ways_out(outline, given, CPU, 10.0, DryRuns(outline))
    by_name = {way.what: way.total_mb for way in found.ways}
    assert list(by_name) == [
        "adamw8bit", "bf16", "gradient_checkpointing", "batch_size 1 and accumulation 500", "large frozen",
        "all of these",
    ]  # fmt: skip
    plain = estimate_outline(outline, given, CPU)
    # Two moments of 4 bytes become two of 1, with a scale of 4 bytes for every 256.
    saved = 1_010_000 * (8 - 2 * (1 + 4 / 256))
    assert plain.total_mb - by_name["adamw8bit"] == pytest.approx(saved / MB, rel=0.01)
    # No gradient and no state of a million weights.
    assert plain.total_mb - by_name["large frozen"] >= 1_000_000 * 8 / MB
    assert by_name["all of these"] == min(by_name.values())
    assert found.host_mb * MB == 1_010_000 * 16


@pytest.mark.slow
@pytest.mark.parametrize("available", [24.0, 40.0])
def test_the_number_of_devices_is_the_smallest_that_holds_it(available: float) -> None:
    outline, given = two(blocks=True), settings()
    devices = ways_out(outline, given, CPU, available, DryRuns(outline)).devices
    assert devices is not None and devices > 1

    def total_mb(number: int) -> float:
        shared = settings(devices=number, batch_size=number, strategy="fsdp")
        return estimate_outline(outline, shared, CPU).total_mb

    assert total_mb(devices) <= available
    assert devices == 2 or total_mb(devices - 1) > available


@pytest.mark.slow
def test_no_number_of_devices_holds_what_must_be_together() -> None:
    outline = two()  # without blocks the whole model is put together at a time
    assert ways_out(outline, settings(), CPU, 7.0, DryRuns(outline)).devices is None


# Who is refused


def memory(outline: Outline, extent: Extent, **given: Any) -> Finding:
    def build() -> Task:
        raise RuntimeError("must not be built")

    (found,) = preflight(build, settings(**given), extent, outline=lambda: outline).findings
    return found


@pytest.mark.slow
def test_a_gpu_that_is_not_here_is_reckoned_with() -> None:
    extent = Extent(epochs=1, device_mb=25.0)
    found = memory(two(blocks=True), extent, precision="auto", batch_size=5000)
    assert found.result is Result.WARNING  # a smaller batch would do, and training takes one
    assert "of 25.0 MB of the GPU. It does not fit: a device would take with adamw8bit" in found.message
    assert found.details["ways"]["devices"] >= 2
    assert memory(two(), Extent(epochs=1, device_mb=15.0)).result is Result.FAILED
    assert memory(two(), Extent(epochs=1, device_mb=100.0)).result is Result.OK


def test_a_model_that_looks_at_values_is_counted_without_activations() -> None:
    outline = two()
    outline.model.register_forward_pre_hook(lambda module, inputs: bool(inputs[0].sum() > 0))
    found = memory(outline, Extent(epochs=1, device_mb=100.0))
    assert found.result is Result.OK and found.details["activations_mb"] is None
    assert "Activations are not in it: DataDependentOutputException" in found.message


def test_a_trial_is_refused_where_even_one_row_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    one_row = estimate_outline(two(), settings(batch_size=1, accumulation=2), CPU).total_mb
    kept = estimate_outline(Outline(two().model), settings(), CPU).kept_mb
    for available, refused in ((kept - 0.1, True), ((kept + one_row) / 2, True), (one_row + 0.1, False)):
        monkeypatch.setattr("hpo.training.checks.outlined.available_mb", lambda device, share, has=available: has)
        if refused:
            with pytest.raises(OutOfMemory, match="Refused before its first update: parameters 3.9 MB"):
                check_outline(two(), settings(), CPU, 1.0)
        else:
            check_outline(two(), settings(), CPU, 1.0)


@pytest.mark.slow
def test_two_cards_of_24_gb_do_not_hold_the_full_multimodal_model_and_it_says_what_would() -> None:
    with torch.device("meta"):
        model = PlanetModel(PRESETS["full"], FULL_DIMENSIONS, dropout=0.1)
        sample = planets(1, FULL_DIMENSIONS, 2048, 512)
    outline = Outline(model, sample, planet_loss, blocks_of(model, PARTS))
    given = {"devices": 2, "strategy": "fsdp", "batch_size": 2, "accumulation": 32}
    found = memory(outline, Extent(epochs=1, device_mb=CARD_MB), **given)
    assert found.result is Result.FAILED
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert found.details["parameters_mb"] * MB == pytest.approx(weights * 4 / 2, rel=1e-3)
    assert found.details["gradients_mb"] * MB == pytest.approx(weights * 4 / 2, rel=1e-3)
    assert found.details["optimizer_mb"] * MB == pytest.approx(weights * 8 / 2, rel=1e-3)
    assert found.details["activations_mb"] > CARD_MB
    assert "text frozen" in found.message and "gradient_checkpointing" in found.message
    assert found.details["ways"]["devices_with_all"] > 2
