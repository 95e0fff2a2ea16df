"""The contract of a pruner, over every one; expected decisions by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.errors import StudyFileError, UnknownName
from hpo.search.pruners import PRUNERS, build
from hpo.search.view import Search, SearchSettings
from hpo.trial import Direction, Goal, Point, StopKind, TrialRecord, TrialState
from search_spaces import Float, SearchSpace

SPACE = SearchSpace({"x": Float(0.0, 1.0)})
DOWN, UP = Goal("loss"), Goal("loss", Direction.MAXIMIZE)
NEEDED: dict[str, dict[str, Any]] = {
    "percentile": {"percentile": 25.0},
    "patient": {"patience": 1},
    "threshold": {"upper": 10.0},
}


def search(name: str, goal: Goal = DOWN, goals: tuple[Goal, ...] = (), **options: Any) -> Search:
    merged = {**NEEDED.get(name, {}), **options}
    return Search(
        SearchSettings(
            SPACE,
            goals or (goal,),
            seed=1,
            sampler="random",
            pruner=name,
            pruner_options=merged,
            watched=goal,
            concurrency=2,
        )
    )


def finish(view: Search, number: int, curve: list[float], state: TrialState = TrialState.COMPLETE) -> None:
    params = view.propose(number).params
    for step, loss in enumerate(curve, 1):
        view.report(number, Point(step, {"loss": loss}))
    values = (curve[-1],) if state is TrialState.COMPLETE else None
    view.finished(TrialRecord(number, state, params, 0, values=values))


def judged(view: Search, number: int, curve: list[float]) -> list[str | None]:
    view.propose(number)
    reasons = [view.report(number, Point(step, {"loss": loss})) for step, loss in enumerate(curve, 1)]
    return [reason and reason.message for reason in reasons]


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_the_best_trial_is_never_pruned(name: str) -> None:
    view = search(name)
    for number in range(6):
        finish(view, number, [5.0 + number, 4.0 + number, 3.0 + number])
    assert judged(view, 6, [2.0, 1.0, 0.5]) == [None, None, None]


@pytest.mark.parametrize("name", sorted(set(PRUNERS) - {"none"}))
def test_a_hopeless_trial_is_pruned_with_a_reason_in_words(name: str) -> None:
    view = search(name)
    for number in range(6):
        finish(view, number, [5.0, 4.0, 3.0, 2.0])
    reasons = judged(view, 6, [50.0, 60.0, 70.0, 80.0])
    assert any(reasons)
    first = next(reason for reason in reasons if reason)
    assert first.startswith("pruned at step ")
    assert "loss" in first


def test_none_prunes_nothing() -> None:
    view = search("none")
    finish(view, 0, [1.0])
    assert judged(view, 1, [100.0, float("nan")]) == [None, None]


def test_median_compares_the_best_so_far_with_the_median_at_the_same_step() -> None:
    view = search("median", startup_trials=3, warmup_steps=1)
    for number, at_two in enumerate([1.0, 2.0, 9.0]):
        finish(view, number, [10.0, at_two])
    # Step 1 is warm-up; at step 2 the median is 2: 2.0 stays, 2.1 goes.
    assert judged(view, 3, [99.0, 2.0]) == [None, None]
    reasons = judged(view, 4, [99.0, 2.1])
    assert reasons[0] is None
    assert reasons[1] == (
        "pruned at step 2: best loss up to step 2 is 2.1, worse than the median (2) of 3 completed trials at that step"
    )


def test_median_turns_round_for_a_goal_to_be_maximised() -> None:
    view = search("median", UP, startup_trials=3)
    for number, value in enumerate([1.0, 2.0, 9.0]):
        finish(view, number, [value])
    assert judged(view, 3, [2.0]) == [None]
    assert "worse than the median (2)" in str(judged(view, 4, [1.9])[0])


def test_startup_trials_count_completed_trials_only() -> None:
    view = search("median", startup_trials=2)
    finish(view, 0, [1.0])
    finish(view, 1, [1.0], TrialState.PRUNED)
    finish(view, 2, [1.0], TrialState.FAIL)
    assert judged(view, 3, [50.0]) == [None]


def test_percentile_keeps_the_best_quarter() -> None:
    view = search("percentile", percentile=25.0, startup_trials=4)
    for number, value in enumerate([1.0, 2.0, 3.0, 4.0]):
        finish(view, number, [value])
    # numpy's 25th percentile of 1, 2, 3, 4 is 1.75.
    assert judged(view, 4, [1.75]) == [None]
    assert "best 25 % (1.75)" in str(judged(view, 5, [1.76])[0])


def test_threshold_prunes_what_leaves_the_bounds() -> None:
    view = search("threshold", lower=0.5, upper=2.0, warmup_steps=1)
    assert judged(view, 0, [9.0, 1.0, 2.5])[:2] == [None, None]
    assert "below 0.5" in str(judged(view, 1, [1.0, 0.4])[1])
    assert "not a number" in str(judged(view, 2, [1.0, float("nan")])[1])


def test_patient_waits_until_nothing_improves() -> None:
    view = search("patient", patience=2, startup_trials=1)
    finish(view, 0, [1.0] * 6)
    # 5 is worse than the median from the start; it improves until step 3, then rests for 3 steps.
    reasons = judged(view, 1, [5.0, 4.0, 3.0, 3.5, 3.5, 3.5])
    assert reasons[:5] == [None] * 5
    assert "no better loss for 2 steps" in str(reasons[5])


def test_several_goals_prune_on_the_watched_one() -> None:
    view = search("median", goals=(DOWN, Goal("mb")), startup_trials=1)
    params = view.propose(0).params
    view.report(0, Point(1, {"loss": 1.0, "mb": 100.0}))
    view.finished(TrialRecord(0, TrialState.COMPLETE, params, 0, values=(1.0, 100.0)))
    view.propose(1)
    stop = view.report(1, Point(1, {"loss": 2.0, "mb": 1.0}))
    assert stop is not None
    assert stop.kind is StopKind.PRUNED


def test_a_new_attempt_is_not_judged_on_a_dead_ones_later_steps() -> None:
    view = search("threshold", upper=10.0)
    assert judged(view, 0, [1.0, 1.0, 1.0]) == [None] * 3
    # The process died, the trial goes on after step 1: 11 at step 2 is what it stands at now.
    stop = view.report(0, Point(2, {"loss": 11.0}))
    assert stop is not None
    assert stop.message == "pruned at step 2: loss at step 2 is 11, above 10"
    # A step that does not report the watched metric forgets the dead attempt's later ones, too.
    assert view.report(0, Point(1, {"other": 0.0})) is None
    assert view.report(0, Point(2, {"loss": 1.0})) is None


def test_a_deterministic_pruner_sees_only_what_its_trial_may_see() -> None:
    view = Search(
        SearchSettings(
            SPACE,
            (DOWN,),
            seed=1,
            sampler="random",
            pruner="median",
            pruner_options={"startup_trials": 1},
            concurrency=3,
            deterministic=True,
        )
    )
    for number in range(3):
        view.propose(number)
    for number in (0, 1):
        view.report(number, Point(1, {"loss": 1.0}))
        view.finished(TrialRecord(number, TrialState.COMPLETE, {}, 0, values=(1.0,)))
    # Trial 2 may see trials up to -1: none, though two have completed by now.
    assert view.report(2, Point(1, {"loss": 50.0})) is None
    view.propose(3)  # sees trial 0
    assert "1 completed trials" in str(view.report(3, Point(1, {"loss": 50.0})))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mediann", {}, "Did you mean 'median'"),
        ("median", {"warmup": 1}, "Did you mean 'warmup_steps'"),
        ("median", {"startup_trials": -1}, "greater than or equal to 0"),
        ("percentile", {}, "needs the option 'percentile'"),
        ("percentile", {"percentile": 100.0}, "less than 100"),
        ("patient", {}, "needs the option 'patience'"),
        ("threshold", {}, "needs lower, upper, or both"),
        ("threshold", {"lower": 2.0, "upper": 1.0}, "lower below upper"),
        ("threshold", {"lower": float("nan")}, "finite"),
    ],
)
def test_a_wrong_pruner_or_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownName, StudyFileError), match=message):
        build(name, options, DOWN)
