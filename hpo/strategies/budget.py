"""A budget by rule of thumb: how many epochs for a model of this size, how many trials for a space of this many."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

TRIALS_PER_PARAMETER = 10
SAMPLES_PER_WEIGHT = 20
FEWEST_EPOCHS, MOST_EPOCHS = 5, 200


@dataclass(frozen=True)
class SuggestedBudget:
    """What a study might be given. ``hours`` are those of the whole study, at the fewest and the most epochs.

    ``batch_size``, the physical one from and to, where it is known what is usual.
    """

    trials: int
    epochs: tuple[int, int]
    hours: tuple[float, float]
    workers: int
    batch_size: tuple[int, int] | None = None

    def __str__(self) -> str:
        fewest, most = self.epochs
        epochs = f"{fewest} to {most}" if fewest < most else f"{most}"
        by, batch = "by rule of thumb", ""
        if self.batch_size is not None:
            by, batch = "as usual for this size", " Physical batch: {} to {}.".format(*self.batch_size)
        return (
            f"Suggested budget, {by}: {epochs} epochs, {self.trials} trials; about {_spoken(self.hours)} "
            f"with {self.workers} at once, less with early stopping and pruning.{batch}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def suggest(*, parameters: int, weights: int, samples: int, epoch_s: float, workers: int = 1) -> SuggestedBudget:
    """A budget for a model of so many trainable ``weights``, ``samples`` of training data and searched ``parameters``.

    Trials: ten per searched parameter, as Loeppky, Sacks & Welch ("Choosing the Sample Size
    of a Computer Experiment", Technometrics 51(4), 2009, p. 366) recommend for first
    experiments in a space. Epochs: until every weight has seen 20 samples, the ratio that
    Hoffmann et al. ("Training Compute-Optimal Large Language Models", 2022,
    arXiv:2203.15556, table 3) found best for language models and their tokens, and from a
    quarter of that; 5 to 200 in any case, which is our own bound. Neither was measured on
    the model at hand.
    """
    most = min(max(math.ceil(SAMPLES_PER_WEIGHT * weights / samples), FEWEST_EPOCHS), MOST_EPOCHS)
    fewest = max(math.ceil(most / 4), FEWEST_EPOCHS)
    trials = TRIALS_PER_PARAMETER * parameters
    return SuggestedBudget(trials, (fewest, most), _hours(trials, (fewest, most), epoch_s, workers), workers)


def usual(
    *, trials: int, epochs: int, batch_size: tuple[int, int], epoch_s: float, workers: int = 1
) -> SuggestedBudget:
    """What an objective says is usual for a model of this size, with what it costs here."""
    hours = _hours(trials, (epochs, epochs), epoch_s, workers)
    return SuggestedBudget(trials, (epochs, epochs), hours, workers, batch_size)


def _hours(trials: int, epochs: tuple[int, int], epoch_s: float, workers: int) -> tuple[float, float]:
    fewest, most = (math.ceil(trials / workers) * number * epoch_s / 3600 for number in epochs)
    return fewest, most


def _spoken(hours: tuple[float, float]) -> str:
    """Hours, minutes or seconds, whichever the longer time is said in."""
    size, unit = next((s, u) for s, u in ((1.0, "h"), (60.0, "min"), (3600.0, "s")) if hours[1] * s >= 1 or u == "s")
    low, high = (f"{time * size:.2g}" for time in hours)
    return f"{high} {unit}" if low == high else f"{low} to {high} {unit}"
