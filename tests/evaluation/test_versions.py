"""Two versions on the same rows: counts by hand, tests and intervals beside scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hpo.evaluation.intervals import Interval
from hpo.evaluation.versions import Figure, change_interval, row_errors, standard_metrics, wins
from hpo.trial import Direction

LESS, MORE = Direction.MINIMIZE, Direction.MAXIMIZE


def test_rows_are_counted_as_better_worse_and_the_same() -> None:
    found = wins("absolute error", [3, 3, 3, 3, 2], [1, 2, 3, 4, math.nan])
    assert (found.better, found.worse, found.equal, found.rows, found.units) == (2, 2, 1, 5, 5)
    assert found.p == 1.0
    assert found.line == (
        "By absolute error the new one is better on 2 (40.0%), worse on 2 (40.0%) and the same on 1 (20.0%); "
        "sign test: p = 1."
    )


def test_the_sign_test_is_scipys_and_ties_count_for_nothing() -> None:
    old, new = np.full(20, 2.0), np.array([1.0] * 12 + [3.0] * 3 + [2.0] * 5)
    assert wins("", old, new).p == pytest.approx(stats.binomtest(12, 15).pvalue)
    assert math.isnan(wins("", old, old).p)


def test_rows_that_belong_together_have_one_voice() -> None:
    # Of a all are better, of b two of three worse, of c it is even.
    found = wins("", [1] * 8, [0, 0, 0, 2, 2, 0, 0, 2], clusters=list("aaabbbcc"))
    assert (found.better, found.worse, found.units) == (5, 3, 3)
    assert found.p == pytest.approx(stats.binomtest(1, 2).pvalue)


def test_errors_within_the_tolerance_are_the_same() -> None:
    found = wins("", [1.0, 1.0, 0.0], [1.05, 1.2, 0.0], atol=0.01, rtol=0.1)
    assert (found.better, found.worse, found.equal) == (0, 1, 2)


def test_infinite_errors_of_both_are_the_same() -> None:
    assert wins("", [math.inf, 1.0], [math.nan, 1.0]).equal == 2


def test_the_error_of_a_value_is_the_mean_over_its_axes() -> None:
    found = row_errors("value", np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [0.0, -4.0]]))
    assert found["absolute error"].tolist() == [1.5, 2.0]


def test_the_errors_of_a_class_are_being_wrong_and_the_log_loss() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    found = row_errors("class", np.log(shares), np.array([0, 2]))
    assert found["class"].tolist() == [0, 1]
    assert found["log loss"] == pytest.approx([-math.log(0.7), -math.log(0.2)])


def test_one_logit_stands_for_two_classes() -> None:
    found = row_errors("class", np.array([[2.0], [-1.0]]), np.array([[1], [1]]))
    assert found["class"].tolist() == [0, 1]
    assert found["log loss"] == pytest.approx([math.log(1 + math.exp(-2)), math.log(1 + math.exp(1))])


def test_of_a_row_of_several_places_those_that_are_padding_do_not_count() -> None:
    logits = np.zeros((1, 2, 4))
    logits[0, 1] = [5, 5, 5, 5]  # class 1 everywhere
    assert row_errors("class", logits, np.array([[1, 0, 1, -100]]))["class"] == pytest.approx([1 / 3])


def test_the_error_of_a_density_is_the_distance_of_its_mean() -> None:
    found = row_errors("gaussian", np.array([[3.0, 4.0, 9.0, 9.0]]), np.array([[0.0, 0.0]]))
    assert found["distance of the mean"].tolist() == [5.0]


def test_nothing_is_said_of_outputs_of_another_kind_or_shape() -> None:
    assert row_errors("other", np.ones((2, 2)), np.ones(2)) == {}
    assert row_errors("class", np.ones((2, 3, 5)), np.ones(2, dtype=int)) == {}


@pytest.mark.parametrize(
    ("direction", "old", "new", "change", "fall"),
    [
        (LESS, 2.0, 3.0, -1.0, 0.5),
        (LESS, 2.0, 1.0, 1.0, -0.5),
        (MORE, 0.8, 0.6, -0.2, 0.25),
        (MORE, -0.5, -0.6, -0.1, 0.2),
        (MORE, 0.0, 0.0, 0.0, 0.0),
        (LESS, 0.0, 0.1, -0.1, math.inf),
        (MORE, 0.0, 0.1, 0.1, -math.inf),
    ],
)
def test_a_fall_is_the_share_of_the_old_value_that_was_lost(
    direction: Direction, old: float, new: float, change: float, fall: float
) -> None:
    figure = Figure("m", direction, old, new)
    assert (figure.change, figure.fall) == (pytest.approx(change), pytest.approx(fall))


def test_a_new_version_without_a_value_falls_and_an_old_one_gives_no_share() -> None:
    assert Figure("m", LESS, 1.0, math.nan).fall == math.inf
    assert Figure("m", LESS, math.nan, 1.0).fall is None


def test_a_change_is_told_with_what_it_rests_on() -> None:
    unsure = Figure("test_mae", LESS, 0.5, 0.4, Interval(-0.02, 0.2, 0.95, 1000))
    assert unsure.line == (
        "test_mae: 0.5 before, 0.4 now, 0.1 better (20.00% of the old value); "
        "from 0.02 worse to 0.2 better at 95% confidence, so it may be chance."
    )
    assert "chance" not in Figure("m", LESS, 0.5, 0.4, Interval(0.01, 0.2, 0.95, 1000)).line
    assert Figure("m", MORE, 0.5, 0.5, Interval(0.0, 0.0, 0.95, 1000)).line == "m: 0.5 before, 0.5 now, the same."


def test_the_interval_is_scipys_paired_bootstrap() -> None:
    rng = np.random.default_rng(4)
    targets = rng.normal(size=120)
    old = targets + rng.normal(0, 0.6, 120)
    new = 0.7 * (old - targets) + targets + rng.normal(0, 0.1, 120)

    def r(said: np.ndarray, rows: np.ndarray) -> float:
        return float(np.corrcoef(said, targets[rows])[0, 1])

    ours = change_interval(r, old, new, MORE, seed=1, resamples=3000)
    theirs = stats.bootstrap(
        (old, new, targets), lambda a, b, t: np.corrcoef(b, t)[0, 1] - np.corrcoef(a, t)[0, 1], paired=True,
        vectorized=False, n_resamples=3000, method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * width)
    turned = change_interval(r, old, new, LESS, seed=1, resamples=3000)
    assert (turned.low, turned.high) == pytest.approx((-ours.high, -ours.low))


def test_rows_of_one_cluster_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    old, gain = np.zeros(200), np.repeat(rng.normal(size=20), 10)  # ten rows of each cluster are alike

    def mean(said: np.ndarray, rows: np.ndarray) -> float:
        return float(said.mean())

    by_row = change_interval(mean, old, gain, MORE, seed=0)
    by_cluster = change_interval(mean, old, gain, MORE, seed=0, clusters=np.repeat(np.arange(20), 10))
    # A mean of 20 instead of 200 independent values: about √10 times as wide.
    assert 2.6 < (by_cluster.high - by_cluster.low) / (by_row.high - by_row.low) < 3.8


def test_usual_metrics_of_values_and_tallies_by_hand() -> None:
    said, wanted = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [2.0]])
    squared, absolute = (metrics(said, wanted) for metrics in standard_metrics("value")[:2])
    assert squared == {"loss": pytest.approx(5 / 3), "mse": pytest.approx(5 / 3), "rmse": pytest.approx((5 / 3) ** 0.5)}
    assert absolute == {"loss": 1.0, "mae": 1.0}
    (tallied,) = (
        metrics(np.array([[6.0, 1.0], [2.0, 0.0]]), np.array([3.0, 1.0])) for metrics in standard_metrics("other")
    )
    assert tallied == {"loss": 2.0, "perplexity": pytest.approx(math.e**2)}
