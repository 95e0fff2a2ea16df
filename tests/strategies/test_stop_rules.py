"""When a search ends early: sequences whose end is counted by hand, and real studies."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import StudyFileError
from hpo.spec import StopSpec
from hpo.strategies.stopping import StopRules
from hpo.trial import Direction, Goal, TrialRecord, TrialState
from tests.studies import launch, rows

LOSS = (Goal("loss"),)
TWO = (Goal("loss"), Goal("accuracy", Direction.MAXIMIZE))


def trial(number: int, *values: float, state: TrialState = TrialState.COMPLETE, broken: float = 0.0) -> TrialRecord:
    return TrialRecord(number, state, {}, 0, values=values or None, violations=(broken,))


def first_stop(rules: StopRules, trials: Iterable[TrialRecord]) -> tuple[int, str] | None:
    """The first trial that is not started any more when they run one after the other, and why."""
    for record in trials:
        rules.finished(record)
        if reason := rules.spent(record.number + 1):
            return record.number + 1, reason
    return None


def test_no_better_value_in_so_many_trials() -> None:
    rules = StopRules(LOSS, StopSpec(no_improvement=3))
    # 1 is the last that is better; 2 only equals it; 2, 3 and 4 make three.
    values = [5.0, 4.0, 4.0, 7.0, 6.0, 1.0]
    found = first_stop(rules, [trial(i, value) for i, value in enumerate(values)])
    assert found == (5, "no better value in 3 trials (since trial 1)")


def test_pruned_and_infeasible_trials_count_failed_ones_do_not_and_nothing_before_the_first_value() -> None:
    pruned, failed = TrialState.PRUNED, TrialState.FAIL
    ended = [
        trial(0, state=pruned), trial(1, state=pruned), trial(2, 1.0, broken=1.0), trial(3, 5.0),
        trial(4, state=pruned), trial(5, state=failed), trial(6, 1.0, broken=1.0), trial(7, 9.0),
    ]  # fmt: skip
    assert first_stop(StopRules(LOSS, StopSpec(no_improvement=2)), ended) == (
        7,
        "no better value in 2 trials (since trial 3)",
    )


def test_with_several_goals_only_what_the_front_takes_in_improves() -> None:
    # Loss down, accuracy up. 1 is worse in loss and better in accuracy: larger. 2 equals 0. 3 is beaten by 1.
    ended = [trial(0, 1.0, 0.5), trial(1, 2.0, 0.9), trial(2, 1.0, 0.5), trial(3, 3.0, 0.8)]
    assert first_stop(StopRules(TWO, StopSpec(no_improvement=2)), ended) == (
        4,
        "no larger hypervolume in 2 trials (since trial 1)",
    )


def test_the_target_must_be_met_by_one_feasible_trial_in_every_goal_it_names() -> None:
    rules = StopRules(TWO, StopSpec(target={"loss": 1.0, "accuracy": 0.9}))
    ended = [
        trial(0, 0.5, 0.8),
        trial(1, 1.5, 0.95),
        trial(2, 0.5, 0.95, broken=2.0),
        trial(3, 1.0, 0.9),
        trial(4, 0, 1),
    ]
    assert first_stop(rules, ended) == (4, "trial 3 reached the target (loss 1 for 1, accuracy 0.9 for 0.9)")


def test_hours_are_summed_over_what_was_worked() -> None:
    rules = StopRules(LOSS, StopSpec(hours=1.5), worked_s=lambda number: 1800.0)
    found = first_stop(rules, [trial(i, float(-i)) for i in range(9)])
    assert found == (3, "1.5 hours of work are done, of 1.5 allowed")


def test_a_trial_that_is_to_go_on_has_not_ended() -> None:
    rules = StopRules(LOSS, StopSpec(target={"loss": 1.0}, hours=1.0), worked_s=lambda number: 9999.0)
    assert first_stop(rules, [trial(0, 0.5, state=TrialState.QUEUED)]) is None


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_with_a_lag_the_order_in_which_trials_end_changes_nothing(lag: int) -> None:
    """Met by trials 0 to 4 (1 improved last), so trial 4 + lag is the first that may know."""
    values = [5.0, 4.0, 4.0, 7.0, 6.0, 1.0, 0.5, 0.1]
    for seed in range(20):
        rules, shuffled = StopRules(LOSS, StopSpec(no_improvement=3), lag=lag), random.Random(seed)
        waiting: list[TrialRecord] = []
        for number in range(4 + lag):
            assert rules.spent(number) is None
            waiting.append(trial(number, values[number]))
            shuffled.shuffle(waiting)
            # In flight stay fewer than the concurrency, and trial n waits for n + 1 - lag.
            for record in [r for r in waiting if r.number <= number + 1 - lag or shuffled.random() < 0.5]:
                waiting.remove(record)
                rules.finished(record)
        assert rules.spent(4 + lag) == "no better value in 3 trials (since trial 1)"


def test_a_launch_says_why_it_ends_and_the_next_says_it_again(tmp_path: Path, sqlite_url: str) -> None:
    stop = {"target": {"f1": 1000.0}}  # any point of branin's is below
    first = launch(tmp_path, sqlite_url, stop=stop)
    assert len(first.snapshot.trials) == 1
    assert first.stop_rule is not None and first.stop_rule.startswith("trial 0 reached the target (f1 ")
    again = launch(tmp_path, sqlite_url, stop=stop)
    assert (len(again.snapshot.trials), again.stop_rule) == (1, first.stop_rule)
    assert rows(sqlite_url, "SELECT message FROM hpo_events WHERE kind = 'stop_rule'") == [(first.stop_rule,)]
    onwards = launch(tmp_path, sqlite_url, stop={"target": {"f1": -1.0}})
    assert (len(onwards.snapshot.trials), onwards.stop_rule) == (8, None)


@pytest.mark.parametrize("fields", [{}, {"deterministic": True, "concurrency": 3}])
def test_an_interrupted_search_ends_where_an_unbroken_one_does(
    tmp_path: Path, sqlite_url: str, fields: dict[str, Any]
) -> None:
    fields = {"stop": {"no_improvement": 3}, "budget": {"trials": 40, "epochs": 2}, **fields}
    whole = launch(tmp_path, f"sqlite:///{tmp_path / 'whole.db'}", **fields)
    assert whole.stop_rule is not None and len(whole.snapshot.trials) < 40
    launch(tmp_path, sqlite_url, **{**fields, "budget": {"trials": 3, "epochs": 2}, "stop": {}})
    resumed = launch(tmp_path, sqlite_url, **fields)
    assert (len(resumed.snapshot.trials), resumed.stop_rule) == (len(whole.snapshot.trials), whole.stop_rule)


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ({"target": {"loss": 1.0}}, "stop.target: Unknown goal 'loss'"),
        ({"target": {"f1": float("inf")}}, "f1 must be a finite number"),
        ({"no_improvement": 7}, "7 trials without an improvement can never stop a search of 8"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(tmp_path: Path, sqlite_url: str, stop: Any, message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        launch(tmp_path, sqlite_url, stop=stop)
