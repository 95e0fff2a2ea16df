"""The memory of a task that is not built yet, from its outline."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from hpo.training.batches import make_batches
from hpo.training.checks.dry_run import DryRuns
from hpo.training.checks.estimate import MemoryEstimate, available_mb, memory_of, refuse_more_than
from hpo.training.precision import resolve_precision
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Task

# Below this share of a device, weights, gradients and state leave room enough for a batch of one row.
_ROOMY = 0.5


def estimate_outline(
    outline: Outline, settings: TrainerSettings, device: torch.device, runs: DryRuns | None = None
) -> MemoryEstimate:
    """The memory of one update on one of ``settings.devices``, part by part; nothing is built.

    Without a sample and a loss the activations stay unknown. With ``strategy: fsdp`` the peak
    is a sum: this device's share, what is put together at a time (``gathered_mb``), and
    what the rest of an update takes.

    Args:
        device: its kind alone counts; a GPU need not be there.
        runs: those of ``outline``, for several estimates of it; what is frozen there is frozen here.

    Raises:
        Exception: whatever the model raises, as where it looks at values in ``forward``.
    """
    if not outline.sample or outline.loss is None:
        return memory_of(outline.model, settings)
    runs = runs or DryRuns(outline)
    sharded = is_sharded(settings)
    run = runs.footprint(settings, _precision(settings, device), rows_of(settings), sharded=sharded)
    peak_mb = run.peak / 2**20
    found = replace(memory_of(runs.model, settings), activations_mb=run.activations / 2**20)
    if not sharded:
        return replace(found, peak_mb=peak_mb + found.optimizer_mb)
    gathered_mb = _gathered_bytes(runs) / 2**20
    beside_mb = peak_mb - memory_of(runs.model, alone(settings)).parameters_mb
    return replace(found, gathered_mb=gathered_mb, peak_mb=found.kept_mb + gathered_mb + beside_mb)


def check_outline(outline: Outline, settings: TrainerSettings, device: torch.device, gpu_share: float) -> None:
    """Refuse a trial that does not fit on its device even at a physical batch of one row; nothing is built.

    Raises:
        OutOfMemory: it does not.
    """
    available = available_mb(device, gpu_share)
    teams = settings.devices if device.type == "cpu" else 1  # of which all take from the same memory
    if available is None:
        return
    estimate = memory_of(outline.model, settings)
    refuse_more_than(available / teams, estimate, estimate.kept_mb, device)
    if estimate.kept_mb > _ROOMY * available / teams:
        estimate = estimate_outline(outline, smallest_batch(settings), device)
        refuse_more_than(available / teams, estimate, estimate.total_mb, device)


def outline_of(task: Task) -> Outline:
    """What decides the memory of a task that is there, with its first training sample."""
    sample = next(make_batches(task.train, "training", 1, torch.device("cpu")).epoch(0))
    return Outline(task.model, sample, task.loss, task.blocks)


def rows_of(settings: TrainerSettings) -> int:
    """The rows of a batch that one device takes at most."""
    return math.ceil(settings.batch_size / settings.devices)


def is_sharded(settings: TrainerSettings) -> bool:
    return settings.strategy == "fsdp" and settings.devices > 1


def alone(settings: TrainerSettings) -> TrainerSettings:
    """The same on one device."""
    return settings.model_copy(update={"devices": 1})


def smallest_batch(settings: TrainerSettings) -> TrainerSettings:
    """The same update, one row of it a device at a time."""
    rows = rows_of(settings)
    return settings.model_copy(update={"batch_size": settings.devices, "accumulation": settings.accumulation * rows})


def _precision(settings: TrainerSettings, device: torch.device) -> str:
    if settings.precision == "auto" and device.type == "cuda" and not torch.cuda.is_available():
        return "bf16"  # what every GPU has that one would share such a model among
    return resolve_precision(settings.precision, device)


def _gathered_bytes(runs: DryRuns) -> int:
    """What FSDP2 holds of the whole model, at most, beside a device's share.

    Outside the blocks: parameters and gradients, all through the backward pass. Of the
    blocks two at a time, the next one being fetched, each with its gradients, of which those
    of the one before are being given out (Zhao et al. 2023, https://arxiv.org/abs/2304.11277, section 3.3).
    """
    blocks = {id(parameter) for block in runs.blocks for parameter in block.parameters()}
    outside = [parameter for parameter in runs.model.parameters() if id(parameter) not in blocks]
    largest = max((_with_gradients(list(block.parameters())) for block in runs.blocks), default=0)
    return _with_gradients(outside) + 2 * largest


def _with_gradients(parameters: list[torch.nn.Parameter]) -> int:
    return sum(parameter.nbytes * (1 + parameter.requires_grad) for parameter in parameters)
