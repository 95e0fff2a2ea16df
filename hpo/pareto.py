"""The Pareto front of a study: who dominates whom, how much is covered, which to pick.

Goals may point either way; inside, every value is turned so that lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from hpo.errors import UnknownName, UserError
from hpo.trial import Direction, Goal, TrialRecord, TrialState


@dataclass(frozen=True)
class ParetoFront:
    """The non-dominated finished trials of a study.

    ``numbers`` are trial numbers, ascending; ``values`` is (n_trials, n_goals) in the
    goals' own units and order.
    """

    goals: tuple[Goal, ...]
    numbers: tuple[int, ...]
    values: np.ndarray

    @classmethod
    def of(cls, trials: Sequence[TrialRecord], goals: Sequence[Goal]) -> ParetoFront:
        """The front of the COMPLETE and feasible trials among ``trials``; trials of equal value all stay.

        A trial run elsewhere may have an infinite value; it stands on no front.
        """
        done = sorted(
            (t for t in trials if t.state is TrialState.COMPLETE and t.is_feasible and _is_finite(t.values)),
            key=lambda t: t.number,
        )
        goals = tuple(goals)
        if not done:
            return cls(goals, (), np.empty((0, len(goals))))
        values = np.array([t.values for t in done], dtype=float)
        keep = nondominated(values, goals)
        return cls(goals, tuple(t.number for t, kept in zip(done, keep, strict=True) if kept), values[keep])

    def __len__(self) -> int:
        return len(self.numbers)

    def hypervolume(self, reference: Sequence[float]) -> float:
        """The volume between the front and ``reference`` (goal units); 0 where it is worse.

        Computed by moocore (Fonseca, Paquete & López-Ibáñez 2006, doi:10.1109/CEC.2006.1688440).
        """
        if not self.numbers:
            return 0.0
        turn = signs(self.goals)
        return float(moocore.hypervolume(self.values * turn, ref=np.asarray(reference, dtype=float) * turn))

    def knee(self) -> int:
        """The trial nearest to the ideal point after min-max scaling over the front.

        Ties go to the lowest number. A goal on which all agree does not count.
        """
        return self.pick("knee")

    def pick(self, policy: str | Mapping[str, float]) -> int:
        """The trial that ``policy`` chooses: ``knee``, a goal's metric, or weights per goal.

        A metric takes the trial best at it (of equal ones the nearest to the ideal point);
        weights scale the distance to the ideal point goal by goal, one left out counts 0.

        Raises:
            UserError: the front is empty, or no weight is above 0.
            UnknownName: the policy, or a weighted metric, is no goal of this study.
        """
        if not self.numbers:
            raise UserError("There is no completed trial to pick from yet.")
        return self.ranked(policy)[0]

    def ranked(self, policy: str | Mapping[str, float]) -> list[int]:
        """All trials of the front from the one that ``pick`` would choose downwards.

        Raises:
            UserError, UnknownName: as ``pick``.
        """
        metrics = [goal.metric for goal in self.goals]
        if isinstance(policy, str) and policy != "knee":
            if policy not in metrics:
                raise UnknownName("pick policy", policy, ["knee", *metrics])
            column = metrics.index(policy)
            first = self.values[:, column] * signs(self.goals)[column]
            second = self._distances(np.ones(len(metrics)))
        else:
            first = self._distances(self._weights(policy))
            second = np.zeros(len(self))
        # Rounding must not decide a tie: past twelve digits the lowest number wins.
        order = np.lexsort((np.array(self.numbers), _rounded(second), _rounded(first)))
        return [self.numbers[i] for i in order]

    def _distances(self, weights: np.ndarray) -> np.ndarray:
        if not self.numbers:
            return np.empty(0)
        turned = self.values * signs(self.goals)
        low, span = turned.min(axis=0), np.ptp(turned, axis=0)
        scaled = np.divide(turned - low, span, out=np.zeros_like(turned), where=span > 0)
        return np.linalg.norm(scaled * weights, axis=1)

    def _weights(self, policy: str | Mapping[str, float]) -> np.ndarray:
        metrics = [goal.metric for goal in self.goals]
        if isinstance(policy, str):
            return np.ones(len(metrics))
        for name, weight in policy.items():
            if name not in metrics:
                raise UnknownName("goal", name, metrics)
            if not weight >= 0:
                raise UserError(f"A weight must be 0 or more; got {name}={weight}.")
        weights = np.array([float(policy.get(metric, 0.0)) for metric in metrics])
        if not weights.any():
            raise UserError("At least one weight must be above 0.")
        return weights


def nondominated(values: np.ndarray, goals: Sequence[Goal]) -> np.ndarray:
    """(n,): whether no other row of ``values`` (n, n_goals) is better; rows of equal value all stay."""
    return np.asarray(moocore.is_nondominated(values * signs(goals), keep_weakly=True))


def volumes(values: np.ndarray, goals: Sequence[Goal], reference: Sequence[float], most: int = 500) -> list[float]:
    """The hypervolume after each row of ``values`` (n, n_goals).

    Only a row that nobody before it dominates can enlarge it. Where there are more than ``most`` of those,
    the volume is computed after so many of them, spread evenly, and holds in between.
    """
    turned, ref = values * signs(goals), np.asarray(reference, dtype=float) * signs(goals)
    entered, front = [], np.empty((0, len(goals)))
    for row, vector in enumerate(turned):
        if not np.any(np.all(front <= vector, axis=1)):
            entered.append(row)
            front = np.vstack([front[~np.all(vector <= front, axis=1)], vector])
    found, known = 0.0, {}
    for last in np.unique(np.linspace(0, len(entered) - 1, min(most, len(entered))).astype(int)):
        known[entered[last]] = float(moocore.hypervolume(turned[entered[: last + 1]], ref=ref))
    return [found := known.get(row, found) for row in range(len(values))]


def signs(goals: Sequence[Goal]) -> np.ndarray:
    """(n_goals,): 1 where lower is better, -1 where higher is."""
    return np.array([1.0 if goal.direction is Direction.MINIMIZE else -1.0 for goal in goals])


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:.12g}") for value in values])


def reference_point(values: np.ndarray, goals: Sequence[Goal]) -> tuple[float, ...]:
    """A reference a tenth of the range worse than the worst of ``values`` (n, n_goals).

    Where all values of a goal agree, a tenth of their size (or 1) is used instead.
    """
    turned = np.asarray(values, dtype=float) * signs(goals)
    worst, span = turned.max(axis=0), np.ptp(turned, axis=0)
    margin = np.where(span > 0, span, np.where(worst != 0, np.abs(worst), 1.0)) * 0.1
    return tuple(float(v) for v in (worst + margin) * signs(goals))


def _is_finite(values: Sequence[float] | None) -> bool:
    return values is not None and bool(np.isfinite(values).all())
