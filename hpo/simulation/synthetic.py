"""Trials made up for a study that has not run yet: how far a pruner lets them come.

No goal of a real study looks like this; what is asked of these curves is only how often a
pruner would stop a trial, and where.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from hpo.trial import Direction, Goal, Metrics, Point, StopKind, StopReason, TrialRecord, TrialState, best_point

SHAPE = "end + height * step^-pace + noise; end N(0, 1), height 1 to 3, pace 0.5 to 1.5, noise N(0, 0.05)"


def synthetic_trials(
    count: int,
    epochs: int,
    goals: Sequence[Goal],
    *,
    monitor: Goal,
    others: Sequence[Goal] = (),
    once: Collection[str] = (),
    seed: int = 0,
) -> list[TrialRecord]:
    """``count`` completed trials of ``epochs`` steps; each metric independent of the others.

    A metric of every epoch is a power law, as learning curves often are (Domhan, Springenberg
    & Hutter 2015, IJCAI, table 1): see ``SHAPE``, upside down where higher is better. One that is
    measured ``once`` is N(0, 1) from the first step on. The best step by ``monitor`` gives a trial
    its values. ``others`` are told as well.
    """
    random = np.random.default_rng(seed)
    told = {goal.metric: goal for goal in (*goals, monitor, *others)}
    curves = {name: _curves(random, count, epochs, goal, name in once) for name, goal in told.items()}
    return [
        _trial(number, {metric: values[number] for metric, values in curves.items()}, goals, monitor)
        for number in range(count)
    ]


def _curves(random: np.random.Generator, count: int, epochs: int, goal: Goal, once: bool) -> np.ndarray:
    """(count, epochs) of one metric."""
    ends = random.normal(size=(count, 1))
    if once:
        return np.broadcast_to(ends, (count, epochs))
    heights = random.uniform(1.0, 3.0, (count, 1))
    paces = random.uniform(0.5, 1.5, (count, 1))
    noise = random.normal(0.0, 0.05, (count, epochs))
    curves = ends + heights * np.arange(1, epochs + 1) ** -paces + noise
    return np.asarray(curves if goal.direction is Direction.MINIMIZE else -curves)


def _trial(number: int, curves: dict[str, np.ndarray], goals: Sequence[Goal], monitor: Goal) -> TrialRecord:
    steps = range(len(curves[monitor.metric]))
    points = tuple(Point(i + 1, {metric: float(curve[i]) for metric, curve in curves.items()}) for i in steps)
    best = best_point(points, monitor)
    metrics: Metrics = best.metrics if best else {}
    return TrialRecord(
        number, TrialState.COMPLETE, {}, seed=0, values=tuple(metrics[goal.metric] for goal in goals), metrics=metrics,
        best_step=best.step if best else None, last_step=len(points), points=points, epochs=len(points),
        reason=StopReason(StopKind.FINISHED, f"ran all {len(points)} epochs"),
    )  # fmt: skip
