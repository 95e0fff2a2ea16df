"""The best trials of a study, with orders worked out on paper."""

from __future__ import annotations

from hpo.strategies.ranking import best_trials, completed
from hpo.trial import Direction, Goal, TrialRecord, TrialState

A, B = Goal("a"), Goal("b")


def trial(number: int, *values: float, state: TrialState = TrialState.COMPLETE, broken: float = 0.0) -> TrialRecord:
    return TrialRecord(number, state, {}, 0, values=values or None, violations=(broken,))


def numbers(found: list[TrialRecord]) -> list[int]:
    return [record.number for record in found]


def test_with_one_goal_the_values_decide_and_then_the_number() -> None:
    trials = [trial(0, 3.0), trial(1, 1.0), trial(2, 2.0), trial(3, 1.0)]
    assert numbers(best_trials(trials, [A], 3)) == [1, 3, 2]
    assert numbers(best_trials(trials, [Goal("a", Direction.MAXIMIZE)], 2)) == [0, 2]


def test_only_completed_and_feasible_trials_count() -> None:
    trials = [trial(0, 1.0, state=TrialState.PRUNED), trial(1, 1.0, broken=0.5), trial(2, 9.0), trial(3)]
    assert numbers(completed(trials)) == [2]
    assert numbers(best_trials(trials, [A], 5)) == [2]
    assert best_trials([], [A], 5) == []


def test_with_several_goals_rank_comes_before_the_distance_to_the_ideal_point() -> None:
    # Rank 0: 0, 1, 2; scaled (0, 1), (.25, .25), (1, 0), so 1 is nearest, then 0 and 2 by number.
    # Rank 1: 3 at (2, 4), beaten by 1 at (1, 1). Rank 2: 4, beaten by 3, too.
    trials = [trial(0, 0.0, 4.0), trial(1, 1.0, 1.0), trial(2, 4.0, 0.0), trial(3, 2.0, 4.0), trial(4, 5.0, 5.0)]
    assert numbers(best_trials(trials, [A, B], 5)) == [1, 0, 2, 3, 4]
    assert numbers(best_trials(trials, [A, B], 2)) == [1, 0]
