"""What would make a model fit that does not: each memory tool alone and all together, with what it would come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hpo.training.checks.dry_run import DryRuns
from hpo.training.checks.estimate import MemoryEstimate, memory_of, spoken_mb
from hpo.training.checks.outlined import alone, estimate_outline, is_sharded, rows_of, smallest_batch
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline

_FULL_STATE = ("adamw", "adam", "nadam")  # of whose state that of adamw8bit is a quarter


@dataclass(frozen=True)
class Way:
    """Something that can be done, and what of one device training would then take."""

    what: str
    total_mb: float


@dataclass(frozen=True)
class Ways:
    """All that can be done without another model, the last with everything at once.

    ``one_row_mb`` is what one row at a time would take as it is. ``devices`` is how many
    hold that with ``strategy: fsdp``, ``devices_with_all`` how many with everything else
    done; None: no number does. ``host_mb`` is what offloading would keep in the host's memory.
    """

    ways: tuple[Way, ...]
    one_row_mb: float
    devices: int | None
    devices_with_all: int | None
    host_mb: float

    def __str__(self) -> str:
        told = ", ".join(f"with {way.what} {spoken_mb(way.total_mb)}" for way in self.ways)
        return (
            f"a device would take {told}. Shared by strategy fsdp, {_number(self.devices)} it as it is, "
            f"{_number(self.devices_with_all)} it with all of these. Offloading, which would keep "
            f"{spoken_mb(self.host_mb)} on the host, is not done by this trainer"
        )


def ways_out(
    outline: Outline, settings: TrainerSettings, device: torch.device, available_mb: float, runs: DryRuns
) -> Ways:
    """What can be done and is not done yet, each with what it would come to; freezing means the model's largest child.

    Args:
        outline: with a sample and a loss.
        device: its kind alone counts.
        available_mb: what each device has.
        runs: those of ``outline``; the part is frozen there afterwards.

    Raises:
        Exception: as ``estimate_outline``.
    """

    def estimate(changes: Mapping[str, Any]) -> MemoryEstimate:
        return estimate_outline(outline, settings.model_copy(update=changes), device, runs)

    def devices(changes: Mapping[str, Any]) -> int | None:
        return _devices(estimate({**changes, **_on_two(settings)}), available_mb)

    steps = _steps(outline, settings, device)
    ways = [Way(what, estimate(changes).total_mb) for what, changes in steps.items()]
    one_row_mb = estimate(_one_row(settings)).total_mb
    as_it_is, host_mb = devices({}), memory_of(runs.model, alone(settings)).kept_mb
    part = _largest_part(runs.model)
    if part is not None:
        runs.model.get_submodule(part).requires_grad_(False)
        ways.append(Way(f"{part} frozen", estimate({}).total_mb))
    everything = _together(settings, steps)
    if len(ways) > 1:
        ways.append(Way("all of these", estimate(everything).total_mb))
    return Ways(tuple(ways), one_row_mb, as_it_is, devices(everything), host_mb)


def _steps(outline: Outline, settings: TrainerSettings, device: torch.device) -> dict[str, dict[str, Any]]:
    """The settings that each step changes, by what to call it."""
    steps: dict[str, dict[str, Any]] = {}
    if settings.devices > 1 and not is_sharded(settings):
        steps["strategy fsdp"] = {"strategy": "fsdp"}
    if settings.optimizer in _FULL_STATE:
        how = " and strategy ddp" if is_sharded(settings) else ""  # its kernels know no shards
        steps[f"adamw8bit{how}"] = {"optimizer": "adamw8bit", "strategy": "ddp"}
    if settings.precision == "fp32" or (settings.precision == "auto" and device.type == "cpu"):
        steps["bf16"] = {"precision": "bf16"}
    if outline.blocks and not settings.gradient_checkpointing:
        steps["gradient_checkpointing"] = {"gradient_checkpointing": True}
    if rows_of(settings) > 1:
        small = _one_row(settings)
        steps[f"batch_size {small['batch_size']} and accumulation {small['accumulation']}"] = small
    return steps


def _one_row(settings: TrainerSettings) -> dict[str, Any]:
    small = smallest_batch(settings)
    return {"batch_size": small.batch_size, "accumulation": small.accumulation}


def _together(settings: TrainerSettings, steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    changes = {name: value for step in steps.values() for name, value in step.items()}
    if settings.devices > 1:  # sharing saves more than 8-bit state, with which it does not go
        changes |= {"strategy": "fsdp", "optimizer": _shardable(settings)}
    return changes


def _on_two(settings: TrainerSettings) -> dict[str, Any]:
    """Two devices with a row each, to reckon from with any number."""
    return {"devices": 2, "strategy": "fsdp", "batch_size": 2, "optimizer": _shardable(settings)}


def _devices(on_two: MemoryEstimate, available_mb: float) -> int | None:
    """How many devices hold what two would hold; None where what each needs beside its share is too much."""
    room_mb = available_mb - (on_two.total_mb - on_two.kept_mb)
    return max(2, math.ceil(2 * on_two.kept_mb / room_mb)) if room_mb > 0 else None


def _shardable(settings: TrainerSettings) -> str:
    return "adamw" if settings.optimizer == "adamw8bit" else settings.optimizer


def _largest_part(model: nn.Module) -> str | None:
    """The child with the most trainable weights, where something is left to train without it."""
    own = {name: {p for p in child.parameters() if p.requires_grad} for name, child in model.named_children()}
    name = max(own, key=lambda name: sum(p.numel() for p in own[name]), default=None)
    left = [p for p in model.parameters() if p.requires_grad and (name is None or p not in own[name])]
    return name if left and name is not None and own[name] else None


def _number(devices: int | None) -> str:
    return "no number of devices holds" if devices is None else f"{devices} devices hold"
