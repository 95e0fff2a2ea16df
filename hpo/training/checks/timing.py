"""How long training will take, from some updates that are timed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from hpo.training.batches import Batch, Batches
from hpo.training.evaluate import eval_mode
from hpo.training.meters import median_s
from hpo.training.update import Updater, groups

_UPDATES_S, _VALIDATION_S = 0.2, 0.05


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of an epoch's two parts, and what a study makes of them."""

    update_s: float
    updates: int  # in an epoch
    validation_s: float

    @property
    def epoch_s(self) -> float:
        return self.update_s * self.updates + self.validation_s

    def study_s(self, epochs: int, trials: int, workers: int) -> float:
        """Every trial with all its epochs, ``workers`` at a time."""
        return self.epoch_s * epochs * math.ceil(trials / workers)


def estimate_time(updater: Updater, train: Batches, validation: Batches, accumulation: int) -> TimeEstimate:
    """Times some updates of ``updater`` (fetching their batches included) and some batches of validation.

    The weights of ``updater.model`` change by it.
    """
    device = updater.precision.device
    stream, judged = _endless(train, accumulation), _endless(validation, 1)

    def judge() -> None:
        updater.forward(next(judged)[0])

    update_s = median_s(lambda: updater.update(next(stream)), device, _UPDATES_S)
    with eval_mode(updater.model), torch.no_grad():
        judge_s = median_s(judge, device, _VALIDATION_S)
    # A last batch that is smaller takes less, so it counts as a part of a whole one.
    batches = validation.samples / min(validation.batch_size, validation.samples)
    return TimeEstimate(update_s, math.ceil(len(train) / accumulation), judge_s * batches)


def _endless(batches: Batches, accumulation: int) -> Iterator[list[Batch]]:
    epoch = 0
    while True:
        epoch += 1
        yield from groups(batches.epoch(epoch), accumulation)


def spoken_time(seconds: float) -> str:
    """A duration as people say it: 12 ms, 3.4 s, 5.6 min, 7.8 h, 9.1 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds * 1e3:.3g} ms"
