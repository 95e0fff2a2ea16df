"""The rules that watch one metric; expected decisions by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.errors import StudyFileError, UnknownName
from hpo.search.judging import Judging
from hpo.search.pruners import Aims, build
from hpo.trial import Direction, Goal, Point, StopKind, TrialRecord, TrialState

DOWN, UP = Goal("loss"), Goal("loss", Direction.MAXIMIZE)
NEEDED: dict[str, dict[str, Any]] = {
    "percentile": {"percentile": 25.0},
    "patient": {"patience": 1},
    "threshold": {"upper": 10.0},
}


def judging(name: str, goal: Goal = DOWN, goals: tuple[Goal, ...] = (), **options: Any) -> Judging:
    merged = {**NEEDED.get(name, {}), **options}
    return Judging(name, merged, goals=goals or (goal,), watched=goal, concurrency=2)


def finish(study: Judging, number: int, curve: list[float], state: TrialState = TrialState.COMPLETE) -> None:
    study.begin(number)
    for step, loss in enumerate(curve, 1):
        study.report(number, Point(step, {"loss": loss}))
    values = (curve[-1],) if state is TrialState.COMPLETE else None
    study.finished(TrialRecord(number, state, {}, 0, values=values))


def judged(study: Judging, number: int, curve: list[float]) -> list[str | None]:
    study.begin(number)
    reasons = [study.report(number, Point(step, {"loss": loss})) for step, loss in enumerate(curve, 1)]
    return [reason and reason.message for reason in reasons]


def test_none_prunes_nothing() -> None:
    study = judging("none")
    finish(study, 0, [1.0])
    assert judged(study, 1, [100.0, float("nan")]) == [None, None]


def test_median_compares_the_best_so_far_with_the_median_at_the_same_step() -> None:
    study = judging("median", startup_trials=3, warmup_steps=1)
    for number, at_two in enumerate([1.0, 2.0, 9.0]):
        finish(study, number, [10.0, at_two])
    # Step 1 is warm-up; at step 2 the median is 2: 2.0 stays, 2.1 goes.
    assert judged(study, 3, [99.0, 2.0]) == [None, None]
    reasons = judged(study, 4, [99.0, 2.1])
    assert reasons[0] is None
    assert reasons[1] == (
        "pruned at step 2: best loss up to step 2 is 2.1, worse than the median (2) of 3 completed trials at that step"
    )


def test_median_turns_round_for_a_goal_to_be_maximised() -> None:
    study = judging("median", UP, startup_trials=3)
    for number, value in enumerate([1.0, 2.0, 9.0]):
        finish(study, number, [value])
    assert judged(study, 3, [2.0]) == [None]
    assert "worse than the median (2)" in str(judged(study, 4, [1.9])[0])


def test_startup_trials_count_completed_trials_only() -> None:
    study = judging("median", startup_trials=2)
    finish(study, 0, [1.0])
    finish(study, 1, [1.0], TrialState.PRUNED)
    finish(study, 2, [1.0], TrialState.FAIL)
    assert judged(study, 3, [50.0]) == [None]


def test_percentile_keeps_the_best_quarter() -> None:
    study = judging("percentile", percentile=25.0, startup_trials=4)
    for number, value in enumerate([1.0, 2.0, 3.0, 4.0]):
        finish(study, number, [value])
    # numpy's 25th percentile of 1, 2, 3, 4 is 1.75.
    assert judged(study, 4, [1.75]) == [None]
    assert "best 25 % (1.75)" in str(judged(study, 5, [1.76])[0])


def test_threshold_prunes_what_leaves_the_bounds() -> None:
    study = judging("threshold", lower=0.5, upper=2.0, warmup_steps=1)
    assert judged(study, 0, [9.0, 1.0, 2.5])[:2] == [None, None]
    assert "below 0.5" in str(judged(study, 1, [1.0, 0.4])[1])
    assert "not a number" in str(judged(study, 2, [1.0, float("nan")])[1])


def test_patient_waits_until_nothing_improves() -> None:
    study = judging("patient", patience=2, startup_trials=1)
    finish(study, 0, [1.0] * 6)
    # 5 is worse than the median from the start; it improves until step 3, then rests for 3 steps.
    reasons = judged(study, 1, [5.0, 4.0, 3.0, 3.5, 3.5, 3.5])
    assert reasons[:5] == [None] * 5
    assert "no better loss for 2 steps" in str(reasons[5])


def test_several_goals_prune_on_the_watched_one() -> None:
    study = judging("median", goals=(DOWN, Goal("mb")), startup_trials=1)
    study.begin(0)
    study.report(0, Point(1, {"loss": 1.0, "mb": 100.0}))
    study.finished(TrialRecord(0, TrialState.COMPLETE, {}, 0, values=(1.0, 100.0)))
    study.begin(1)
    stop = study.report(1, Point(1, {"loss": 2.0, "mb": 1.0}))
    assert stop is not None
    assert stop.kind is StopKind.PRUNED


def test_a_new_attempt_is_not_judged_on_a_dead_ones_later_steps() -> None:
    study = judging("threshold", upper=10.0)
    assert judged(study, 0, [1.0, 1.0, 1.0]) == [None] * 3
    # The process died, the trial goes on after step 1: 11 at step 2 is what it stands at now.
    stop = study.report(0, Point(2, {"loss": 11.0}))
    assert stop is not None
    assert stop.message == "pruned at step 2: loss at step 2 is 11, above 10"
    # A step that does not report the watched metric forgets the dead attempt's later ones, too.
    assert study.report(0, Point(1, {"other": 0.0})) is None
    assert study.report(0, Point(2, {"loss": 1.0})) is None


def test_a_deterministic_pruner_sees_only_what_its_trial_may_see() -> None:
    study = Judging("median", {"startup_trials": 1}, goals=(DOWN,), concurrency=3, deterministic=True)
    for number in range(3):
        study.begin(number)
    for number in (0, 1):
        study.report(number, Point(1, {"loss": 1.0}))
        study.finished(TrialRecord(number, TrialState.COMPLETE, {}, 0, values=(1.0,)))
    # Trial 2 may see trials up to -1: none, though two have completed by now.
    assert study.report(2, Point(1, {"loss": 50.0})) is None
    study.begin(3)  # sees trial 0
    assert "1 completed trials" in str(study.report(3, Point(1, {"loss": 50.0})))


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
        build(name, options, Aims((DOWN,), DOWN))
