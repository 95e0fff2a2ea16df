"""Naming a winner: the policy over the front, corrected by the runs with fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.constraints import broken, least_violated, spoken
from hpo.errors import ExportFailed, UserError
from hpo.export.retrain import Luck, luck
from hpo.pareto import ParetoFront, signs
from hpo.spec import StudySpec
from hpo.trial import Goal, TrialRecord, TrialState, derive_seed
from hpo.where import filtered
from storage.records import CONFIRM, Snapshot

Policy = str | Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """The winner's number. ``luck`` compares promises with fresh seeds; None if not confirmed.

    ``unfinished``: the study's own confirmation has begun and is not over; a launch goes on with it.
    """

    number: int
    front: ParetoFront
    luck: Luck | None = None
    unfinished: bool = False


def top(trials: Sequence[TrialRecord], goals: Sequence[Goal], policy: Policy, count: int) -> list[int]:
    """The ``count`` best feasible trials under a policy: of the front, or of all with a single goal."""
    if len(goals) > 1:
        return ParetoFront.of(trials, goals).ranked(policy)[:count]
    turn = signs(goals)[0]
    done = [t for t in trials if t.state is TrialState.COMPLETE and t.values is not None and t.is_feasible]
    return [t.number for t in sorted(done, key=lambda t: (t.values[0] * turn, t.number))[:count]]  # type: ignore[index]


def confirmations(numbers: Sequence[int], spec: StudySpec) -> list[tuple[int, int]]:
    """The runs that confirm these trials: (trial, seed), ``confirm_seeds`` fresh ones each."""
    fresh = range(spec.retrain.confirm_seeds)
    return [(number, derive_seed(spec.seed, number, "confirm", i)) for number in numbers for i in fresh]


def choose(snapshot: Snapshot, spec: StudySpec, pick: Policy | None = None, where: Sequence[str] = ()) -> Choice:
    """The trial that ``pick`` (the study's own policy by default) takes where every comparison holds.

    When all of the policy's top ``confirm`` have been run again with all their fresh seeds,
    the policy decides between them by the means of those runs, because the search's own
    best value is the luckiest of many. Until the last of these runs has ended nothing is
    confirmed: half of them would hold one trial's mean against another's luck.

    Raises:
        UserError: no completed trial is left, or none that is feasible, or the policy or a
            comparison is wrong.
    """
    goals, count = snapshot.study.goals, spec.retrain.confirm
    policy = pick or spec.retrain.pick
    trials = filtered(snapshot.trials, where)
    front = ParetoFront.of(trials, goals)
    _check_feasible(trials, snapshot.study.constraints)
    if where and not len(front):
        raise UserError(f"No completed trial has {' and '.join(where)}.")
    number = front.pick(policy)
    runs = snapshot.others.get(CONFIRM, ())
    first = top(trials, goals, policy, count)
    if _is_over(confirmations(first, spec), runs):
        confirmed = _confirmed(snapshot, front, first, policy)
        return Choice(number if confirmed is None else confirmed.winner, front, confirmed)
    own = confirmations(top(snapshot.trials, goals, spec.retrain.pick, count), spec)
    return Choice(number, front, unfinished=bool(own and runs) and not _is_over(own, runs))


def _check_feasible(trials: Sequence[TrialRecord], constraints: Sequence[str]) -> None:
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if done and not any(trial.is_feasible for trial in done):
        nearest = least_violated(done)
        raise UserError(
            f"None of the {len(done)} completed trials keeps to every constraint. The nearest is trial "
            f"{nearest.number}, which breaks {spoken(broken(constraints, nearest))}."
        )


def _is_over(wanted: Sequence[tuple[int, int]], runs: Sequence[TrialRecord]) -> bool:
    """Whether each wanted run has ended and none of them is being repeated."""
    ended = {(run.subject, run.seed) for run in runs if run.state.is_finished}
    going = {(run.subject, run.seed) for run in runs if not run.state.is_finished}
    return all(key in ended - going for key in wanted)


def _confirmed(snapshot: Snapshot, front: ParetoFront, numbers: Sequence[int], policy: Policy) -> Luck | None:
    runs = [run for run in snapshot.others.get(CONFIRM, ()) if run.subject in numbers]
    if not runs:
        return None
    by_number = {trial.number: trial for trial in snapshot.trials}
    picked = {run.number: run.subject for run in runs if run.subject is not None}
    try:
        return luck(
            [by_number[number] for number in numbers],
            runs,
            picked,
            front.goals,
            winner=lambda trials: _winner(front, trials, policy),
        )
    except ExportFailed:
        return None  # not one of the fresh runs completed: nothing is confirmed


def _winner(front: ParetoFront, trials: Sequence[TrialRecord], policy: Policy) -> int:
    """Which of ``trials`` the policy picks, measured on the scale of the whole front.

    A knee of the few alone would be another point: three trials of a front stretch the
    scale between themselves.
    """
    values = {number: tuple(row) for number, row in zip(front.numbers, front.values, strict=True)}
    values.update({trial.number: trial.values for trial in trials if trial.values is not None})
    numbers = tuple(sorted(values))
    whole = ParetoFront(front.goals, numbers, np.array([values[number] for number in numbers]))
    order = whole.ranked(policy)
    return min((trial.number for trial in trials), key=order.index)
