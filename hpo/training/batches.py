"""Batches of a split, in an order that depends on (seed, epoch) and on nothing else.

So a resumed trial sees the order an unbroken one would have seen, from any batch of an
epoch on, and measuring or evaluating in between changes nothing. Tensors in memory are
moved to the device once and batched there; a ``Dataset`` goes through PyTorch's ``DataLoader``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hpo.errors import TrialFailed
from hpo.training.seeds import seed_everything
from hpo.training.settings import TrainerSettings
from hpo.training.task import Batch, Split
from hpo.trial import derive_seed

# One gather serves several small batches: cutting it up costs less than a gather each.
_GATHER_BYTES = 4 * 2**20
_GATHER_BATCHES = 64


@dataclass(frozen=True)
class Loading:
    """How a ``Dataset`` is read, and how many batches of an epoch are used (None: all)."""

    workers: int = 0
    prefetch: int = 2
    persistent: bool = True
    pin_memory: bool = True
    limit: int | None = None
    drop_single: bool = False  # leave out a last batch of one sample, from which BatchNorm cannot learn

    @classmethod
    def of(cls, settings: TrainerSettings, *, drop_single: bool = False) -> Loading:
        return cls(
            settings.loader_workers,
            settings.prefetch,
            settings.persistent_workers,
            settings.pin_memory,
            settings.limit_batches,
            drop_single,
        )

    def samples(self, samples: int, batch_size: int) -> int:
        """How many of ``samples`` an epoch uses."""
        used = samples if self.limit is None else min(samples, self.limit * batch_size)
        return used - 1 if self.drop_single and used > batch_size > 1 and used % batch_size == 1 else used


class Batches(Protocol):
    """The batches of one split; the last of an epoch may be smaller than ``batch_size``."""

    samples: int
    batch_size: int

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of this epoch from the one of index ``start`` on, on the device, the target last."""
        ...


def make_batches(
    split: Split,
    name: str,
    batch_size: int,
    device: torch.device,
    *,
    seed: int = 0,
    shuffle: bool = False,
    loading: Loading | None = None,
) -> Batches:
    """The batches of ``split``; ``name`` is what messages call it.

    Raises:
        TrialFailed: the split is empty, or its tensors differ in length.
    """
    data, loading = split.data, loading or Loading()
    if isinstance(data, tuple):
        lengths = [len(part) for part in data]
        if len(data) < 2 or len(set(lengths)) != 1:
            raise TrialFailed(
                f"The {name} data must be inputs and a target of equal length; it has tensors of lengths {lengths}."
            )
    if len(split) == 0:
        raise TrialFailed(f"The {name} data must hold at least one sample; it is empty. Check how it was split.")
    if isinstance(data, tuple):
        return TensorBatches(data, batch_size, device, seed=seed, shuffle=shuffle, loading=loading)
    return LoaderBatches(data, batch_size, device, seed=seed, shuffle=shuffle, loading=loading, collate=split.collate)


def check_accumulation(samples: int, settings: TrainerSettings) -> None:
    """Refuse an accumulation that an epoch's batches could never fill.

    Raises:
        TrialFailed: it is larger than the number of batches of ``samples``.
    """
    whole = math.ceil(samples / settings.batch_size)
    if 0 < whole < settings.accumulation:
        raise TrialFailed(
            f"accumulation must not be larger than the {whole} batches of an epoch "
            f"({samples} samples in batches of {settings.batch_size}); "
            f"it is {settings.accumulation}. Lower accumulation or batch_size."
        )


class TensorBatches:
    """Tensors of equal length, kept on the device."""

    def __init__(
        self,
        tensors: Batch,
        batch_size: int,
        device: torch.device,
        *,
        seed: int,
        shuffle: bool,
        loading: Loading,
    ) -> None:
        self.tensors = tuple(tensor.to(device) for tensor in tensors)
        self.samples = loading.samples(len(tensors[0]), batch_size)
        self.batch_size = batch_size
        self._device, self._seed, self._shuffle = device, seed, shuffle
        batch_bytes = sum(t[:1].nbytes for t in self.tensors) * batch_size
        self._gathered = batch_size * max(1, min(_GATHER_BATCHES, _GATHER_BYTES // max(1, batch_bytes)))

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        rows = slice(start * self.batch_size, self.samples)
        if rows.start >= rows.stop:
            return
        if not self._shuffle:
            yield from zip(*(tensor[rows].split(self.batch_size) for tensor in self.tensors), strict=True)
            return
        order = _order(len(self.tensors[0]), self._seed, epoch)[rows].to(self._device)
        for picked in order.split(self._gathered):
            parts = [tensor.index_select(0, picked).split(self.batch_size) for tensor in self.tensors]
            yield from zip(*parts, strict=True)


class LoaderBatches:
    """A map-style data set, loaded in this process or by other ones.

    Worker processes draw each sample's randomness (augmentation) from (seed, epoch, sample)
    alone, so neither their number nor a resume in the middle of an epoch changes it. In
    this process it comes from the global generators, which a checkpoint keeps.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        device: torch.device,
        *,
        seed: int,
        shuffle: bool,
        loading: Loading,
        collate: Callable[[Sequence[Any]], Batch] | None = None,
    ) -> None:
        self._length: int = len(dataset)  # type: ignore[arg-type]
        self.samples = loading.samples(self._length, batch_size)
        self.batch_size = batch_size
        self._device, self._seed, self._shuffle = device, seed, shuffle
        self._order: list[Any] = []  # the loader reads it when an epoch begins
        self._apart = loading.workers > 0
        apart: dict[str, Any] = {"prefetch_factor": loading.prefetch, "persistent_workers": loading.persistent}
        self._loader: DataLoader[Any] = DataLoader(
            _SeededItems(dataset) if self._apart else dataset,
            batch_size,
            sampler=_Reading(self._order, self.samples),
            collate_fn=collate,
            num_workers=loading.workers,
            pin_memory=loading.pin_memory and device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the global one
            **(apart if self._apart else {}),
        )

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = _order(self._length, self._seed, epoch).tolist() if self._shuffle else list(range(self._length))
        picked = order[start * self.batch_size : self.samples]
        self._order[:] = [(derive_seed(self._seed, "item", epoch, i), i) for i in picked] if self._apart else picked
        for batch in self._loader:
            yield tuple(part.to(self._device, non_blocking=True) for part in batch)


class _Reading:
    """The sample keys of the epoch that comes next."""

    def __init__(self, order: list[Any], samples: int) -> None:
        self._order, self._samples = order, samples

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._order))

    def __len__(self) -> int:
        return self._samples


class _SeededItems(Dataset[Any]):
    """Items by (seed, index), each fetched with the worker's generators seeded by it."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sequence[Tensor]:
        seed, index = key
        seed_everything(seed)
        item: Sequence[Tensor] = self._dataset[index]
        return item


def _order(samples: int, seed: int, epoch: int) -> Tensor:
    """A permutation of (samples,), drawn on the CPU so that every device gets the same."""
    return torch.randperm(samples, generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch)))
