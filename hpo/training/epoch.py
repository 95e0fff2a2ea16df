"""One epoch of updates, summed up without making the device wait for each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hpo.training.batches import Batch
from hpo.training.update import Updater, groups

# Losses are read this many updates at a time: rarely enough to cost nothing, often
# enough to notice a NaN long before the end of a long epoch.
_READ_EVERY = 256


class NotFiniteError(Exception):
    """The loss or the gradients became NaN or infinite; the message says where."""


@dataclass
class EpochTotals:
    """What an epoch came to so far; ``state`` goes into a checkpoint in the middle of one.

    Sums are taken update by update, so that an interrupted epoch adds up to the same bits.
    """

    samples: int = 0
    weight: float = 0.0  # of the samples, in what the loss is a mean over
    updates: int = 0  # those that were read, so finite; with fp16 perhaps dropped
    skipped: int = 0
    lr: float = math.nan  # of the last update
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    seconds: float = 0.0  # of training, in earlier parts of the epoch
    waited_s: float = 0.0  # of these, for batches

    def state(self) -> dict[str, Any]:
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        kept = self.updates - self.skipped
        return {
            "train_loss": self.loss_sum / self.weight,
            "lr": self.lr,
            "grad_norm": self.norm_sum / kept if kept else math.nan,
        }


class Epoch:
    """The updates of one epoch, which can be left after any of them and gone on with later.

    ``lr(index)`` is asked with the update's index in the whole run; the epoch begins at
    index ``first_update``.
    """

    def __init__(
        self,
        updater: Updater,
        number: int,
        *,
        first_update: int,
        accumulation: int,
        lr: Callable[[int], float],
        totals: EpochTotals | None = None,
    ) -> None:
        self.updater, self.number, self.accumulation = updater, number, accumulation
        self.totals = totals or EpochTotals()
        self._first_update, self._lr = first_update, lr
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._samples: list[int] = []
        self._weights: list[Tensor | int] = []
        self._lrs: list[float] = []

    @property
    def done(self) -> int:
        """How many updates were made."""
        return self.totals.updates + len(self._losses)

    def train(self, batches: Iterable[Batch], between: Callable[[], None]) -> None:
        """Update the model once per group of ``accumulation`` batches, from those not done yet.

        ``between`` is called after each update and may raise to leave the epoch.

        Raises:
            NotFiniteError: the loss or, unless fp16 drops the update, a gradient is not finite.
        """
        arriving = groups(self._awaited(batches), self.accumulation)
        for index, group in enumerate(arriving, self._first_update + self.totals.updates):
            self.totals.lr = self._lr(index)
            self.updater.set_lr(self.totals.lr)
            loss, norm = self.updater.update(group)
            self._losses.append(loss)
            self._norms.append(norm)
            self._samples.append(sum(len(batch[-1]) for batch in group))
            self._weights.append(self.updater.weight(group))
            self._lrs.append(self.totals.lr)
            if len(self._losses) >= _READ_EVERY:
                self.read()
            between()
        self.read()
        if self.totals.skipped == self.totals.updates and self._scale < 1:
            raise NotFiniteError(
                f"The fp16 gradients of every update of epoch {self.number} were infinite or NaN at any loss scale."
            )

    @property
    def _scale(self) -> float:
        """Of fp16's losses; each dropped update halves it, so a short epoch may end before it is small enough."""
        scaler = self.updater.precision.scaler
        return 1.0 if scaler is None else scaler.get_scale()

    def _awaited(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """``batches``, with the time that each took to come added up."""
        arriving = iter(batches)
        while True:
            began = time.perf_counter()
            batch = next(arriving, None)
            self.totals.waited_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def read(self) -> None:
        """Add up what is still on the device.

        Raises:
            NotFiniteError: as ``train``.
        """
        if not self._losses:
            return
        losses: list[float] = self.updater.team.total(torch.stack(self._losses)).tolist()
        norms: list[float] = torch.stack(self._norms).tolist()
        drops = self.updater.precision.scaler is not None
        weights = map(float, self._weights)
        for at, (loss, norm, samples, weight) in enumerate(zip(losses, norms, self._samples, weights, strict=True)):
            for what, value in (("training loss", loss), ("gradient norm", norm)):
                if not math.isfinite(value) and not (drops and what == "gradient norm"):
                    raise NotFiniteError(
                        f"The {what} must stay finite; it became {value} at epoch {self.number}, "
                        f"update {self.totals.updates + 1}; lr {self._lrs[at]:g}."
                    )
            self.totals.loss_sum += loss * weight
            self.totals.weight += weight
            self.totals.samples += samples
            self.totals.updates += 1
            if math.isfinite(norm):
                self.totals.norm_sum += norm
            else:
                self.totals.skipped += 1
        for pending in (self._losses, self._norms, self._samples, self._weights, self._lrs):
            pending.clear()
