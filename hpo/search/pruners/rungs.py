"""Rules with rungs: at steps that grow by a factor, only the best go on."""

# No "from __future__ import annotations": the options' types are read off the signatures.
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Annotated

from pydantic import Field

from hpo.errors import StudyFileError
from hpo.search.options import Count, Natural
from hpo.search.pruners.judge import Aims, Curve, Judge, Verdict
from hpo.search.pruners.ranking import finite, not_finite, place, placed, told
from hpo.trial import Goal

Factor = Annotated[int, Field(ge=2)]


def successive_halving(
    aims: Aims, *, min_resource: Count = 1, reduction_factor: Factor = 4, startup_trials: Natural = 0
) -> Judge:
    """ASHA (Li et al. 2020, arXiv 1810.05934, algorithm 2) on the watched metric.

    As Optuna's, a trial that does not belong to the best 1/``reduction_factor`` when it
    reaches a rung is stopped there and not taken up again later; while a rung has fewer
    trials than that factor, only its best goes on.
    """
    return _rungs((aims.watched,), min_resource, reduction_factor, startup_trials)


def hyperband(
    aims: Aims, *, min_resource: Count = 1, reduction_factor: Factor = 3, startup_trials: Natural = 0
) -> Judge:
    """Hyperband (Li et al. 2018, JMLR 18-185): brackets whose first rungs lie ever later.

    Rungs lie at ``min_resource`` times the powers of ``reduction_factor``, as in Optuna's; where the
    study's epochs are such a number, they are the paper's R, and the last bracket stops nobody.
    Trials fill the brackets in the order of their numbers, each with the share of trials that the
    paper gives it (its algorithm 1), and are held against their own bracket only.
    """
    if aims.epochs is None:
        raise StudyFileError("pruner hyperband needs to know the epochs of a trial.")
    if aims.epochs < min_resource * reduction_factor:
        raise StudyFileError(
            f"pruner hyperband needs room for two brackets: min_resource times reduction_factor is "
            f"{min_resource * reduction_factor}, above the budget's epochs ({aims.epochs})."
        )
    shares = _bracket_sizes(aims.epochs // min_resource, reduction_factor)
    ends = list(accumulate(shares))

    def bracket_of(number: int) -> int:
        return next(bracket for bracket, end in enumerate(ends) if number % ends[-1] < end)

    return _rungs((aims.watched,), min_resource, reduction_factor, startup_trials, bracket_of)


def pareto_asha(
    aims: Aims, *, min_resource: Count = 1, reduction_factor: Factor = 2, startup_trials: Natural = 0
) -> Judge:
    """``successive_halving`` over all goals, by non-domination rank and hypervolume contribution.

    A trial that nobody at its rung dominates goes on, also where there are more of them than
    places: with several goals the front alone can be half of all.
    """
    return _rungs(aims.goals, min_resource, reduction_factor, startup_trials, all_goals=True)


def _bracket_sizes(resource: int, factor: int) -> list[int]:
    """Trials per bracket, the one that prunes most first; ``resource`` is R of the paper's algorithm 1."""
    brackets = 1
    while factor**brackets <= resource:
        brackets += 1
    return [math.ceil(brackets * factor**s / (s + 1)) for s in reversed(range(brackets))]


def _rungs(
    goals: tuple[Goal, ...],
    min_resource: int,
    factor: int,
    startup_trials: int,
    bracket_of: Callable[[int], int] | None = None,
    all_goals: bool = False,
) -> Judge:
    """The rule of all three: of one goal it takes the value at the rung, as Optuna does, of all the best so far."""
    look = Curve.so_far if all_goals else Curve.at

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        step = trial.last_step
        vector = look(trial, step, goals)
        if vector is None:
            return None
        bracket = bracket_of(trial.number) if bracket_of else 0
        peers = [o for o in others if bracket_of(o.number) == bracket] if bracket_of else others
        for rung, begins in _reached(trial, goals, min_resource * factor**bracket, factor):
            if (wrong := not_finite(goals, vector, step)) is not None:
                return wrong
            steps = {peer.number: _first_step(peer, goals, begins) for peer in peers if peer.is_feasible}
            known = finite({p.number: look(p, at, goals) for p in peers if (at := steps.get(p.number)) is not None})
            if not known or len(known) < startup_trials:
                continue
            found = place(vector, list(known.values()), goals)
            go_on = max(1, found.of // factor)
            if found.rank > 1 and len(found.better) >= go_on:
                where = {"bracket": bracket, "rung": rung, "rung_step": begins}
                why = (
                    f"{told(goals, vector)} is in place {found.place} of {found.of} at rung {rung} "
                    f"{f'of bracket {bracket} ' if bracket_of else ''}(step {begins}), "
                    f"of which the best {go_on} go on (1 in {factor})"
                )
                return placed(goals, vector, known, found, why, **where, go_on=go_on, reduction_factor=factor)
        return None

    return judge


def _reached(trial: Curve, goals: Sequence[Goal], first: int, factor: int) -> Iterator[tuple[int, int]]:
    """The rungs that the last step is the first to reach: their index, and the step where each begins."""
    rung, begins = 0, first
    while begins <= trial.last_step:
        if _first_step(trial, goals, begins) == trial.last_step:
            yield rung, begins
        rung, begins = rung + 1, begins * factor


def _first_step(curve: Curve, goals: Sequence[Goal], begins: int) -> int | None:
    """The first step from ``begins`` on at which every goal is known."""
    steps = (step for step in curve.series[goals[0].metric] if step >= begins)
    return min((step for step in steps if curve.at(step, goals) is not None), default=None)
