"""The learning rate of every update, as a pure function of the update's index.

Being a function of the index alone, a schedule has no state to store: a resumed trial
asks for the next index. Knows no optimiser and no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpo.errors import UnknownName


def constant(progress: float) -> float:
    return 1.0


def linear(progress: float) -> float:
    """From 1 to 0 in a straight line (``torch.optim.lr_scheduler.LinearLR`` ending at 0)."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, no restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: Mapping[str, Callable[[float], float]] = {"constant": constant, "linear": linear, "cosine": cosine}


@dataclass(frozen=True)
class Schedule:
    """The factor on the base learning rate, over ``total`` updates of which ``warmup`` come first.

    Warm-up rises in a straight line from 1 / (warmup + 1), so never from 0, and meets the
    base at index ``warmup``; from there the named curve falls and would reach its end at
    index ``total``, one past the last update. This is PyTorch's ``SequentialLR`` of
    ``LinearLR(start_factor=1/(warmup+1), total_iters=warmup)`` and the curve. A warm-up
    that is not shorter than the whole run leaves no room for the curve.
    """

    name: str
    total: int
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise UnknownName("schedule", self.name, SCHEDULES)

    @classmethod
    def over(cls, name: str, *, epochs: int, updates_per_epoch: int, warmup_epochs: float) -> Schedule:
        """A schedule counted in epochs; a part of an epoch is rounded to whole updates."""
        return cls(name, epochs * updates_per_epoch, round(warmup_epochs * updates_per_epoch))

    def __call__(self, update: int) -> float:
        """The factor for the update of this index (0 for the first); indexes past the end give the end."""
        if update < self.warmup:
            return (update + 1) / (self.warmup + 1)
        room = self.total - self.warmup
        progress = min((update - self.warmup) / room, 1.0) if room > 0 else 0.0
        return SCHEDULES[self.name](progress)
