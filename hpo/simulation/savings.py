"""What a pruner would have saved over recorded trials, and what it would have lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.pareto import ParetoFront, reference_point
from hpo.simulation.replay import Replayed
from hpo.trial import Goal, TrialRecord, TrialState


@dataclass(frozen=True)
class Savings:
    """A replay held against the trials as they were recorded.

    ``pruned`` are the trials that are PRUNED now, those that were when they ran included.
    ``kept`` is the share of the hypervolume (with one goal: None); ``best`` the best value
    of a single goal before and after. ``lost`` are trials of the recorded front that did not
    complete. ``work_s`` is summed over all trials, ``wall_s`` the time until the last one ended.
    """

    trials: int
    epochs: int
    epochs_recorded: int
    pruned: tuple[TrialRecord, ...]
    front: tuple[int, ...]
    lost: tuple[int, ...]
    kept: float | None
    best: tuple[float | None, float | None]
    work_s: float
    wall_s: float

    @property
    def spent(self) -> float:
        """The share of the recorded epochs."""
        return self.epochs / self.epochs_recorded if self.epochs_recorded else 1.0


def savings(
    recorded: Sequence[TrialRecord],
    replayed: Replayed,
    goals: Sequence[Goal],
    *,
    seconds: Mapping[int, float],
    reference: Sequence[float] | None = None,
) -> Savings:
    """Hold a replay against what was recorded.

    Args:
        seconds: of one step, by trial number.
        reference: the hypervolume's reference point in goal units; by default a tenth of the range
            worse than the worst recorded values.
    """
    before, after = ParetoFront.of(recorded, goals), ParetoFront.of(replayed.trials, goals)
    complete = {trial.number for trial in replayed.trials if trial.state is TrialState.COMPLETE}
    return Savings(
        trials=len(recorded),
        epochs=epochs(replayed.trials),
        epochs_recorded=epochs(recorded),
        pruned=tuple(trial for trial in replayed.trials if trial.state is TrialState.PRUNED),
        front=before.numbers,
        lost=tuple(number for number in before.numbers if number not in complete),
        kept=_kept(recorded, before, after, reference) if len(goals) > 1 else None,
        best=(_best(before), _best(after)) if len(goals) == 1 else (None, None),
        work_s=sum(len(trial.points) * seconds[trial.number] for trial in replayed.trials),
        wall_s=replayed.wall_s,
    )


def epochs(trials: Sequence[TrialRecord]) -> int:
    return sum(len(trial.points) for trial in trials)


def _kept(
    recorded: Sequence[TrialRecord], before: ParetoFront, after: ParetoFront, reference: Sequence[float] | None
) -> float | None:
    """None where the recorded front covers nothing."""
    if reference is None:
        values = [trial.values for trial in recorded if trial.values is not None]
        if not values:
            return None
        reference = reference_point(np.array(values), before.goals)
    whole = before.hypervolume(reference)
    return after.hypervolume(reference) / whole if whole > 0 else None


def _best(front: ParetoFront) -> float | None:
    return float(front.values[0, 0]) if len(front) else None
