"""What the reports compute: histories, spending, lanes, pauses, importance, wording."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from make_snapshot import at, make_snapshot

from hpo.pareto import ParetoFront
from hpo.reports.facts import Ending, Facts
from hpo.reports.fronts import edge_shape
from hpo.reports.importance import importances
from hpo.reports.looks import clipped, wants_log
from hpo.reports.timeline import timeline
from hpo.reports.wording import duration, number, percent, with_unit
from hpo.trial import Direction, Goal, TrialState
from storage.records import AttemptRecord, Snapshot


def with_values(goals: tuple[Goal, ...], *vectors: tuple[float, ...]) -> Snapshot:
    made = make_snapshot(1, len(vectors), extras=False)
    trials = [
        replace(t, state=TrialState.COMPLETE, values=v, reason=None) for t, v in zip(made.trials, vectors, strict=True)
    ]
    return replace(made, study=replace(made.study, goals=goals, reference_point=None), trials=tuple(trials))


def test_the_best_so_far_follows_the_goals_direction() -> None:
    up = (Goal("accuracy", Direction.MAXIMIZE),)
    assert Facts(with_values(up, (0.5,), (0.4,), (0.9,))).history(0).best == (0.5, 0.5, 0.9)
    down = (Goal("loss"),)
    assert Facts(with_values(down, (0.5,), (0.4,), (0.9,))).history(0).best == (0.5, 0.4, 0.4)


def test_the_last_trials_gain_is_a_share_of_the_best_before_them() -> None:
    history = Facts(with_values((Goal("loss"),), (4.0,), (2.0,), (3.0,), (1.5,))).history(0)
    assert history.gain_of_last(2) == pytest.approx(0.25)
    assert history.gain_of_last(4) is None


def test_the_hypervolume_after_each_trial_is_that_of_the_front_so_far() -> None:
    snapshot = make_snapshot(3, 40)
    facts = Facts(snapshot)
    for i, number_ in enumerate(facts.hypervolume.numbers):
        so_far = [t for t in snapshot.trials if t.number <= number_]
        expected = ParetoFront.of(so_far, snapshot.study.goals).hypervolume(snapshot.study.reference_point or ())
        assert facts.hypervolume.best[i] == pytest.approx(expected)


def test_the_fronts_edge_bends_towards_the_dominated_side() -> None:
    assert edge_shape(Direction.MINIMIZE) == "hv"
    assert edge_shape(Direction.MAXIMIZE) == "vh"


def test_without_epochs_in_the_study_file_the_longest_trial_tells_the_horizon() -> None:
    made = make_snapshot(1, 12)
    facts = Facts(replace(made, study=replace(made.study, spec_yaml="name: x")))
    assert facts.spending is not None
    assert (facts.spending.horizon, facts.spending.assumed) == (20, True)


def test_an_attempt_that_was_taken_up_again_is_interrupted_and_the_last_ends_as_the_trial() -> None:
    shown = timeline(Facts(make_snapshot(1, 12)))
    ninth = [bar for bar in shown.bars if bar.number == 9]
    assert [bar.ending for bar in ninth] == [Ending.INTERRUPTED, Facts(make_snapshot(1, 12)).endings[9]]
    assert shown.by_worker
    assert shown.lanes == ("worker-0", "worker-1")


def test_without_workers_bars_on_one_lane_never_overlap() -> None:
    made = make_snapshot(1, 30)
    shown = timeline(Facts(replace(made, attempts=tuple(replace(a, worker=None) for a in made.attempts))))
    assert shown.lanes == ("lane 1", "lane 2")
    for lane in range(2):
        bars = sorted((bar for bar in shown.bars if bar.lane == lane), key=lambda bar: bar.start)
        assert all(a.start + a.length <= b.start + 1e-6 for a, b in pairwise(bars))


def test_a_long_pause_is_cut_out_of_the_time_axis() -> None:
    made = make_snapshot(1, 2, extras=False)
    attempts = (
        AttemptRecord(0, 1, "w", at(0), at(100), "finished"),
        AttemptRecord(1, 1, "w", at(50_100), at(50_200), "finished"),
    )
    shown = timeline(Facts(replace(made, attempts=attempts)))
    # 200 s of work; the pause of 50,000 s shrinks to a fiftieth of that.
    assert [(cut.at, cut.seconds) for cut in shown.cuts] == [(100, pytest.approx(49_996))]
    assert [bar.start for bar in shown.bars] == [0, pytest.approx(104)]
    assert shown.length == pytest.approx(204)


def test_workers_sort_as_people_count() -> None:
    made = make_snapshot(1, 12, extras=False)
    attempts = tuple(AttemptRecord(n, 1, f"worker-{n}", at(0), at(9), "finished") for n in range(12))
    assert timeline(Facts(replace(made, attempts=attempts))).lanes[1:3] == ("worker-1", "worker-2")


def _made_of(function: object, n: int) -> Snapshot:
    rng = random.Random(5)
    made = make_snapshot(1, n, extras=False)
    trials = []
    for trial in made.trials:
        params = {"a": rng.random(), "b": rng.random(), "kind": rng.choice(["x", "y"])}
        value = float(function(params))  # type: ignore[operator]
        trials.append(replace(trial, state=TrialState.COMPLETE, params=params, values=(value,), reason=None))
    return replace(made, trials=tuple(trials))


def test_importance_finds_the_parameter_that_makes_the_goal() -> None:
    (found,) = importances(Facts(_made_of(lambda p: p["a"] ** 2 + 0.01 * p["b"], 60)))
    assert found.names[0] == "a"
    assert found.shares[0] > 0.9
    assert found.is_telling
    assert sum(found.shares) == pytest.approx(1)


def test_importance_finds_a_categorical_parameter() -> None:
    (found,) = importances(Facts(_made_of(lambda p: (p["kind"] == "x") + 0.1 * p["b"], 60)))
    assert found.names[0] == "kind"


def test_importance_of_noise_says_that_nothing_was_learnt() -> None:
    noise = random.Random(1)
    (found,) = importances(Facts(_made_of(lambda p: noise.random(), 40)))
    assert not found.is_telling


def test_importance_is_too_early_with_seven_trials_and_repeats_itself() -> None:
    assert importances(Facts(_made_of(lambda p: p["a"], 7))) == []
    snapshot = _made_of(lambda p: p["a"], 12)
    assert importances(Facts(snapshot)) == importances(Facts(snapshot))


def test_axes_become_logarithmic_or_end_before_diverged_values() -> None:
    assert wants_log([0.001, 0.1, 1.0])
    assert not wants_log([-1.0, 0.1, 100.0])
    assert not wants_log([1.0, 2.0, 3.0])
    steady = [0.1 * i for i in range(40)]
    assert clipped(steady) is None
    low, high = clipped([-1e6, *steady]) or (0, 0)
    assert -1 < low < high < 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0021, "0.0021"), (123456.7, "123,457"), (float("nan"), "NaN"), (None, "–"), (3, "3"), (1e-9, "1e-09")],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert number(value) == text


def test_units_and_times_read_well() -> None:
    assert with_unit("latency_ms") == "latency_ms (ms)"
    assert with_unit("images_per_s") == "images_per_s (1/s)"
    assert with_unit("val_loss") == "val_loss"
    times = ["0.4 s", "41 s", "12 min 5 s", "3 h 20 min", "2 d 4 h"]
    assert [duration(s) for s in (0.4, 41, 725, 12_000, 187_200)] == times
    assert [percent(s) for s in (0.031, 0.5, 0.002, 0)] == ["3.1 %", "50 %", "0.20 %", "0 %"]
