"""How far a study is, kept up to date as trials begin, report and end: counts, the best, speed, time left.

What a live view shows; knows nothing of terminals.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpo.reports.wording import number
from hpo.trial import Goal, TrialRecord, TrialState
from storage.records import SEARCH

if TYPE_CHECKING:
    from hpo.pareto import ParetoFront

_WINDOW = 200  # reports that the speed is measured over


@dataclass
class Running:
    """A trial under way; ``since`` is when its attempt began, by the tally's clock."""

    epochs: int
    metric: str
    since: float
    step: int = 0
    worker: str | None = None
    value: float | None = None
    warned: dict[str, int] = field(default_factory=dict)  # by its name, the last epoch that a warning came with


class Tally:
    """How far the present series of a study is.

    Args:
        total: how many trials the search is to have in the end; None when only time ends it.
        clock: seconds that only grow.
        reference: of the hypervolume, in goal units; by default that of the trials so far, as reports take it.
    """

    def __init__(
        self,
        goals: Sequence[Goal],
        total: int | None,
        clock: Callable[[], float],
        reference: Sequence[float] | None = None,
    ) -> None:
        self.goals = tuple(goals)
        self.total = total
        self.series = SEARCH
        self.running: dict[int, Running] = {}
        self.counts: Counter[TrialState] = Counter()
        self.warnings: Counter[str] = Counter()
        self.n_unseen = 0  # ended in earlier launches, without a record here
        self.best = ""  # the best value in words; with several goals the front
        self._clock = clock
        self._reference = reference
        self._front: list[TrialRecord] = []
        self._range: list[tuple[float, ...]] = []  # the least and the largest value of each goal
        self._ticks: deque[tuple[float, int]] = deque(maxlen=_WINDOW)  # when how many epochs were done
        self._epochs_of_ended: list[int] = []

    def turn_to(self, series: str) -> None:
        """Count from nothing: confirmation and retraining number their trials anew, and have no budget of trials."""
        self.series, self.total, self.n_unseen = series, None, 0
        self.counts.clear()
        self.warnings.clear()
        self._front, self._range, self.best = [], [], ""
        self._epochs_of_ended.clear()

    def advanced(self, trial: int, step: int) -> None:
        """A trial has come to a step."""
        running = self.running.get(trial)
        self._ticks.append((self._clock(), max(1, step - running.step) if running else 1))
        if running is not None:
            running.step = step

    def warned(self, trial: int, name: str, step: int) -> None:
        self.warnings[name] += 1
        if trial in self.running:
            warned = self.running[trial].warned
            warned.pop(name, None)  # so that the newest stands last
            warned[name] = step

    def ended(self, records: Iterable[TrialRecord]) -> None:
        """Trials have ended; those that only wait to go on are passed over."""
        records = [record for record in records if record.state.is_finished]
        self.counts.update(record.state for record in records)
        self._epochs_of_ended += [record.last_step for record in records]
        done = [r for r in records if r.state is TrialState.COMPLETE and r.values and all(map(math.isfinite, r.values))]
        if done:
            known = [*self._front, *done]
            front = _front(known, self.goals)
            by_number = {trial.number: trial for trial in known}
            self._front = [by_number[n] for n in front.numbers]
            by_goal = list(zip(*self._range, *(r.values for r in done if r.values and r.is_feasible), strict=True))
            self._range = [tuple(map(min, by_goal)), tuple(map(max, by_goal))] if by_goal else []
            self.best = self._said(front)

    def _said(self, front: ParetoFront) -> str:
        if not len(front) or self.series != SEARCH:  # the same trials with other seeds compete with nobody
            return ""
        where = " of this launch" if self.n_unseen else ""
        if len(self.goals) == 1:
            best = front.pick(self.goals[0].metric)
            value = float(front.values[front.numbers.index(best)][0])
            return f"best {self.goals[0].metric}{where} {number(value)} (trial {best})"
        reference = self._reference or _reference(self._range, self.goals)
        return f"front{where} {len(front)}, hypervolume {number(front.hypervolume(reference))}"

    @property
    def n_ended(self) -> int:
        return self.n_unseen + sum(self.counts.values())

    @property
    def n_queued(self) -> int | None:
        """How many are still to begin; None without a budget of trials."""
        return None if self.total is None else max(0, self.total - self.n_ended - len(self.running))

    def epochs_per_s(self) -> float | None:
        """Over the last reports, up to now: a stall shows."""
        if len(self._ticks) < 2:
            return None
        span = self._clock() - self._ticks[0][0]
        return sum(epochs for _, epochs in list(self._ticks)[1:]) / span if span > 0 else None

    def left_s(self) -> float | None:
        """Seconds to the end, if the trials to come are as long as those that ended, pruned ones included."""
        speed = self.epochs_per_s()
        if self.total is None or not speed or not self._epochs_of_ended:
            return None
        each = sum(self._epochs_of_ended) / len(self._epochs_of_ended)
        begun = sum(max(0.0, each - running.step) for running in self.running.values())
        return (begun + each * (self.n_queued or 0)) / speed


def _reference(values: Sequence[Sequence[float]], goals: Sequence[Goal]) -> tuple[float, ...]:
    import numpy as np

    from hpo.pareto import reference_point

    return reference_point(np.array(values), goals)


def _front(trials: Sequence[TrialRecord], goals: Sequence[Goal]) -> ParetoFront:
    # moocore takes 0.1 s to import, which `hpo --help` must not pay.
    from hpo.pareto import ParetoFront

    return ParetoFront.of(trials, goals)
