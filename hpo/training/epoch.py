"""One epoch of updates, summed up without making the device wait for each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpo.errors import TrialFailed
from hpo.training.batches import Batch
from hpo.training.update import Updater, groups

# Losses are read this many updates at a time: rarely enough to cost nothing, often
# enough to notice a NaN long before the end of a long epoch.
_READ_EVERY = 256


@dataclass
class EpochTotals:
    """What an epoch of training came to."""

    samples: int = 0
    updates: int = 0
    skipped: int = 0
    lr: float = math.nan  # of the last update
    _loss: float = 0.0
    _norms: list[float] = field(default_factory=list)

    def add(self, losses: list[float], norms: list[float], samples: list[int]) -> None:
        self._loss += math.fsum(loss * n for loss, n in zip(losses, samples, strict=True))
        self._norms += filter(math.isfinite, norms)  # a step that fp16 dropped has no norm
        self.samples += sum(samples)
        self.updates += len(losses)

    def metrics(self) -> dict[str, float]:
        return {
            "train_loss": self._loss / self.samples,
            "lr": self.lr,
            "grad_norm": math.fsum(self._norms) / len(self._norms) if self._norms else math.nan,
        }


def train_epoch(
    updater: Updater,
    batches: Iterable[Batch],
    *,
    epoch: int,
    first_update: int,
    accumulation: int,
    lr: Callable[[int], float],
    between: Callable[[], None],
) -> EpochTotals:
    """Update the model once per group of ``accumulation`` batches.

    ``lr(index)`` is asked with the update's index in the whole run; ``between`` is called
    after each update and may raise to leave the epoch.

    Raises:
        TrialFailed: the loss is not finite.
    """
    totals = EpochTotals()
    losses: list[Tensor] = []
    norms: list[Tensor] = []
    samples: list[int] = []
    lrs: list[float] = []
    skipped_before = updater.skipped

    def read() -> None:
        if not losses:
            return
        seen = torch.stack(losses).tolist()
        for at, loss in enumerate(seen):
            if not math.isfinite(loss):
                raise TrialFailed(
                    f"The training loss must stay finite; it became {loss} at epoch {epoch}, "
                    f"update {totals.updates + at + 1}; lr {lrs[at]:g}. Lower lr, clip gradients, or check the data."
                )
        totals.add(seen, torch.stack(norms).tolist(), samples)
        for pending in (losses, norms, samples, lrs):
            pending.clear()

    for index, group in enumerate(groups(batches, accumulation), start=first_update):
        totals.lr = lr(index)
        updater.set_lr(totals.lr)
        loss, norm = updater.update(group)
        losses.append(loss)
        norms.append(norm)
        samples.append(sum(len(batch[-1]) for batch in group))
        lrs.append(totals.lr)
        if len(losses) >= _READ_EVERY:
            read()
        between()
    read()
    totals.skipped = updater.skipped - skipped_before
    return totals
