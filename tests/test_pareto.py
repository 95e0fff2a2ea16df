"""Fronts, hypervolumes and knees, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpo.errors import UnknownName, UserError
from hpo.pareto import ParetoFront, reference_point
from hpo.trial import Direction, Goal, TrialRecord, TrialState

LOSS, SPEED, MB = Goal("loss"), Goal("speed", Direction.MAXIMIZE), Goal("mb")


def trial(number: int, *values: float, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    return TrialRecord(number, state, {}, 0, values=values or None)


def front(*rows: tuple[float, ...], goals: tuple[Goal, ...] = (LOSS, SPEED)) -> ParetoFront:
    return ParetoFront.of([trial(i, *row) for i, row in enumerate(rows)], goals)


def test_a_dominated_trial_is_not_on_the_front() -> None:
    # 2 is slower and worse than 1; 3 trades loss for speed.
    assert front((1.0, 1.0), (2.0, 5.0), (3.0, 4.0), (0.5, 0.1)).numbers == (0, 1, 3)


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.QUEUED])
def test_only_a_completed_trial_stands_on_a_front(state: TrialState) -> None:
    found = ParetoFront.of([trial(0, 5.0, 1.0), trial(1, 0.0, 9.0, state=state)], (LOSS, SPEED))
    assert found.numbers == (0,)


def test_equal_trials_all_stay() -> None:
    assert front((1.0, 1.0), (1.0, 1.0), (2.0, 1.0)).numbers == (0, 1)


def test_the_hypervolume_of_two_rectangles() -> None:
    # Reference (4, 0): loss 1 at speed 1 covers 3 x 1; loss 2 at speed 3 covers 2 x 3; both 2 x 1.
    assert front((1.0, 1.0), (2.0, 3.0)).hypervolume((4.0, 0.0)) == pytest.approx(3 + 6 - 2)


def test_the_hypervolume_of_three_goals() -> None:
    found = front((1.0, 1.0, 1.0), goals=(LOSS, MB, Goal("x")))
    assert found.hypervolume((2.0, 3.0, 4.0)) == pytest.approx(1 * 2 * 3)


def test_a_trial_worse_than_the_reference_adds_nothing() -> None:
    assert front((5.0, 1.0)).hypervolume((4.0, 0.0)) == 0.0
    assert front().hypervolume((4.0, 0.0)) == 0.0


def test_the_knee_is_nearest_to_the_ideal_point() -> None:
    # Scaled: (0, 1), (0.5, 0.25), (1, 0): lengths 1, 0.559, 1.
    assert front((0.0, 0.0), (5.0, 3.0), (10.0, 4.0)).pick("knee") == 1


def test_ties_go_to_the_lowest_number() -> None:
    assert front((0.0, 0.0), (10.0, 4.0)).knee() == 0
    # A third of a scale in floating point differs in its last digit from side to side.
    assert front((0.1, 0.2), (0.3, 0.4), (0.2, 0.3)).knee() == 2


def test_a_goal_on_which_all_agree_does_not_count() -> None:
    assert front((3.0, 7.0)).knee() == 0
    assert ParetoFront.of([trial(0, 1.0, 2.0), trial(1, 1.0, 2.0)], (LOSS, MB)).knee() == 0


def test_picking_by_a_metric_takes_its_best() -> None:
    found = front((0.0, 0.0), (5.0, 3.0), (10.0, 4.0))
    assert found.pick("loss") == 0
    assert found.pick("speed") == 2


def test_weights_move_the_pick() -> None:
    found = front((0.0, 0.0), (5.0, 3.0), (10.0, 4.0))
    assert found.pick({"loss": 1.0}) == 0
    assert found.pick({"speed": 1.0}) == 2
    # Weighted lengths: 10; sqrt(0.25 + 6.25) = 2.55; 1.
    assert found.pick({"loss": 1.0, "speed": 10.0}) == 2


def test_ranking_begins_with_the_pick_and_names_everybody() -> None:
    found = front((0.0, 0.0), (5.0, 3.0), (10.0, 4.0))
    assert found.ranked("knee") == [1, 0, 2]
    assert found.ranked("speed") == [2, 1, 0]


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ("kne", UnknownName, "Did you mean 'knee'"),
        ({"los": 1.0}, UnknownName, "Did you mean 'loss'"),
        ({"loss": -1.0}, UserError, "0 or more"),
        ({"loss": 0.0}, UserError, "above 0"),
        ({}, UserError, "above 0"),
    ],
)
def test_a_wrong_policy_is_refused(policy: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        front((1.0, 1.0)).pick(policy)  # type: ignore[arg-type]


def test_there_is_nothing_to_pick_from_an_empty_front() -> None:
    with pytest.raises(UserError, match="no completed trial"):
        front().pick("knee")


def test_the_reference_point_is_a_tenth_of_the_range_beyond_the_worst() -> None:
    values = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert reference_point(values, (LOSS, SPEED)) == pytest.approx((3.2, 8.0))
    assert reference_point(np.array([[2.0, 0.0]]), (LOSS, SPEED)) == pytest.approx((2.2, -0.1))


def test_dominance_agrees_with_the_definition_on_random_points() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, size=(60, 3)).astype(float)
    found = ParetoFront.of([trial(i, *row) for i, row in enumerate(values)], (LOSS, MB, Goal("x")))
    by_definition = tuple(i for i, a in enumerate(values) if not any(np.all(b <= a) and np.any(b < a) for b in values))
    assert found.numbers == by_definition
    assert math.isfinite(found.hypervolume((6.0, 6.0, 6.0)))
