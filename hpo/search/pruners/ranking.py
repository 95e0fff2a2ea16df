"""Rules that rank whole vectors: who is better, when there are several goals."""

# No "from __future__ import annotations": the options' types are read off the signatures.
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import moocore
import numpy as np
from pydantic import Field

from hpo.pareto import reference_point, signs
from hpo.search.options import Count, Natural
from hpo.search.pruners.judge import Aims, Curve, Judge, Verdict, completed, named
from hpo.trial import Goal

Against = Literal["completed", "reached"]
Vector = tuple[float, ...]
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Place:
    """Where a vector stands among others.

    ``better`` are the others that come before it, the best first; ``worse`` the rest.
    ``rank`` is its non-domination rank, 1 for the front.
    """

    rank: int
    better: tuple[int, ...]
    worse: tuple[int, ...]

    @property
    def place(self) -> int:
        return len(self.better) + 1

    @property
    def of(self) -> int:
        return len(self.better) + len(self.worse) + 1


def place(vector: Vector, others: Sequence[Vector], goals: Sequence[Goal]) -> Place:
    """Order by non-domination rank, then by hypervolume contribution within a rank.

    The order of SMS-EMOA (Beume, Naujoks & Emmerich 2007, doi:10.1016/j.ejor.2006.08.008),
    with the reference point a tenth of the range worse than the worst. It does not depend on
    the goals' units. ``better`` and ``worse`` index ``others`` (n, n_goals); equals count as
    no better.
    """
    values = np.array([vector, *others], dtype=float)
    turned = values * signs(goals)
    ranks = moocore.pareto_rank(turned)
    own = int(ranks[0])
    gains = np.zeros(len(values))
    if len(goals) > 1:
        peers = np.flatnonzero(ranks == own)
        gains[peers] = _gains(turned[peers], np.array(reference_point(values, goals)) * signs(goals))
    order = sorted(range(1, len(values)), key=lambda i: (ranks[i], -gains[i], i))
    better = tuple(i - 1 for i in order if (ranks[i], -gains[i]) < (own, -gains[0]))
    return Place(own + 1, better, tuple(i - 1 for i in order[len(better) :]))


def _gains(peers: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The hypervolume that each of some vectors adds alone, lower is better. Equal vectors get what one would."""
    unique, where = np.unique(peers, axis=0, return_inverse=True)
    return np.asarray(moocore.hv_contributions(unique, ref=reference))[where.ravel()]


def is_dominated(vector: Vector, others: Sequence[Vector], goals: Sequence[Goal]) -> bool:
    """Whether one of ``others`` (n, n_goals) is no worse at any goal and better at one."""
    values = np.array([vector, *others], dtype=float) * signs(goals)
    return not moocore.is_nondominated(values, keep_weakly=True)[0]


def dominators(vector: Vector, others: Sequence[Vector], goals: Sequence[Goal]) -> list[int]:
    """The indices of those of ``others`` (n, n_goals) that dominate a vector, the best placed first."""
    if not is_dominated(vector, others, goals):
        return []
    return [i for i in place(vector, others, goals).better if is_dominated(vector, [others[i]], goals)]


def finite(found: Mapping[int, Vector | None]) -> dict[int, Vector]:
    """By trial, the vectors that can be ranked."""
    return {
        number: vector for number, vector in found.items() if vector is not None and all(map(math.isfinite, vector))
    }


def not_finite(goals: Sequence[Goal], vector: Vector, step: int) -> Verdict | None:
    """A vector with NaN or infinity in it is worse than any other."""
    wrong = [goal.metric for goal, value in zip(goals, vector, strict=True) if not math.isfinite(value)]
    return Verdict(f"{', '.join(wrong)} at step {step} is not finite", named(goals, vector)) if wrong else None


def placed(
    goals: Sequence[Goal], vector: Vector, others: Mapping[int, Vector], found: Place, why: str, **facts: object
) -> Verdict:
    """The verdict on a vector that is not placed well enough among ``others``."""
    numbers, values = list(others), list(others.values())
    return Verdict(
        why,
        named(goals, vector),
        {numbers[i]: named(goals, values[i]) for i in (*found.better, *found.worse)},
        [numbers[i] for i in dominators(vector, values, goals)],
        {"rank": found.rank, "place": found.place, "of": found.of, **facts},
    )


def told(goals: Sequence[Goal], vector: Vector) -> str:
    """A vector in words."""
    return ", ".join(f"{goal.metric} {value:.6g}" for goal, value in zip(goals, vector, strict=True))


def pareto_median(
    aims: Aims,
    *,
    keep: Share = 0.5,
    against: Against = "completed",
    startup_trials: Natural = 10,
    warmup_steps: Natural = 0,
    interval: Count = 1,
) -> Judge:
    """Dominated, and not in the better half (or share ``keep``) at the same step, by non-domination rank.

    A trial is ranked by the best of each goal so far. One that none of the others dominates at its
    step goes on, however many there are of its kind.
    """
    goals = aims.goals
    part = "better half" if keep == 0.5 else f"best {100 * keep:g} %"

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        step = trial.last_step
        vector = trial.so_far(step, goals)
        if vector is None or step <= warmup_steps or (step - warmup_steps - 1) % interval:
            return None
        if len(completed(others)) < startup_trials:
            return None
        if (wrong := not_finite(goals, vector, step)) is not None:
            return wrong
        measures = completed(others) if against == "completed" else others
        known = finite({other.number: other.so_far(step, goals) for other in measures if other.is_feasible})
        if not known:
            return None
        found = place(vector, list(known.values()), goals)
        if found.rank == 1 or len(found.better) <= keep * len(known):
            return None
        who = "completed trials" if against == "completed" else "trials"
        why = (
            f"{told(goals, vector)} is of non-domination rank {found.rank}, in place {found.place} of {found.of} "
            f"among {who} at that step, of which the {part} may go on"
        )
        return placed(goals, vector, known, found, why, keep=keep)

    return judge
