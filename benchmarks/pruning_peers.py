"""Two peers' multi-goal pruning behind the three verbs of ``hpo.simulation.replay.JudgingRole``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import moocore
import numpy as np

from hpo.pareto import signs
from hpo.trial import Goal, Point, StopKind, StopReason, TrialRecord, TrialState

SERVER = Path(__file__).with_name("moasha_server.py")
STARTUP_TRIALS = 5  # of optuna.pruners.MedianPruner()


class MultiMetricMedian:
    """OptunaHub's ``pruners/multi_metric_pruner`` (S. Watanabe, 2026) over ``MedianPruner()``, its joint mode.

    After the published source (optunahub-registry, ``package/pruners/multi_metric_pruner``, at commit
    cade518), written anew: at every step that the trial has reported, all trials that reported there are
    ranked by non-domination. On the front the trial's score is its rank less 1; else it and the
    others of its rank get a bonus of -0.5 (the largest) to -0.1 by greedy hypervolume contribution. Then
    the median rule: the trial's best score so far against the median of what ended trials, pruned ones
    included, score at the same step.
    """

    def __init__(self, goals: Sequence[Goal]) -> None:
        self._goals = goals
        self._told: dict[int, dict[int, np.ndarray]] = {}  # number -> step -> goals, lower is better
        self._ended: set[int] = set()
        self._scores: dict[tuple[int, int], tuple[int, dict[int, float]]] = {}

    def begin(self, number: int) -> None:
        self._told[number] = {}

    def report(self, number: int, point: Point) -> StopReason | None:
        values = np.array([point.metrics[goal.metric] for goal in self._goals])
        self._told[number][point.step] = values * signs(self._goals)
        best = min(self._at(number, step)[number] for step in self._told[number])
        now = self._at(number, point.step)
        against = [score for other, score in now.items() if other in self._ended]
        if len(self._ended) < STARTUP_TRIALS or not against or best <= np.median(against):
            return None
        return StopReason(StopKind.PRUNED, f"its score at step {point.step} is worse than the median")

    def finished(self, record: TrialRecord) -> None:
        self._ended.add(record.number)

    def _at(self, number: int, step: int) -> dict[int, float]:
        """Every trial's score at a step, seen from one of them."""
        others = [other for other, told in self._told.items() if step in told and other != number]
        count, found = self._scores.get((number, step), (-1, {}))
        if count != len(others):
            found = self._score([*others, number], step)
            self._scores[number, step] = len(others), found
        return found

    def _score(self, numbers: Sequence[int], step: int) -> dict[int, float]:
        """The last of ``numbers`` is the one who is judged."""
        if len(numbers) < 2:
            return {numbers[0]: 0.0}
        values = np.array([self._told[number][step] for number in numbers])
        ranks = moocore.pareto_rank(values)
        scores = ranks.astype(float)
        if ranks[-1] == 0:
            scores[-1] = -1.0
        else:
            peers = np.flatnonzero(ranks == ranks[-1])
            if len(peers) > 1:
                scores[peers[_by_contribution(values[peers])]] -= np.linspace(0.5, 0.1, len(peers))
        return dict(zip(numbers, scores.tolist(), strict=True))


def _by_contribution(values: np.ndarray) -> np.ndarray:
    """The order (n,) of vectors (n, n_goals) by greedy hypervolume contribution, the largest first."""
    from optuna._hypervolume.hssp import _solve_hssp_on_unique_loss_vals

    worst = values.max(axis=0)
    reference = np.maximum(1.1 * worst, 0.9 * worst)
    unique, where = np.unique(values, axis=0, return_inverse=True)
    indices = np.arange(len(unique))
    if len(unique) > 1:
        greedy = _solve_hssp_on_unique_loss_vals(unique, indices, len(unique) - 1, reference)
        indices = np.concatenate([greedy, np.setdiff1d(indices, greedy)])
    return np.concatenate([np.flatnonzero(where.ravel() == i) for i in indices])


class Moasha:
    """Syne Tune's own ``MOASHA`` scheduler, in a process of the Python it is installed for.

    One bracket, ``grace_period`` 1 and ``reduction_factor`` 3, as it comes. ``mended`` gives it the ranks of
    the vectors where version 0.16 takes their order for ranks (see ``moasha_server.Ranks``).
    """

    def __init__(self, goals: Sequence[Goal], epochs: int, python: str, *, mended: bool = False) -> None:
        self._goals = goals
        self._epochs = epochs
        self._process = subprocess.Popen(
            [python, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._tell(goals=[goal.metric for goal in goals], epochs=epochs, mended=mended)

    def begin(self, number: int) -> None:
        self._tell(begin=number)

    def report(self, number: int, point: Point) -> StopReason | None:
        if point.step >= self._epochs:  # it ends here by itself
            return None
        values = np.array([point.metrics[goal.metric] for goal in self._goals]) * signs(self._goals)
        metrics = {goal.metric: float(value) for goal, value in zip(self._goals, values, strict=True)}
        stops = self._tell(report=number, step=point.step, metrics=metrics)
        return StopReason(StopKind.PRUNED, f"MOASHA stops it at step {point.step}") if stops else None

    def finished(self, record: TrialRecord) -> None:
        if record.state is TrialState.COMPLETE:
            values = np.array(record.values) * signs(self._goals)
            metrics = {goal.metric: float(value) for goal, value in zip(self._goals, values, strict=True)}
            self._tell(complete=record.number, step=record.last_step, metrics=metrics)

    def __del__(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def _tell(self, **message: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(message), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())
