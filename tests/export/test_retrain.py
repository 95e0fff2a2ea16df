"""What retraining showed, with numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from hpo.errors import ExportFailed
from hpo.export.retrain import luck, ship, summarise
from hpo.trial import Direction, Goal, StopKind, StopReason, TrialRecord, TrialState

LOSS = Goal("val_loss")
R = Goal("val_r", Direction.MAXIMIZE)


def run(number: int, state: TrialState = TrialState.COMPLETE, **metrics: float) -> TrialRecord:
    reason = StopReason(StopKind.ERROR, "out of memory") if state is TrialState.FAIL else None
    return TrialRecord(number, state, {}, seed=100 + number, metrics=metrics, reason=reason, best_step=4)


PROMISE = run(17, val_loss=0.10, val_r=0.90)
RUNS = [
    run(0, val_loss=0.14, val_r=0.92, test_loss=0.2),
    run(1, val_loss=0.10, val_r=0.88, test_loss=0.3),
    run(2, val_loss=0.12, val_r=0.96, test_loss=0.4),
]


def test_mean_spread_and_difference_are_those_of_the_seeds() -> None:
    summary = summarise(PROMISE, RUNS, [LOSS, R], LOSS)
    loss = summary.spreads["val_loss"]
    assert (loss.n, loss.promised) == (3, 0.10)
    assert loss.mean == pytest.approx(0.12)
    assert loss.std == pytest.approx(0.02)  # sqrt((0.02² + 0.02² + 0) / 2)
    assert loss.difference == pytest.approx(0.02)
    assert summary.spreads["test_loss"].promised is None
    assert summary.spreads["test_loss"].mean == pytest.approx(0.3)
    assert [(s.number, s.seed, s.best_step) for s in summary.seeds] == [(0, 100, 4), (1, 101, 4), (2, 102, 4)]
    assert summary.lines == (
        "val_loss: promised 0.1, got 0.12 ± 0.02 over 3 seeds: 0.02 worse, 1.0 times the spread between seeds.",
        "val_r: promised 0.9, got 0.92 ± 0.04 over 3 seeds: 0.02 better, 0.5 times the spread between seeds.",
    )


def test_the_seed_with_the_best_validation_value_ships_whatever_the_test_set_says() -> None:
    assert ship(RUNS, LOSS).number == 1
    assert ship(RUNS, R).number == 2


def test_ties_go_to_the_lowest_number_whatever_the_order() -> None:
    assert ship([run(5, val_loss=0.1), run(2, val_loss=0.1), run(3, val_loss=0.2)], LOSS).number == 2


def test_a_failed_or_nan_seed_neither_ships_nor_counts_but_is_told() -> None:
    runs = [run(0, val_loss=math.nan), run(1, TrialState.FAIL, val_loss=0.01), run(2, val_loss=0.3)]
    summary = summarise(PROMISE, runs, [LOSS], LOSS, promised_epochs=9, epochs=30)
    assert summary.shipped == 2
    loss = summary.spreads["val_loss"]
    assert (loss.values, loss.std) == ((0.3,), None)
    assert summary.lines == (
        "val_loss: promised 0.1, got 0.3 over one seed, so its spread is unknown: 0.2 worse.",
        "The search trained for 9 epochs, retraining for 30; schedules ran over these budgets, "
        "so the two are not the same training.",
        "1 of 3 seeds did not complete. Run 1: out of memory.",
    )


@pytest.mark.parametrize("runs", [[], [run(1, TrialState.FAIL)], [run(1, val_loss=math.inf)]])
def test_without_one_finite_value_nothing_ships(runs: Sequence[TrialRecord]) -> None:
    with pytest.raises(ExportFailed, match="one seed must complete with a finite val_loss"):
        summarise(PROMISE, runs, [LOSS], LOSS)


def test_fresh_seeds_can_take_the_win_away() -> None:
    promises = [run(3, val_loss=0.10), run(8, val_loss=0.11), run(9, val_loss=0.30)]
    runs = [run(0, val_loss=0.20), run(1, val_loss=0.10), run(2, val_loss=0.24), run(3, val_loss=0.14)]
    runs.append(run(4, TrialState.FAIL))
    found = luck(promises, runs, {0: 3, 2: 3, 1: 8, 3: 8, 4: 9}, [LOSS])
    assert (found.promised_winner, found.winner) == (3, 8)
    assert found.spreads[3]["val_loss"].mean == pytest.approx(0.22)
    assert found.spreads[8]["val_loss"].std == pytest.approx(math.sqrt(2 * 0.02**2))
    assert [(t.number, t.values) for t in found.confirmed] == [(3, pytest.approx((0.22,))), (8, pytest.approx((0.12,)))]
    assert "Trial 9 was not confirmed: no seed gave all of its goals." in found.lines
    assert found.lines[-1] == "Trial 8 wins; trial 3, which the search put first, was helped by its seed."


def test_a_policy_of_several_goals_picks_from_the_confirmed_means() -> None:
    promises = [run(1, val_loss=0.1, val_r=0.5), run(2, val_loss=0.2, val_r=0.9)]
    runs = [run(0, val_loss=0.1, val_r=0.5), run(1, val_loss=0.2, val_r=0.9)]

    def widest(trials: Sequence[TrialRecord]) -> int:
        return max(trials, key=lambda t: t.metrics["val_r"]).number

    found = luck(promises, runs, {0: 1, 1: 2}, [LOSS, R], widest)
    assert found.winner == 2 and found.lines[-1] == "Trial 2 remains the winner."


def test_when_nothing_was_confirmed_it_is_an_error_that_says_why() -> None:
    with pytest.raises(ExportFailed, match="none did. Run 0: out of memory"):
        luck([run(3, val_loss=0.1)], [run(0, TrialState.FAIL)], {0: 3}, [LOSS])


@pytest.mark.parametrize("values", [(0.3, 0.1 + 0.2), (0.1 + 0.2, 0.1 + 0.2)])
def test_a_difference_of_rounding_is_as_promised(values: tuple[float, float]) -> None:
    runs = [run(i, val_loss=value) for i, value in enumerate(values)]
    (line,) = summarise(run(9, val_loss=0.3), runs, [LOSS], LOSS).lines
    assert line.startswith("val_loss: promised 0.3, got 0.3")
    assert line.endswith("over 2 seeds: as promised.")
