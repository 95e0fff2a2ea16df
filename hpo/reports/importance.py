"""Which parameters mattered: a random forest per goal, asked by shuffling one parameter at a time.

Method: permutation importance (Breiman 2001, doi:10.1023/A:1010933404324) on trials that
the forest has not seen (five folds), so that a parameter it merely learnt by heart counts
nothing. Goals enter as ranks: one diverged trial must not decide. A conditional parameter
is shuffled only among the trials that have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo.reports.facts import Facts
from hpo.trial import Goal, TrialRecord

TOO_FEW = 8  # completed trials below which a forest says nothing
_MOST = 1500  # trials that the forest reads; above it an even selection
_FOLDS, _TREES, _SHUFFLES, _SEED = 5, 50, 5, 0

METHOD = (
    "Random forest on the ranks of each goal; importance is how much worse it predicts trials "
    "it has not seen (five folds) when one parameter is shuffled."
)


@dataclass(frozen=True)
class Importance:
    """How much each parameter matters for one goal.

    ``shares`` add up to 1 over the parameters (all 0 when nothing could be learnt), most
    important first; ``explained`` is the held-out R² of the forest, below 0 when it
    predicts worse than the mean.
    """

    goal: Goal
    names: tuple[str, ...]
    shares: tuple[float, ...]
    explained: float
    n_trials: int

    @property
    def is_telling(self) -> bool:
        return self.explained >= 0.1 and any(self.shares)


def importances(facts: Facts) -> list[Importance]:
    """One per goal that varies; empty with fewer than ``TOO_FEW`` completed trials or no varying parameter."""
    trials = facts.placed
    if len(trials) > _MOST:
        trials = [trials[i] for i in np.linspace(0, len(trials) - 1, _MOST).astype(int)]
    varying = [n for n in facts.param_names if len({repr(t.params.get(n)) for t in trials}) > 1]
    if len(trials) < TOO_FEW or not varying:
        return []
    columns = {name: _encode([trial.params.get(name) for trial in trials]) for name in varying}
    found = []
    for index, goal in enumerate(facts.goals):
        values = np.array([trial.values[index] for trial in trials if trial.values is not None])
        if np.ptp(values) > 0:
            found.append(_importance(goal, columns, _present(trials, varying), values))
    return found


def _encode(values: Sequence[Any]) -> np.ndarray:
    """(n_trials, n_columns): a number as itself (absent: below all), anything else one column per value."""
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present):
        low, high = min(present), max(present)
        absent = low - max(1.0, high - low)
        return np.array([[absent if value is None else float(value)] for value in values])
    kinds = sorted({repr(value) for value in values})
    return np.array([[float(repr(value) == kind) for kind in kinds] for value in values])


def _present(trials: Sequence[TrialRecord], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.array([name in trial.params for trial in trials]) for name in names}


def _importance(
    goal: Goal, columns: dict[str, np.ndarray], present: dict[str, np.ndarray], values: np.ndarray
) -> Importance:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(_SEED)
    x = np.hstack(list(columns.values()))
    ends = np.cumsum([column.shape[1] for column in columns.values()])
    slices = {n: slice(int(e) - c.shape[1], int(e)) for (n, c), e in zip(columns.items(), ends, strict=True)}
    y = np.unique(values, return_inverse=True)[1].astype(float)
    error, rise = 0.0, dict.fromkeys(columns, 0.0)
    for train, test in KFold(_FOLDS, shuffle=True, random_state=_SEED).split(x):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=_SEED).fit(x[train], y[train])
        plain = float(np.sum((forest.predict(x[test]) - y[test]) ** 2))
        error += plain
        for name in columns:
            copies = np.repeat(x[test][None], _SHUFFLES, axis=0)
            active = np.flatnonzero(present[name][test])
            for copy in copies:
                copy[active, slices[name]] = copy[rng.permutation(active), slices[name]]
            worse = (forest.predict(copies.reshape(-1, x.shape[1])).reshape(_SHUFFLES, -1) - y[test]) ** 2
            rise[name] += float(worse.sum(axis=1).mean()) - plain
    gains = {name: max(0.0, value) for name, value in rise.items()}
    total = math.fsum(gains.values())
    order = sorted(columns, key=lambda name: -gains[name])
    shares = tuple(gains[name] / total if total else 0.0 for name in order)
    explained = 1.0 - error / float(np.sum((y - y.mean()) ** 2))
    return Importance(goal, tuple(order), shares, explained, len(values))
