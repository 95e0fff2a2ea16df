"""The best trials of a study, in an order that needs no weights."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from hpo.pareto import ParetoFront, signs
from hpo.trial import Goal, TrialRecord, TrialState


def completed(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The completed, feasible trials, in number order."""
    found = [r for r in records if r.state is TrialState.COMPLETE and r.values is not None and r.is_feasible]
    return sorted(found, key=lambda record: record.number)


def best_trials(records: Sequence[TrialRecord], goals: Sequence[Goal], count: int) -> list[TrialRecord]:
    """The ``count`` best completed, feasible trials, the best first; fewer where there are no more.

    Ordered by non-domination rank (0 is the front; rank 1 the front without rank 0, and so
    on), within a rank by the distance to its ideal point (``ParetoFront.ranked``), then by
    number. With one goal that is the order of the values.
    """
    done = completed(records)
    if not done:
        return []
    ranks = moocore.pareto_rank(np.array([record.values for record in done], dtype=float) * signs(goals))
    if len(goals) == 1:
        return [done[i] for i in np.argsort(ranks, kind="stable")[:count]]
    best: list[TrialRecord] = []
    for rank in range(ranks.max() + 1):
        if len(best) >= count:
            break
        front = {record.number: record for record, its in zip(done, ranks, strict=True) if its == rank}
        best += [front[number] for number in ParetoFront.of(list(front.values()), goals).ranked("knee")]
    return best[:count]
