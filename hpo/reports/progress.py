"""What a search had spent by the time it got anywhere: epochs and hours at each improvement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpo import pareto
from hpo.reports import spending
from hpo.reports.facts import Facts
from hpo.reports.spending import Unit
from hpo.reports.wording import count, duration, listed, number, percent
from hpo.trial import Goal

_LAST = 10
_MOST_ROWS = 12


@dataclass(frozen=True)
class Progress:
    """The placed trials in the order in which they ended, and what all trials had spent by then.

    ``values`` (n_trials, n_goals); ``epochs`` are those of every trial that had ended, pruned and failed ones too;
    ``seconds`` are wall-clock, without the time between launches. Either is empty where it is not known.
    """

    goals: tuple[Goal, ...]
    numbers: tuple[int, ...]
    values: np.ndarray
    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    reference: tuple[float, ...] | None

    @classmethod
    def of(cls, facts: Facts) -> Progress:
        order = spending.ended(facts)
        placed = {trial.number for trial in facts.placed}
        rows = [row for row, trial in enumerate(order) if trial.number in placed]
        spent = {unit: spending.spent(facts, unit) for unit in (Unit.EPOCHS, Unit.TIME)}
        amounts = {unit: [total[row] for row in rows] if total else [] for unit, total in spent.items()}
        return cls(
            facts.goals,
            tuple(order[row].number for row in rows),
            np.array([order[row].values for row in rows]).reshape(len(rows), len(facts.goals)),
            tuple(int(epochs) for epochs in amounts[Unit.EPOCHS]),
            tuple(amounts[Unit.TIME]),
            facts.reference,
        )

    def best(self, goal: int) -> list[float]:
        """The best value of one goal so far."""
        sign = float(pareto.signs(self.goals)[goal])
        return [float(value) for value in np.minimum.accumulate(self.values[:, goal] * sign) * sign]

    @cached_property
    def volume(self) -> list[float]:
        """The hypervolume so far."""
        return pareto.volumes(self.values, self.goals, self.reference) if self.reference is not None else []

    @property
    def sought(self) -> list[float]:
        """What the search is after: the best value of a single goal, else the hypervolume."""
        return self.best(0) if len(self.goals) == 1 else self.volume

    @cached_property
    def improvements(self) -> list[int]:
        """The places at which what is sought moved; the first trial counts."""
        sought = self.sought
        return [i for i in range(len(sought)) if i == 0 or sought[i] != sought[i - 1]]


COLUMNS = ("trial", "", "better by", "epochs since the one before", "time since the one before")


def columns(progress: Progress) -> tuple[str, ...]:
    return tuple(_sought(progress) if name == "" else name for name in COLUMNS)


def rows(progress: Progress) -> list[tuple[str, ...]]:
    """The first improvement and the latest ones, each with what it cost."""
    told: list[tuple[str, ...]] = []
    places, sought = progress.improvements, progress.sought
    for nth, at in enumerate(places):
        before = places[nth - 1] if nth else None
        gain = "–" if before is None else number(abs(sought[at] - sought[before]))
        epochs, seconds = _between(progress, before, at)
        told.append(
            (
                str(progress.numbers[at]),
                number(sought[at]),
                gain,
                "–" if epochs is None else f"{epochs:,}",
                duration(seconds),
            )
        )
    return told if len(told) <= _MOST_ROWS else [told[0], *told[1 - _MOST_ROWS :]]


def caption(progress: Progress) -> str:
    """What improvements cost, and what the latest trials bought."""
    places = progress.improvements
    if not places:
        return "No trial has completed yet, so nothing has been bought."
    what = _sought(progress)
    n = len(places) - 1
    text = f"After the first completed trial, {what} improved {count(n, 'time')}" if n else f"{what} has not moved yet"
    text = text[0].upper() + text[1:]
    if n:
        took = _cost(places[-1] - places[-2], _between(progress, places[-2], places[-1]))
        text += f"; the last time, by trial {progress.numbers[places[-1]]}, took {took}"
    after = len(progress.numbers) - 1 - places[-1]
    if after:
        spent = _cost(after, _between(progress, places[-1], len(progress.numbers) - 1))
        text += f". Since then {count(after, 'completed trial')} ({spent}) brought nothing"
    hidden = len(places) - len(rows(progress))
    text += f". {_last(progress)}" if len(progress.numbers) > _LAST else "."
    return text + (f" Of {len(places):,} improvements, the first and the latest are listed." if hidden else "")


def _last(progress: Progress) -> str:
    """What the last few trials cost and bought."""
    first, last = len(progress.numbers) - 1 - _LAST, len(progress.numbers) - 1
    before, now = progress.sought[first], progress.sought[last]
    share = abs(now - before) / abs(before) if before else None
    bought = "nothing" if now == before else percent(share) if share is not None else number(abs(now - before))
    return (
        f"The last {_LAST} completed trials cost {_cost(_LAST, _between(progress, first, last))} and bought {bought}."
    )


def _sought(progress: Progress) -> str:
    return f"the best {progress.goals[0].metric}" if len(progress.goals) == 1 else "the hypervolume"


def _between(progress: Progress, before: int | None, at: int) -> tuple[int | None, float | None]:
    """Epochs and seconds from one place to another; from the begin where ``before`` is None."""
    epochs = progress.epochs[at] - (0 if before is None else progress.epochs[before]) if progress.epochs else None
    seconds = progress.seconds[at] - (0.0 if before is None else progress.seconds[before]) if progress.seconds else None
    return epochs, seconds


def _cost(trials: int, spent: tuple[int | None, float | None]) -> str:
    """``30 epochs and 12 s``; the trials themselves where neither is known."""
    epochs, seconds = spent
    told = [count(epochs, "epoch")] if epochs is not None else []
    told += [duration(seconds)] if seconds is not None else []
    return listed(told) or count(trials, "trial")
