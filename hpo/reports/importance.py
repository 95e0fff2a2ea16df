"""Which parameters mattered: the forest of each goal, asked by shuffling one parameter at a time.

Method: permutation importance (Breiman 2001, doi:10.1023/A:1010933404324) on trials that
the forest has not seen (five folds), so that a parameter it merely learnt by heart counts
nothing. A conditional parameter is shuffled only among the trials that have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hpo.reports.facts import Facts
from hpo.reports.forest import Evidence
from hpo.trial import Goal

_SHUFFLES, _SEED = 5, 0

METHOD = (
    "Random forest on the ranks of each goal; importance is how much worse it predicts trials "
    "it has not seen (five folds) when one parameter is shuffled."
)


@dataclass(frozen=True)
class Importance:
    """How much each parameter matters for one goal.

    ``shares`` add up to 1 over the parameters (all 0 when nothing could be learnt), most
    important first; ``explained`` is the held-out R² of the forest, below 0 when it
    predicts worse than the mean. ``expected`` (n_trials,) is the rank that the forest
    expected of each trial it had not seen.
    """

    goal: Goal
    names: tuple[str, ...]
    shares: tuple[float, ...]
    explained: float
    n_trials: int
    expected: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    @property
    def is_telling(self) -> bool:
        return self.explained >= 0.1 and any(self.shares)


def importances(facts: Facts) -> list[Importance]:
    """One per goal that varies; empty with too few completed trials, or where no parameter varies."""
    evidence = Evidence.of(facts)
    if evidence is None:
        return []
    varying = [index for index in range(len(evidence.goals)) if np.ptp(evidence.values(index)) > 0]
    return [_importance(evidence, index) for index in varying]


def _importance(evidence: Evidence, goal: int) -> Importance:
    rng = np.random.default_rng(_SEED)
    x, y, slices = evidence.x, evidence.ranks(goal), evidence.encoding.slices
    present = {name: np.array([name in trial.params for trial in evidence.trials]) for name in evidence.names}
    expected, rise = np.empty(len(y)), dict.fromkeys(evidence.names, 0.0)
    for test, forest in evidence.held_out(goal):
        expected[test] = forest.predict(x[test])
        plain = float(np.sum((expected[test] - y[test]) ** 2))
        for name in evidence.names:
            copies = np.repeat(x[test][None], _SHUFFLES, axis=0)
            active = np.flatnonzero(present[name][test])
            for copy in copies:
                copy[active, slices[name]] = copy[rng.permutation(active), slices[name]]
            worse = (forest.predict(copies.reshape(-1, x.shape[1])).reshape(_SHUFFLES, -1) - y[test]) ** 2
            rise[name] += float(worse.sum(axis=1).mean()) - plain
    gains = {name: max(0.0, value) for name, value in rise.items()}
    total = math.fsum(gains.values())
    order = sorted(evidence.names, key=lambda name: -gains[name])
    shares = tuple(gains[name] / total if total else 0.0 for name in order)
    explained = 1.0 - float(np.sum((expected - y) ** 2)) / float(np.sum((y - y.mean()) ** 2))
    return Importance(evidence.goals[goal], tuple(order), shares, explained, len(y), expected)
