"""Batches of a split, in an order that depends on (seed, epoch) and on nothing else.

So a resumed trial sees the order an unbroken one would have seen, and measuring or
evaluating in between changes nothing. Tensors in memory are moved to the device once and
batched there; a ``Dataset`` goes through PyTorch's ``DataLoader``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hpo.errors import TrialFailed
from hpo.training.seeds import seed_worker
from hpo.training.task import Split
from hpo.trial import derive_seed

Batch = tuple[Tensor, ...]

# One gather serves several small batches: cutting it up costs less than a gather each.
_GATHER_BYTES = 4 * 2**20
_GATHER_BATCHES = 64


class Batches(Protocol):
    """The batches of one split; the last of an epoch may be smaller than ``batch_size``."""

    samples: int
    batch_size: int

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of this epoch, on the device, the target last."""
        ...


def make_batches(
    split: Split,
    name: str,
    batch_size: int,
    device: torch.device,
    *,
    seed: int = 0,
    shuffle: bool = False,
    workers: int = 0,
) -> Batches:
    """The batches of ``split``; ``name`` is what messages call it.

    Raises:
        TrialFailed: the split is empty, or its tensors differ in length.
    """
    data = split.data
    if isinstance(data, tuple):
        lengths = [len(part) for part in data]
        if len(data) < 2 or len(set(lengths)) != 1:
            raise TrialFailed(
                f"The {name} data must be inputs and a target of equal length; it has tensors of lengths {lengths}."
            )
    if len(split) == 0:
        raise TrialFailed(f"The {name} data must hold at least one sample; it is empty. Check how it was split.")
    if isinstance(data, tuple):
        return TensorBatches(data, batch_size, device, seed=seed, shuffle=shuffle)
    return LoaderBatches(data, batch_size, device, seed=seed, shuffle=shuffle, workers=workers)


class TensorBatches:
    """Tensors of equal length, kept on the device."""

    def __init__(self, tensors: Batch, batch_size: int, device: torch.device, *, seed: int, shuffle: bool) -> None:
        self.tensors = tuple(tensor.to(device) for tensor in tensors)
        self.samples = len(tensors[0])
        self.batch_size = batch_size
        self._device, self._seed, self._shuffle = device, seed, shuffle
        batch_bytes = sum(t[:1].nbytes for t in self.tensors) * batch_size
        self._gathered = batch_size * max(1, min(_GATHER_BATCHES, _GATHER_BYTES // max(1, batch_bytes)))

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        if not self._shuffle:
            yield from zip(*(tensor.split(self.batch_size) for tensor in self.tensors), strict=True)
            return
        order = _order(self.samples, self._seed, epoch).to(self._device)
        for picked in order.split(self._gathered):
            parts = [tensor.index_select(0, picked).split(self.batch_size) for tensor in self.tensors]
            yield from zip(*parts, strict=True)


class LoaderBatches:
    """A map-style data set, loaded in this process or by ``workers`` others.

    Workers are started anew each epoch, because one that lives on would carry its random
    state over and a resumed trial could not repeat it.
    """

    def __init__(
        self, dataset: Dataset[Any], batch_size: int, device: torch.device, *, seed: int, shuffle: bool, workers: int
    ) -> None:
        self.samples = len(dataset)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self._dataset, self._device, self._workers = dataset, device, workers
        self._seed, self._shuffle = seed, shuffle

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        order = _order(self.samples, self._seed, epoch).tolist() if self._shuffle else range(self.samples)
        loader: DataLoader[Any] = DataLoader(
            self._dataset,
            self.batch_size,
            sampler=order,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=seed_worker,
            generator=torch.Generator().manual_seed(derive_seed(self._seed, "workers", epoch)),
        )
        for batch in loader:
            yield tuple(part.to(self._device, non_blocking=True) for part in batch)


def _order(samples: int, seed: int, epoch: int) -> Tensor:
    """A permutation of (samples,), drawn on the CPU so that every device gets the same."""
    return torch.randperm(samples, generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch)))
