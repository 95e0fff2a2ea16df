"""The memory of an update that is never made: shapes go through the model, and no numbers.

Model and batch are PyTorch's fake tensors, which have a shape and a type and take no
memory; ``tensor_tracker`` adds up what real ones would. So a model of any size is looked
at in seconds on any machine: 17 billion weights take 5 s.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hpo.training.batches import Batch
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checks.tensor_tracker import tensor_tracker
from hpo.training.precision import Precision
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline
from hpo.training.update import Updater

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Footprint:
    """Bytes of one update on one device, without the optimiser's state.

    ``activations`` is what the forward pass leaves for the backward pass; ``peak`` the most
    that is alive at one moment, parameters and gradients included.
    """

    activations: int
    peak: int


class DryRuns:
    """Updates of an outline that are never made, each different one gone through once.

    ``model`` is a copy of the outline's that takes no memory; parts of it may be frozen.
    """

    def __init__(self, outline: Outline) -> None:
        if outline.loss is None or not outline.sample:
            raise ValueError("An outline needs a sample and a loss for its activations to be reckoned.")
        self.model: nn.Module
        self._mode, self._loss, self._sample = FakeTensorMode(allow_non_fake_inputs=True), outline.loss, outline.sample
        self.model, self.blocks = self._copy(outline)
        self._found: dict[tuple[object, ...], Footprint] = {}

    def footprint(self, settings: TrainerSettings, precision: str, rows: int, *, sharded: bool) -> Footprint:
        """What an update at a physical batch of ``rows`` would take.

        As the trainer makes it: in training mode, under autocast, with checkpointed blocks, and
        where it accumulates with the gradients of the batches before. ``sharded``: gradients
        are given out as soon as they are there. The optimiser's step needs nothing beside its state.

        Args:
            precision: fp32, bf16 or fp16.

        Raises:
            Exception: whatever the model raises, as where it looks at values in ``forward``.
        """
        trained = tuple(parameter.requires_grad for parameter in self.model.parameters())
        keeps = settings.accumulation > 1 and not sharded
        key = (trained, settings.gradient_checkpointing, precision, rows, sharded, keeps)
        if key not in self._found:
            with (
                self._mode,
                _without_collector(),
                checkpointed_blocks(self.blocks, wanted=settings.gradient_checkpointing),
            ):
                self._found[key] = self._run(precision, rows, sharded=sharded, keeps=keeps)
        return self._found[key]

    def _run(self, precision: str, rows: int, *, sharded: bool, keeps: bool) -> Footprint:
        batch = tuple(torch.empty((rows, *part.shape[1:]), dtype=part.dtype) for part in self._sample)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter) if keeps else None
        hooks = [parameter.register_post_accumulate_grad_hook(_forget) for parameter in parameters if sharded]
        unused = torch.optim.SGD(parameters)
        updater = Updater(self.model.train(), self._loss, unused, Precision(precision, _CPU))
        try:
            return _tracked(updater, batch)
        finally:
            updater.clear()
            for hook in hooks:
                hook.remove()

    def _copy(self, outline: Outline) -> tuple[nn.Module, Sequence[nn.Module]]:
        memo: dict[int, Any] = {}  # what a deep copy takes for a tensor instead of copying it; shared ones stay shared
        for parameter in outline.model.parameters():
            memo[id(parameter)] = nn.Parameter(self._fake(parameter), requires_grad=parameter.requires_grad)
        for buffer in outline.model.buffers():
            memo[id(buffer)] = self._fake(buffer)
        copied: tuple[nn.Module, Sequence[nn.Module]] = copy.deepcopy((outline.model, tuple(outline.blocks)), memo)
        return copied

    def _fake(self, tensor: Tensor) -> Tensor:
        with self._mode:
            return torch.empty(tensor.shape, dtype=tensor.dtype)


def _tracked(updater: Updater, batch: Batch) -> Footprint:
    tracker = tensor_tracker()
    tracker.track_external(updater.model, *batch)

    def total(when: str) -> int:
        return sum(sizes["Total"] for sizes in tracker.get_tracker_snapshot(when).values())

    with tracker:
        before = total("current")
        loss = updater.forward(batch)
        held = total("current") - before
        loss.backward()
    return Footprint(held, total("peak"))


def _forget(parameter: Tensor) -> None:
    parameter.grad = None


@contextmanager
def _without_collector() -> Iterator[None]:
    """Garbage collection, to no use here, takes half the time."""
    was_on = gc.isenabled()
    gc.collect()  # cycles that die inside would lower the count at an arbitrary moment
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
