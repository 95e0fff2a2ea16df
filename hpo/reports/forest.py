"""What the trials say about trials they do not hold: a random forest (Breiman 2001, doi:10.1023/A:1010933404324).

Goals enter as ranks: one diverged trial must not decide. Importance, contours and the estimate of luck ask
this one model, so that they agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.reports.facts import Facts
from hpo.reports.thinning import evenly
from hpo.trial import Goal, Params, TrialRecord

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

TOO_FEW = 8  # completed trials below which a forest says nothing
_MOST = 1500  # trials that a forest reads; above it an even selection
_FOLDS, _TREES, _SEED = 5, 50, 0


@dataclass(frozen=True)
class Encoding:
    """Parameters as columns: a number as itself (absent: below all), anything else one column per value."""

    names: tuple[str, ...]
    kinds: dict[str, tuple[str, ...] | None]  # None: a number
    absent: dict[str, float]

    @classmethod
    def of(cls, names: Sequence[str], trials: Sequence[TrialRecord]) -> Encoding:
        kinds: dict[str, tuple[str, ...] | None] = {}
        absent: dict[str, float] = {}
        for name in names:
            present = [trial.params[name] for trial in trials if trial.params.get(name) is not None]
            if present and all(is_number(value) for value in present):
                low, high = min(present), max(present)
                kinds[name], absent[name] = None, low - max(1.0, high - low)
            else:
                kinds[name] = tuple(sorted({repr(trial.params.get(name)) for trial in trials}))
        return cls(tuple(names), kinds, absent)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Which columns belong to a parameter."""
        widths = [1 if self.kinds[name] is None else len(self.kinds[name] or ()) for name in self.names]
        ends = np.cumsum(widths)
        return {n: slice(int(e) - w, int(e)) for n, e, w in zip(self.names, ends, widths, strict=True)}

    def columns(self, name: str, values: Sequence[Any]) -> np.ndarray:
        """(n_values, n_columns of the parameter)."""
        kinds = self.kinds[name]
        if kinds is None:
            return np.array([[self.absent[name] if value is None else float(value)] for value in values])
        return np.array([[float(repr(value) == kind) for kind in kinds] for value in values])

    def table(self, points: Sequence[Params]) -> np.ndarray:
        """(n_points, n_columns)."""
        return np.hstack([self.columns(name, [params.get(name) for params in points]) for name in self.names])


@dataclass(frozen=True)
class Evidence:
    """The trials that a forest learns from, encoded. ``names`` are the parameters that vary among them."""

    goals: tuple[Goal, ...]
    trials: tuple[TrialRecord, ...]
    encoding: Encoding
    x: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        return self.encoding.names

    @classmethod
    def of(cls, facts: Facts) -> Evidence | None:
        """None with fewer than ``TOO_FEW`` completed trials, or where no parameter varies."""
        trials = evenly(facts.placed, _MOST)
        varying = [n for n in facts.param_names if len({repr(t.params.get(n)) for t in trials}) > 1]
        if len(trials) < TOO_FEW or not varying:
            return None
        encoding = Encoding.of(varying, trials)
        return cls(facts.goals, tuple(trials), encoding, encoding.table([trial.params for trial in trials]))

    def values(self, goal: int) -> np.ndarray:
        """(n_trials,), in the goal's units."""
        return np.array([trial.values[goal] for trial in self.trials if trial.values is not None])

    def ranks(self, goal: int) -> np.ndarray:
        """(n_trials,): 0 for the smallest value; equal ones share a rank."""
        return np.unique(self.values(goal), return_inverse=True)[1].astype(float)

    def forest(self, goal: int) -> RandomForestRegressor:
        """The forest that has learnt one goal's ranks from all of them."""
        return _forest().fit(self.x, self.ranks(goal))

    def held_out(self, goal: int) -> Iterator[tuple[np.ndarray, RandomForestRegressor]]:
        """Five times: the rows left out, and the forest that has not seen them."""
        from sklearn.model_selection import KFold

        y = self.ranks(goal)
        for train, test in KFold(_FOLDS, shuffle=True, random_state=_SEED).split(self.x):
            yield test, _forest().fit(self.x[train], y[train])


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _forest() -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=_SEED)
