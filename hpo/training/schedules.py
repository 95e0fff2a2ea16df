"""The learning rate of every update, as a pure function of the update's index.

Being a function of the index alone, a schedule has no state to store: a resumed trial
asks for the next index. Knows no optimiser and no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpo.errors import TrialFailed, UnknownName, UserError
from hpo.training.settings import TrainerSettings

# Of one_cycle: PyTorch's OneCycleLR(div_factor=10, final_div_factor=10, pct_start=0.3).
_ONE_CYCLE_START = 1 / 10
_ONE_CYCLE_END = 1 / 100
_ONE_CYCLE_WARM_UP = 0.3


@dataclass(frozen=True)
class Schedule:
    """The factor on the base learning rate, over ``total`` updates of which ``warmup`` come first.

    ``constant``, ``linear``, ``cosine``, ``cosine_with_restarts`` and ``polynomial`` rise in
    a straight line from 1 / (warmup + 1) and meet the base, 1, at index ``warmup``. From
    there the curve falls and would reach ``final_lr_share`` at index ``total``, one past the
    last update. This is PyTorch's ``SequentialLR`` of
    ``LinearLR(start_factor=1/(warmup+1), total_iters=warmup)`` and the curve. Hugging Face's
    schedules of the same names have the same curves, but warm up from 0, which wastes the
    first update.

    ``one_cycle`` is PyTorch's ``OneCycleLR(max_lr=peak_factor * lr, div_factor=10,
    final_div_factor=10, pct_start=warmup / total, anneal_strategy="cos",
    cycle_momentum=False)`` (Smith & Topin 2017, arXiv 1708.07120): from a tenth of the peak
    to the peak along half a cosine, and down to a hundredth of it at the last update, index
    ``total`` - 1. It has a warm-up of its own and an end of its own: ``final_lr_share``
    does not count. Its peak lies at index ``warmup`` - 1 and may fall between two updates.
    """

    name: str
    total: int
    warmup: float = 0
    final_lr_share: float = 0.0
    restarts: int = 1
    power: float = 2.0
    peak_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise UnknownName("schedule", self.name, SCHEDULES)

    @classmethod
    def over(cls, settings: TrainerSettings, *, epochs: int, updates_per_epoch: int) -> Schedule:
        """The schedule that ``settings`` name, over a whole training.

        A warm-up given by epochs or as a share is rounded to whole updates, at most all but
        one (but not for ``one_cycle``, whose peak may lie between two). ``one_cycle``
        without a warm-up takes 0.3 of the training.

        Raises:
            TrialFailed: the warm-up is not shorter than the training.
        """
        total = epochs * updates_per_epoch
        warmup = _warm_up_updates(settings, total, updates_per_epoch)
        if warmup > 0 and warmup >= total:
            raise TrialFailed(
                f"A warm-up must be shorter than the training; it takes {warmup:g} updates of {total}. "
                "Give a shorter one, or a share of the training (warmup_share: 0.1)."
            )
        if settings.schedule != "one_cycle":
            warmup = max(0, min(round(warmup), total - 1))
        return cls(
            settings.schedule,
            total,
            warmup,
            final_lr_share=settings.final_lr_share,
            restarts=settings.restarts,
            power=settings.power,
            peak_factor=settings.peak_factor,
        )

    def __call__(self, update: int) -> float:
        """The factor for the update of this index (0 for the first); indexes past the end give the end."""
        return SCHEDULES[self.name](self, update)


def check_warm_up(settings: TrainerSettings, epochs: int, field: str = "budget.epochs") -> None:
    """Refuse a warm-up in epochs that leaves no epoch of the training; ``field`` says whose epochs.

    Raises:
        UserError: it is not shorter than the training.
    """
    if settings.warmup_epochs and settings.warmup_epochs >= epochs:
        raise UserError(
            f"warmup_epochs must be below {field}, which is {epochs}; got {settings.warmup_epochs:g}. "
            "Give fewer, a share of the training instead (trainer: {warmup_share: 0.1}), or more epochs."
        )


def _warm_up_updates(settings: TrainerSettings, total: int, updates_per_epoch: int) -> float:
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    if settings.warmup_epochs is not None:
        return settings.warmup_epochs * updates_per_epoch
    if settings.warmup_share is not None:
        return settings.warmup_share * total
    return _ONE_CYCLE_WARM_UP * total if settings.schedule == "one_cycle" else 0


# A curve is 1 at progress 0 and 0 at progress 1; ``_after_warm_up`` puts it in its place.


def _linear(schedule: Schedule, progress: float) -> float:
    """A straight line (``torch.optim.lr_scheduler.LinearLR``)."""
    return 1.0 - progress


def _cosine(schedule: Schedule, progress: float) -> float:
    """Half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine_with_restarts(schedule: Schedule, progress: float) -> float:
    """Half a cosine again and again, each as long as the others (the same paper, T_mult = 1).

    Two restarts are three half cosines: Hugging Face's ``num_cycles=3``.
    """
    # 49 * (1 / 49) is just below 1, which would be the end of a cosine and not a restart.
    turns = round((schedule.restarts + 1) * progress, 9)
    return 0.0 if progress >= 1 else _cosine(schedule, turns % 1.0)


def _polynomial(schedule: Schedule, progress: float) -> float:
    """(1 - progress) to the ``power`` (``torch.optim.lr_scheduler.PolynomialLR``)."""
    return (1.0 - progress) ** schedule.power


def _one_cycle(schedule: Schedule, update: int) -> float:
    """As ``OneCycleLR.get_lr`` computes it, with its peak at index pct_start * total - 1."""
    peak, last = schedule.warmup - 1, schedule.total - 1
    update = min(update, last)
    if update < peak:
        factor = _between(_ONE_CYCLE_START, 1.0, update / peak)
    else:
        factor = _between(1.0, _ONE_CYCLE_END, (update - peak) / (last - peak))
    return schedule.peak_factor * factor


def _between(start: float, end: float, progress: float) -> float:
    """From ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _after_warm_up(curve: Callable[[Schedule, float], float]) -> Callable[[Schedule, int], float]:
    """The factor of every update: the straight warm-up, then ``curve`` down to ``final_lr_share``."""

    def factor(schedule: Schedule, update: int) -> float:
        if update < schedule.warmup:
            return (update + 1) / (schedule.warmup + 1)
        progress = min((update - schedule.warmup) / (schedule.total - schedule.warmup), 1.0)
        return schedule.final_lr_share + (1.0 - schedule.final_lr_share) * curve(schedule, progress)

    return factor


SCHEDULES: Mapping[str, Callable[[Schedule, int], float]] = {
    "constant": _after_warm_up(lambda schedule, progress: 1.0),
    "linear": _after_warm_up(_linear),
    "cosine": _after_warm_up(_cosine),
    "cosine_with_restarts": _after_warm_up(_cosine_with_restarts),
    "polynomial": _after_warm_up(_polynomial),
    "one_cycle": _one_cycle,
}
