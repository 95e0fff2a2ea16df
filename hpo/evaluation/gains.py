"""How much better a model is than a simple method, metric by metric. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo.evaluation.gates import Gate, bare
from hpo.trial import Direction, Goal, Metrics


@dataclass(frozen=True)
class Gain:
    """One metric of a model beside a baseline's.

    ``gain`` is the difference turned so that above 0 is better, in the metric's unit.
    ``ratio`` is the model's value over the baseline's, None unless both are above 0.
    """

    metric: str
    direction: Direction
    value: float
    baseline: str
    reference: float

    @property
    def gain(self) -> float:
        difference = self.value - self.reference
        return difference if self.direction is Direction.MAXIMIZE else -difference

    @property
    def ratio(self) -> float | None:
        is_sensible = self.value > 0 and self.reference > 0
        return self.value / self.reference if is_sensible and math.isfinite(self.value / self.reference) else None

    @property
    def words(self) -> str:
        """``0.04 better, ×1.05``; worse is said as worse."""
        if not math.isfinite(self.gain):
            return "not comparable"
        if self.gain == 0:
            return "the same"
        ratio = "" if self.ratio is None else f", ×{self.ratio:.3g}"
        return f"{abs(self.gain):.3g} {'better' if self.gain > 0 else 'worse'}{ratio}"


def main_metrics(goals: Iterable[Goal], monitor: Goal, gates: Iterable[Gate] = ()) -> list[Goal]:
    """What a study cares about, by bare name: its goals, its monitored metric, what its gates look at."""
    told = [*goals, monitor]
    for gate in gates:
        if gate.over in ("test", "groups", "folds"):
            told.append(Goal(gate.metric, Direction.MINIMIZE if gate.at_least is None else Direction.MAXIMIZE))
    found: dict[str, Goal] = {}
    for goal in told:
        found.setdefault(bare(goal.metric), Goal(bare(goal.metric), goal.direction))
    return list(found.values())


def gains(
    metrics: Metrics, baselines: Mapping[str, Metrics], main: Sequence[Goal], prefix: str
) -> dict[str, list[Gain]]:
    """metric → one gain per baseline, of the ``main`` metrics that both have.

    Args:
        prefix: ``val_`` or ``test_``, the part of the data both were measured on.
    """
    found: dict[str, list[Gain]] = {}
    for goal in main:
        # What belongs to no part of the data (a function's value) has no prefix.
        name = f"{prefix}{goal.metric}" if f"{prefix}{goal.metric}" in metrics else goal.metric
        for baseline, reference in baselines.items():
            if name in metrics and name in reference:
                found.setdefault(goal.metric, []).append(
                    Gain(goal.metric, goal.direction, metrics[name], baseline, reference[name])
                )
    return found
