"""How much of a promise is luck: the best of many, each measured once on one validation set, flatters itself.

Fresh seeds measure it. Without them it can be bounded, by choosing again among made-up repetitions of the study
(after Tibshirani & Tibshirani 2009, doi:10.1214/08-AOAS224, who correct the minimum over cross-validations so):

- what a trial is *expected* to be worth is what the forest says of it without having seen it;
- how far trials *scatter* by chance is what retrained seeds of one trial showed; where there are none, how far
  values lie from what is expected, among the half that is expected to be better (by what is expected and not by
  what came out, so that luck does not choose the sample);
- a repetition draws every trial anew about what is expected of it, and the same policy picks.

The luck is by how much the picked value is better than what was expected of that trial, on average. Without seeds
the scatter holds what the forest cannot explain besides chance, so this is an upper bound: close where chance rules,
too high where parameters decide almost everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.pareto import ParetoFront, nondominated, signs
from hpo.reports.facts import Facts, newest_runs
from hpo.reports.forest import Evidence
from hpo.reports.importance import Importance
from hpo.trial import Goal, TrialRecord, goal_values
from storage.records import RETRAIN

_REPETITIONS, _SEED = 300, 0


@dataclass(frozen=True)
class Luck:
    """At most how much better the recommended trial's value of one goal looks than it is.

    ``bound`` is in the goal's units, 0 or more; ``scatter`` the standard deviation of a trial's value by chance,
    ``is_seeds`` if seeds showed it, else about what is expected of its parameters.
    """

    goal: Goal
    value: float
    bound: float
    scatter: float
    n_trials: int
    is_seeds: bool = False

    @property
    def honest(self) -> float:
        """The value without that much luck."""
        return self.value + self.bound * float(signs([self.goal])[0])


def expected_luck(facts: Facts, evidence: Evidence | None, found: Sequence[Importance]) -> list[Luck]:
    """One per goal, for the policy that picks the recommended trial; empty where no forest could be asked."""
    best = facts.recommended
    if evidence is None or best is None or best.values is None or not found:
        return []
    by_goal = {importance.goal: importance for importance in found}
    seeds = [_seeds_scatter(facts, index) for index in range(len(facts.goals))]
    expected, scatter = [], []
    for index, goal in enumerate(facts.goals):
        values = evidence.values(index)
        level = np.unique(values)
        ranks = by_goal[goal].expected if goal in by_goal else evidence.ranks(index)
        expected.append(np.interp(ranks, np.arange(len(level)), level))
        by_seeds = seeds[index]
        scatter.append(_scatter(values, expected[-1], float(signs([goal])[0])) if by_seeds is None else by_seeds)
    bounds = _bounds(facts, np.array(expected).T, np.array(scatter))
    return [
        Luck(
            goal,
            best.values[index],
            float(bounds[index]),
            scatter[index],
            len(evidence.trials),
            seeds[index] is not None,
        )
        for index, goal in enumerate(facts.goals)
    ]


def _seeds_scatter(facts: Facts, goal: int) -> float | None:
    """The standard deviation over retrained seeds, pooled over the trials retrained; None without any."""
    groups: dict[int | None, list[TrialRecord]] = {}
    for run in facts.snapshot.others.get(RETRAIN, ()):
        groups.setdefault(run.subject, []).append(run)
    several = []
    for runs in groups.values():
        vectors = [run.values or goal_values(facts.goals, run.metrics) for run in newest_runs(runs)]
        values = np.array([vector[goal] for vector in vectors if vector is not None])
        several += [values] if len(values) > 1 else []
    if not several:
        return None
    squares = sum(float(np.sum((values - values.mean()) ** 2)) for values in several)
    return float(np.sqrt(squares / sum(len(values) - 1 for values in several)))


def _scatter(values: np.ndarray, expected: np.ndarray, sign: float) -> float:
    better = expected * sign <= np.median(expected * sign)
    return float(np.sqrt(np.mean((values - expected)[better] ** 2)))


def _bounds(facts: Facts, expected: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """(n_goals,): the mean of how much better the pick is than was expected of it; 0 where it is not."""
    rng = np.random.default_rng(_SEED)
    turn = signs(facts.goals)
    gaps = []
    for _ in range(_REPETITIONS):
        drawn = expected + scatter * rng.standard_normal(expected.shape)
        rows = np.flatnonzero(nondominated(drawn, facts.goals))
        pick = ParetoFront(facts.goals, tuple(map(int, rows)), drawn[rows]).pick(facts.policy)
        gaps.append((expected[pick] - drawn[pick]) * turn)
    return np.maximum(0.0, np.mean(gaps, axis=0))
