"""How much memory training will take: counted where it can be, measured where it cannot.

MB are 2^20 bytes. Counting needs no model, so it also answers for one that would not fit.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hpo.errors import OutOfMemory, UnknownName
from hpo.training.batches import Batch
from hpo.training.checks.findings import Result
from hpo.training.checks.tensor_tracker import tensor_tracker
from hpo.training.meters import cuda_peak_bytes
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split
from hpo.training.update import Updater

# bitsandbytes keeps both moments of AdamW in one byte a weight, with a float32 scale for every
# 256 (block-wise quantisation, Dettmers et al. 2022, https://arxiv.org/abs/2110.02861, section 2;
# there with blocks of 2048), and parameters below 4096 weights in float32.
_BLOCK, _SMALL = 256, 4096

_HEALTHY, _TIGHT = 0.90, 0.95  # shares of a device's memory


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of training on one device, part by part.

    ``activations_mb`` and ``peak_mb`` are None until measured or reckoned: what the forward
    pass leaves for the backward pass, and the most that is alive at one moment of an update.
    ``data_mb`` is the part of the data set that is kept on the device, ``gathered_mb`` what
    FSDP puts together there at a time.
    """

    parameters_mb: float
    gradients_mb: float
    optimizer_mb: float
    activations_mb: float | None = None
    data_mb: float = 0.0
    peak_mb: float | None = None
    gathered_mb: float = 0.0

    @property
    def kept_mb(self) -> float:
        """What no smaller batch makes smaller."""
        return math.fsum((self.parameters_mb, self.gradients_mb, self.optimizer_mb, self.data_mb))

    @property
    def total_mb(self) -> float:
        """What must fit: the measured peak, else the sum of the parts; and the data."""
        if self.peak_mb is not None:
            return self.peak_mb + self.data_mb
        parts = (self.parameters_mb, self.gradients_mb, self.optimizer_mb, self.activations_mb or 0.0)
        return math.fsum(parts) + self.data_mb

    def __str__(self) -> str:
        parts = {"parameters": self.parameters_mb, "gradients": self.gradients_mb, "optimiser": self.optimizer_mb}
        if self.activations_mb is not None:
            parts["activations"] = self.activations_mb
        if self.gathered_mb:
            parts["gathered at a time"] = self.gathered_mb
        if self.data_mb:
            parts["data"] = self.data_mb
        told = ", ".join(f"{name} {spoken_mb(value)}" for name, value in parts.items())
        return f"{told}; {'at their peak' if self.peak_mb is not None else 'together'} {spoken_mb(self.total_mb)}"


def memory_by_count(
    parameters: int,
    trainable: int,
    optimizer: str,
    bytes_per_weight: float = 4,
    *,
    momentum: float = 0.9,
    shards: int = 1,
) -> MemoryEstimate:
    """Memory of a model from its number of weights alone; activations are not in it.

    Frozen weights have neither gradient nor optimiser state. Under bf16 or fp16 autocast
    the weights themselves stay float32, hence 4 bytes. ``shards`` devices hold an equal
    part each (FSDP); the figures are then those of one of them.

    Raises:
        UnknownName: the optimiser is none of the trainer's.
    """
    state = trainable * _state_bytes(optimizer, momentum, bytes_per_weight)
    weights, gradients = parameters * bytes_per_weight, trainable * bytes_per_weight
    return MemoryEstimate(*(part / shards / 2**20 for part in (weights, gradients, state)))


def memory_of(model: nn.Module, settings: TrainerSettings) -> MemoryEstimate:
    """The same of a model that exists, tensor by tensor; buffers count as parameters, shared ones once.

    With ``strategy: fsdp`` the figures are those of one of ``settings.devices``.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state = 0.0
    for parameter in trainable:
        name = settings.optimizer
        if name == "adamw8bit" and parameter.numel() < _SMALL:
            name = "adamw"
        state += parameter.numel() * _state_bytes(name, settings.momentum, parameter.element_size())
    held: tuple[Tensor, ...] = (*model.parameters(), *model.buffers())
    parts = (sum(tensor.nbytes for tensor in held), sum(parameter.nbytes for parameter in trainable), state)
    shards = settings.devices if settings.strategy == "fsdp" else 1
    return MemoryEstimate(*(part / shards / 2**20 for part in parts))


def with_activations(
    estimate: MemoryEstimate, updater: Updater, batch: Batch, *, accumulation: int = 1
) -> MemoryEstimate:
    """``estimate`` with what one update of ``updater`` really takes; it must have made an update before.

    On a GPU by the allocator, on a CPU by the tensors that ``tensor_tracker`` sees.
    """
    batch = tuple(part.clone() for part in batch)  # it may be a view of a larger gather
    if accumulation > 1:  # the gradients of one micro-batch stay while the next one runs
        updater.backward([batch])
    measure = _on_gpu if updater.precision.device.type == "cuda" else _on_cpu
    activations, peak = measure(updater, batch)
    return replace(estimate, activations_mb=activations / 2**20, peak_mb=peak / 2**20)


def _on_cpu(updater: Updater, batch: Batch) -> tuple[float, float]:
    with _tracked(updater, batch) as total:
        before = total("current")
        loss = updater.forward(batch)
        held = total("current") - before
    del loss
    # A tracker follows one pass through the modules, so the update gets its own.
    with _tracked(updater, batch) as total:
        updater.update([batch])
    return held, total("peak")


@contextmanager
def _tracked(updater: Updater, batch: Batch) -> Iterator[Callable[[str], int]]:
    """Bytes of all tensors of the update, now (``current``) or at most (``peak``)."""
    gc.collect()  # cycles that die inside would lower the count at an arbitrary moment
    tracker = tensor_tracker()
    tracker.track_external(updater.model, updater.optimizer, *batch)
    with tracker:
        yield lambda when: sum(
            sizes["Total"] for where, sizes in tracker.get_tracker_snapshot(when).items() if where.type == "cpu"
        )


def _on_gpu(updater: Updater, batch: Batch) -> tuple[float, float]:
    device = updater.precision.device
    before = torch.cuda.memory_allocated(device)
    loss = updater.forward(batch)
    held = torch.cuda.memory_allocated(device) - before
    del loss
    return held, cuda_peak_bytes(updater, batch)


def data_mb(splits: tuple[Split, ...], device: torch.device) -> float:
    """What the splits take of a GPU: tensors are kept there, a ``Dataset`` is not."""
    if device.type != "cuda":
        return 0.0
    return sum(part.nbytes for split in splits if isinstance(split.data, tuple) for part in split.data) / 2**20


def available_mb(device: torch.device, gpu_share: float = 1.0) -> float | None:
    """What the device has: a trial's share of a GPU's memory; on a CPU what is free now, None if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory * min(gpu_share or 1.0, 1.0) / 2**20
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kb = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return None if kb is None else kb / 1024


def judge_memory(
    estimate: MemoryEstimate,
    available: float | None,
    kind: str,
    workers: int = 1,
    *,
    least_mb: float | None = None,
    way_out: str | None = None,
) -> tuple[Result, str]:
    """Whether it fits, and a sentence; 90 to 95 % of a device is healthy use.

    Args:
        available: MB of the device, None where nobody knows.
        kind: ``cuda`` or ``cpu``. Too much is a failure where no smaller batch would help
            a single trial; else training halves its batch, and a CPU may swap: a warning.
        workers: trials that share the memory at once.
        least_mb: what no smaller batch makes smaller; ``estimate.kept_mb`` by default.
        way_out: what to do where it does not fit, as a sentence; by default what helps against the largest part.
    """
    several = f" a trial, {workers} at once" if workers > 1 else ""
    told = f"{estimate}{several}"
    if available is None:
        return Result.OK, f"{told}; how much the device has is not known."
    share = estimate.total_mb * workers / available
    told += f"; {share:.1%} of {spoken_mb(available)} {'of the GPU' if kind == 'cuda' else 'free'}"
    if share > 1:
        least_mb = estimate.kept_mb if least_mb is None else least_mb
        hopeless = least_mb * (workers if kind == "cuda" else 1) > available
        result = Result.FAILED if hopeless else Result.WARNING
        return result, f"{told}. It does not fit: {way_out or _way_out(estimate)}."
    if share > _TIGHT:
        return Result.WARNING, f"{told}. Above {_TIGHT:.0%} a larger batch or fragments may not fit."
    return Result.OK, f"{told}{', healthy use' if share >= _HEALTHY else ''}."


def check_memory(
    model: nn.Module,
    settings: TrainerSettings,
    device: torch.device,
    gpu_share: float,
    splits: tuple[Split, ...] = (),
) -> None:
    """Refuse a trial whose weights, gradients, optimiser state and data alone are more than its device has.

    Raises:
        OutOfMemory: they are.
    """
    estimate = replace(memory_of(model, settings), data_mb=data_mb(splits, device))
    refuse_more_than(available_mb(device, gpu_share), estimate, estimate.kept_mb, device)


def refuse_more_than(available: float | None, estimate: MemoryEstimate, least_mb: float, device: torch.device) -> None:
    """Raise ``OutOfMemory``, with the parts and a way out, where ``least_mb`` is more than ``available``."""
    if available is None or least_mb <= available:
        return
    has = spoken_mb(available)
    whose = f"its share of the GPU is {has}" if device.type == "cuda" else f"{has} are free"
    way = _way_out(estimate)
    raise OutOfMemory(f"Refused before its first update: {estimate}; {whose}. It does not fit: {way}.")


def _way_out(estimate: MemoryEstimate) -> str:
    """What helps against the largest part."""
    ways = {
        "halve batch_size and double accumulation, or set precision to bf16 or gradient_checkpointing": (
            estimate.activations_mb or 0.0
        ),
        "use adamw8bit, freeze a part of the model, or share it among devices (strategy: fsdp)": estimate.optimizer_mb,
        "freeze a part of the model, make it smaller, or share it among devices (strategy: fsdp)": (
            estimate.parameters_mb + estimate.gradients_mb
        ),
        "give the data as a Dataset, which stays off the device": estimate.data_mb,
    }
    return max(ways, key=lambda way: ways[way])


def _state_bytes(optimizer: str, momentum: float, bytes_per_weight: float) -> float:
    """Bytes of state that an optimiser keeps for one weight."""
    moments = {"adamw": 2, "adam": 2, "nadam": 2, "rmsprop": 1 + (momentum > 0), "sgd": int(momentum > 0)}
    if optimizer == "adamw8bit":
        return 2 * (1 + 4 / _BLOCK)
    if optimizer not in moments:
        raise UnknownName("optimizer", optimizer, [*moments, "adamw8bit"])
    return moments[optimizer] * bytes_per_weight


def spoken_mb(value: float) -> str:
    return f"{value:,.1f} MB".replace(",", " ")
