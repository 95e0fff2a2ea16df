"""The rules over all goals, and the rungs: decisions worked out by hand, and Optuna's where equal is promised."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pytest

from hpo.search.judging import Judging
from hpo.search.pruners import PRUNERS
from hpo.search.pruners.ranking import Place, place
from hpo.search.pruners.rungs import _bracket_sizes
from hpo.trial import Direction, Goal, Metrics, Point, StopReason, TrialRecord, TrialState

DOWN, UP = Goal("f1"), Goal("f2", Direction.MAXIMIZE)
BOTH = (Goal("f1"), Goal("f2"))


def complete(study: Judging, number: int, curve: Sequence[Metrics], **more: Any) -> None:
    study.begin(number)
    for step, metrics in enumerate(curve, 1):
        assert study.report(number, Point(step, metrics)) is None
    values = tuple(curve[-1].values())
    study.finished(TrialRecord(number, TrialState.COMPLETE, {}, 0, values=values, **more))


def told(study: Judging, number: int, step: int, **metrics: float) -> StopReason | None:
    study.begin(number)
    return study.report(number, Point(step, metrics))


def rank(vector: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> Place:
    return place(vector, others, BOTH)


def test_a_lower_rank_comes_first() -> None:
    # (1,3) and (3,1) are the front, (2,4) and (4,2) the second; (5,5) stands alone on the third.
    assert rank((5.0, 5.0), [(1.0, 3.0), (2.0, 4.0), (3.0, 1.0), (4.0, 2.0)]) == Place(3, (0, 2, 1, 3), ())


def test_within_a_rank_the_larger_contribution_to_the_hypervolume_comes_first() -> None:
    # Front (0,10), (4,5), (5,4), (10,0); the reference is (11,11). Each adds alone:
    # (0,10): (4-0)*(11-10) = 4; (4,5): (5-4)*(10-5) = 5; (5,4): (10-5)*(5-4) = 5; (10,0): (11-10)*(4-0) = 4.
    assert rank((4.0, 5.0), [(0.0, 10.0), (5.0, 4.0), (10.0, 0.0)]) == Place(1, (), (1, 0, 2))
    assert rank((0.0, 10.0), [(4.0, 5.0), (5.0, 4.0), (10.0, 0.0)]) == Place(1, (0, 1), (2,))


def test_equals_are_no_better() -> None:
    assert rank((1.0, 1.0), [(1.0, 1.0), (1.0, 1.0)]) == Place(1, (), (0, 1))


def test_units_do_not_matter() -> None:
    others = [(0.0, 9.0), (4.0, 5.0), (6.0, 6.0), (5.0, 4.0), (10.0, 0.0)]
    plain = rank((4.5, 4.8), others)
    assert rank((4.5e6, 4.8e-3), [(a * 1e6, b * 1e-3) for a, b in others]) == plain


def test_of_one_goal_the_order_is_that_of_its_values() -> None:
    assert place((2.0,), [(3.0,), (1.0,), (2.0,)], (DOWN,)) == Place(2, (1,), (2, 0))
    assert place((2.0,), [(3.0,), (1.0,), (2.0,)], (UP,)) == Place(2, (0,), (2, 1))


def four(name: str, **options: Any) -> Judging:
    """Four complete trials at (1,4), (2,3), (3,2), (4,1): a front."""
    study = Judging(name, {"startup_trials": 4, **options}, goals=BOTH, epochs=5)
    for number in range(4):
        study.restore(
            TrialRecord(
                number, TrialState.COMPLETE, {}, 0, values=(1.0 + number, 4.0 - number),
                points=(Point(1, {"f1": 1.0 + number, "f2": 4.0 - number}),),
            )
        )  # fmt: skip
    return study


def test_pareto_median_stops_what_is_dominated_and_behind_half() -> None:
    stop = told(four("pareto_median"), 4, 1, f1=3.5, f2=3.5)  # trials 1 and 2 dominate it, 0 and 3 do not
    assert stop is not None
    assert stop.message == (
        "pruned at step 1: f1 3.5, f2 3.5 is of non-domination rank 2, in place 5 of 5 among completed trials at "
        "that step, of which the better half may go on"
    )
    assert stop.details == {
        "rule": "pareto_median",
        "step": 1,
        "vector": {"f1": 3.5, "f2": 3.5},
        "against": {str(n): {"f1": 1.0 + n, "f2": 4.0 - n} for n in range(4)},
        "against_count": 4,
        "dominated_by": [1, 2],
        "rank": 2,
        "place": 5,
        "of": 5,
        "keep": 0.5,
    }


def test_pareto_median_keeps_what_nobody_dominates() -> None:
    # In place 5 of 5 by its contribution, and yet of the front.
    assert told(four("pareto_median"), 4, 1, f1=1.99, f2=3.01) is None


def test_pareto_median_keeps_the_better_half() -> None:
    study = four("pareto_median")
    for number in range(4, 8):  # four more, dominated by those before
        study.restore(
            TrialRecord(
                number, TrialState.COMPLETE, {}, 0, values=(9.0, 9.0), points=(Point(1, {"f1": 9.0, "f2": 9.0}),)
            )
        )  # fmt: skip
    # Four of eight are better: in the better half still. With five of nine it is not.
    assert told(study, 8, 1, f1=5.0, f2=5.0) is None
    study.report(8, Point(1, {"f1": 5.0, "f2": 5.0}))
    study.finished(TrialRecord(8, TrialState.COMPLETE, {}, 0, values=(5.0, 5.0)))
    assert told(study, 9, 1, f1=6.0, f2=6.0) is not None


def test_pareto_median_against_all_who_got_there() -> None:
    for against, pruned in (("completed", False), ("reached", True)):
        study = Judging("pareto_median", {"startup_trials": 0, "against": against}, goals=BOTH, epochs=5)
        assert told(study, 0, 1, f1=1.0, f2=1.0) is None  # still running
        assert (told(study, 1, 1, f1=2.0, f2=2.0) is not None) is pruned


@pytest.mark.parametrize("name", ["pareto_median", "pareto_asha"])
def test_a_trial_is_ranked_by_the_best_it_has_been(name: str) -> None:
    """Its value will be that of its best step, so one bad step must not end it."""
    study = Judging(name, {"startup_trials": 1}, goals=BOTH, once=frozenset({"f2"}), epochs=9)
    complete(study, 0, [{"f1": 4.0, "f2": 1.0}, {"f1": 99.0, "f2": 1.0}])
    assert told(study, 1, 1, f1=3.9, f2=1.0) is None
    assert told(study, 1, 2, f1=99.0, f2=1.0) is None
    stop = told(study, 2, 2, f1=50.0, f2=1.0)  # better than 99, and worse than the 4 before
    assert stop is not None
    assert stop.details["against"]["0"] == {"f1": 4.0, "f2": 1.0}


def test_what_a_dead_attempt_reached_is_not_the_best_so_far() -> None:
    study = Judging("pareto_median", {"startup_trials": 1}, goals=BOTH, epochs=9)
    complete(study, 0, [{"f1": 4.0, "f2": 1.0}])
    assert told(study, 1, 1, f1=3.0, f2=1.0) is None
    assert told(study, 1, 1, f1=5.0, f2=1.0) is not None  # the same step, told by the next attempt


@pytest.mark.parametrize("name", ["pareto_median", "hopeless"])
def test_of_what_is_measured_again_the_newest_counts(name: str) -> None:
    study = Judging(name, {"startup_trials": 1}, goals=BOTH, once=frozenset({"f2"}), epochs=9)
    complete(study, 0, [{"f1": 1.0, "f2": 5.0}, {"f1": 1.0, "f2": 5.0}, {"f1": 1.0, "f2": 5.0}])
    assert told(study, 1, 1, f1=2.0, f2=4.0) is None  # less memory than any
    stop = told(study, 1, 2, f1=2.0, f2=6.0)
    assert stop is not None
    assert stop.details["vector"] == {"f1": 2.0, "f2": 6.0}


def test_only_the_same_step_counts() -> None:
    assert told(four("pareto_median"), 4, 2, f1=9.0, f2=9.0) is None  # nobody has been at step 2


def test_the_interval_begins_after_the_warm_up() -> None:
    study = Judging("pareto_median", {"startup_trials": 1, "warmup_steps": 1, "interval": 3}, goals=BOTH, epochs=9)
    complete(study, 0, [{"f1": 1.0, "f2": 1.0}] * 8)
    judged = [told(study, 1, step, f1=2.0, f2=2.0) is not None for step in range(1, 9)]
    assert judged == [False, True, False, False, True, False, False, True]


def curves(study: Judging, ends: Mapping[int, float], f2: float = 1.0, start: float = 10.0) -> None:
    """Complete trials whose f1 falls from ``start`` to an end in two steps; f2 is measured once."""
    for number, end in ends.items():
        points = (Point(1, {"f1": start, "f2": f2}), Point(2, {"f1": end, "f2": f2}))
        study.restore(TrialRecord(number, TrialState.COMPLETE, {}, 0, values=(end, f2), points=points))


def hopeless(**options: Any) -> Judging:
    return Judging("hopeless", {"startup_trials": 1, **options}, goals=BOTH, once=frozenset({"f2"}), epochs=5)


def test_hopeless_assumes_the_improvement_that_a_share_of_the_finished_made() -> None:
    study = hopeless(quantile=0.9)
    curves(study, {n: 9.0 - n for n in range(9)})  # improved by 1, 2, ..., 9
    curves(study, {9: -90.0})  # and one by 100, which is past the 90 %
    # At 11 it could end at 11 - 9 = 2; f2 stays 3. Trials 7 (2, 1), 8 (1, 1) and 9 (-90, 1) are no worse.
    stop = told(study, 10, 1, f1=11.0, f2=3.0)
    assert stop is not None
    assert stop.details["assumed"] == {"f1": 2.0, "f2": 3.0}
    assert stop.details["improvement"] == {"f1": 9.0, "f2": 0.0}
    assert sorted(stop.details["dominated_by"]) == [7, 8, 9]
    assert stop.details["completed"] == 10
    assert "it would end at f1 2, f2 3, which trials" in stop.message
    assert "90 % of 10 completed trials" in stop.message
    # What could become the best goes on: all 10 trials' improvement is 100.
    assert told(hopeless_of_all(), 10, 1, f1=11.0, f2=0.5) is None


def hopeless_of_all() -> Judging:
    study = hopeless(quantile=1.0)
    curves(study, {n: 9.0 - n for n in range(9)})
    return study


def test_hopeless_lets_a_trial_go_on_that_could_still_be_as_good() -> None:
    study = hopeless_of_all()  # the best ended at (1, 1), and improved by 9
    assert told(study, 10, 1, f1=9.9, f2=1.0) is None  # could be 0.9
    assert told(study, 11, 1, f1=10.0, f2=1.0) is None  # could be (1, 1), which nobody beats
    assert told(study, 12, 1, f1=10.1, f2=1.0) is not None


def test_hopeless_does_not_hope_for_what_is_measured_once() -> None:
    study = hopeless(quantile=1.0)
    # Its memory was measured again after a recovery, and was less; no other trial's will be.
    points = (Point(1, {"f1": 10.0, "f2": 9.0}), Point(2, {"f1": 9.0, "f2": 1.0}))
    study.restore(TrialRecord(0, TrialState.COMPLETE, {}, 0, values=(9.0, 1.0), points=points))
    stop = told(study, 1, 1, f1=20.0, f2=5.0)
    assert stop is not None
    assert stop.details["assumed"] == {"f1": 19.0, "f2": 5.0}


def test_hopeless_judges_by_the_best_so_far() -> None:
    study = hopeless_of_all()
    assert told(study, 10, 1, f1=2.0, f2=1.0) is None
    assert told(study, 10, 2, f1=99.0, f2=1.0) is not None  # from step 2 on nobody improved; 2 is not 1
    study = hopeless_of_all()
    assert told(study, 10, 1, f1=0.5, f2=1.0) is None
    assert told(study, 10, 2, f1=99.0, f2=1.0) is None


def test_hopeless_takes_an_early_stopped_trial_as_done_improving() -> None:
    study = hopeless(quantile=1.0)
    curves(study, {0: 5.0})  # stopped early after step 2
    assert told(study, 1, 3, f1=5.1, f2=1.0) is not None


def test_hopeless_does_not_hold_against_what_broke_a_constraint_but_learns_from_its_curve() -> None:
    study = hopeless(quantile=1.0)
    points = (Point(1, {"f1": 10.0, "f2": 1.0}), Point(2, {"f1": 1.0, "f2": 1.0}))
    study.restore(TrialRecord(0, TrialState.COMPLETE, {}, 0, values=(1.0, 1.0), points=points, violations=(2.0,)))
    curves(study, {1: 9.0})
    assert told(study, 2, 1, f1=17.0, f2=2.0) is None  # could improve by 9, to 8; trial 1 has 9
    stop = told(study, 3, 1, f1=18.5, f2=2.0)  # to 9.5
    assert stop is not None
    assert stop.details["dominated_by"] == [1]


def test_the_first_rule_with_a_reason_gives_it() -> None:
    rules = [{"name": "hopeless", "startup_trials": 99}, {"name": "pareto_median", "startup_trials": 4}]
    study = Judging("any", {"of": rules}, goals=BOTH, epochs=5)
    for number in range(4):
        complete(study, number, [{"f1": 1.0, "f2": 1.0}])
    stop = told(study, 4, 1, f1=2.0, f2=2.0)
    assert stop is not None
    assert stop.details["rule"] == "pareto_median"


def test_pareto_asha_keeps_one_in_eta_at_every_rung() -> None:
    study = Judging("pareto_asha", {"reduction_factor": 2, "min_resource": 1}, goals=BOTH, epochs=9)
    assert told(study, 0, 1, f1=1.0, f2=1.0) is None
    assert told(study, 1, 1, f1=2.0, f2=2.0) is not None  # 1 of 2 goes on: trial 0
    assert told(study, 2, 1, f1=0.5, f2=0.5) is None
    assert told(study, 3, 1, f1=3.0, f2=0.1) is None  # nobody dominates it
    assert told(study, 2, 2, f1=0.5, f2=0.5) is None  # alone at rung 1
    behind = told(study, 0, 2, f1=1.0, f2=1.0)
    assert behind is not None
    assert behind.message == (
        "pruned at step 2: f1 1, f2 1 is in place 2 of 2 at rung 1 (step 2), of which the best 1 go on (1 in 2)"
    )
    assert behind.details["rung_step"] == 2


def test_a_rung_is_judged_once_by_the_first_step_that_reaches_it() -> None:
    study = Judging("pareto_asha", {"reduction_factor": 3, "min_resource": 2}, goals=BOTH, epochs=9)
    assert told(study, 0, 1, f1=1.0, f2=1.0) is None
    assert told(study, 0, 3, f1=1.0, f2=1.0) is None  # jumps over step 2, and stands at the rung all the same
    assert told(study, 1, 1, f1=2.0, f2=2.0) is None
    assert told(study, 1, 2, f1=2.0, f2=2.0) is not None


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("first", [1, 2])
def test_successive_halving_promotes_the_trials_that_optunas_does(
    direction: Direction, factor: int, first: int
) -> None:
    """One trial after the other, over 24 steps; the last is no rung. Some values are NaN, some are equal."""
    rng = random.Random(factor * 10 + first)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = optuna.create_study(
        direction=optuna.study.StudyDirection[direction.name],
        pruner=optuna.pruners.SuccessiveHalvingPruner(first, factor, min_early_stopping_rate=0, bootstrap_count=0),
    )
    goal = Goal("loss", direction)
    ours = Judging("successive_halving", {"min_resource": first, "reduction_factor": factor}, goals=(goal,))
    stopped = 0
    for number in range(60):
        trial = theirs.ask()
        ours.begin(number)
        height = round(rng.uniform(0, 10), 1)
        for step in range(1, 25):
            value = float("nan") if rng.random() < 0.01 else height + round(rng.uniform(0, 10 / step), 1)
            trial.report(value, step)
            stop = ours.report(number, Point(step, {"loss": value}))
            assert (stop is not None) == trial.should_prune(), (number, step)
            if stop:
                break
        stopped += stop is not None
        state = TrialState.PRUNED if stop else TrialState.COMPLETE
        theirs.tell(trial, None if stop else height, optuna.trial.TrialState[state.name])
        ours.finished(TrialRecord(number, state, {}, 0, values=None if stop else (height,)))
    assert 30 < stopped < 60


def test_hyperbands_brackets_have_the_papers_sizes() -> None:
    # Algorithm 1 of Li et al. 2018: ceil(5 * 3^s / (s + 1)) = 81, ceil(33.75), 15, ceil(7.5), 5.
    assert _bracket_sizes(81, 3) == [81, 34, 15, 8, 5]
    assert _bracket_sizes(80, 3) == [27, 12, 6, 4]


def test_hyperband_holds_a_trial_against_its_own_bracket_and_begins_later_in_each() -> None:
    # 9 epochs: brackets of 9, 5 and 3 trials, with rungs at 1, 3, 9; at 3, 9; at 9.
    study = Judging("hyperband", {}, goals=(DOWN,), epochs=10)
    for number in (0, 9, 14):
        for step in range(1, 10):
            assert told(study, number, step, f1=1.0) is None
    assert [told(study, 1, step, f1=2.0) is not None for step in (1,)] == [True]
    assert [told(study, 10, step, f1=2.0) is not None for step in (1, 2, 3)] == [False, False, True]
    assert [told(study, 15, step, f1=2.0) is not None for step in range(1, 10)] == [False] * 8 + [True]
    # The sizes repeat: 17 is of the first bracket again, and the best of it so far.
    assert told(study, 17, 1, f1=0.5) is None
    stop = told(study, 18, 1, f1=0.6)
    assert stop is not None
    assert stop.details["bracket"] == 0
    assert sorted(stop.details["against"]) == ["0", "1", "17"]


@pytest.mark.parametrize("name", sorted(set(PRUNERS) - {"any", "percentile", "patient", "threshold"}))
def test_one_goal_may_be_pruned_by_any_rule(name: str) -> None:
    study = Judging(name, goals=(DOWN,), epochs=9)
    for number in range(12):
        study.begin(number)
        for step in range(1, 10):
            study.report(number, Point(step, {"f1": 1.0 - number / 100}))
        study.finished(TrialRecord(number, TrialState.COMPLETE, {}, 0, values=(1.0 - number / 100,)))
    stops = [told(study, 12, step, f1=5.0) for step in range(1, 9)]
    assert any(stops) == (name != "none")
