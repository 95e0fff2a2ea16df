"""Intervals against scipy's and against what normal theory says; clusters, seeds, undefined metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
from scipy import stats

from hpo.evaluation.groups import group_metrics
from hpo.evaluation.intervals import bootstrap_intervals, split_intervals
from hpo.evaluation.regression import regression_metrics
from hpo.training.task import Split


def some(p: np.ndarray, t: np.ndarray) -> Mapping[str, float]:
    error = np.abs(p - t)
    return {"mae": float(error.mean()), "r": float(np.corrcoef(p, t)[0, 1]), "median": float(np.median(error))}


def made(rows: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=rows)
    return targets + rng.normal(0, 0.5, rows), targets


@pytest.mark.parametrize("name", ["mae", "r", "median"])
def test_intervals_equal_scipys_percentile_bootstrap(name: str) -> None:
    p, t = made()
    ours = bootstrap_intervals(some, p, t, seed=1, resamples=4000)[name]
    theirs = stats.bootstrap(
        (p, t), lambda a, b: some(a, b)[name], paired=True, vectorized=False, n_resamples=4000,
        method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)
    assert (ours.level, ours.resamples) == (0.95, 4000)


def test_intervals_of_a_mean_are_as_wide_as_normal_theory_says_at_any_level() -> None:
    p, t = made(2000)
    error = p - t
    for level in (0.5, 0.9, 0.99):
        found = bootstrap_intervals(lambda a, b: {"m": float(np.mean(a - b))}, p, t, seed=0, level=level)["m"]
        half = stats.norm.ppf((1 + level) / 2) * error.std() / math.sqrt(len(error))
        assert (found.low, found.high) == pytest.approx((error.mean() - half, error.mean() + half), abs=0.15 * half)


def test_nine_in_ten_intervals_at_level_09_hold_the_truth() -> None:
    hits = 0
    for seed in range(200):
        p = np.random.default_rng(seed).normal(3, 1, 60)
        found = bootstrap_intervals(lambda a, b: {"m": float(a.mean())}, p, p, seed=seed, resamples=300, level=0.9)
        hits += found["m"].low <= 3 <= found["m"].high
    assert 0.83 <= hits / 200 <= 0.95  # 0.9 give or take three standard errors, and a little too narrow by nature


def test_the_seed_decides() -> None:
    p, t = made()
    first = bootstrap_intervals(some, p, t, seed=5, resamples=50)
    assert first == bootstrap_intervals(some, p, t, seed=5, resamples=50)
    assert first != bootstrap_intervals(some, p, t, seed=6, resamples=50)


def test_rows_of_a_cluster_are_drawn_together() -> None:
    seen: list[np.ndarray] = []
    clusters = np.array(["b", "a", "b", "c", "a", "b"])

    def watch(p: np.ndarray, t: np.ndarray) -> Mapping[str, float]:
        seen.append(p)
        return {"n": float(len(p))}

    bootstrap_intervals(watch, np.arange(6), np.arange(6), seed=0, resamples=40, clusters=clusters)
    for rows in seen[1:]:
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[2] == counts[5] and counts[1] == counts[4]
        assert counts[0] + counts[1] + counts[3] == 3  # as many clusters as there are


def test_clusters_of_equal_rows_make_an_interval_as_wide_as_that_of_one_row_each() -> None:
    p, t = made(100)
    alone = bootstrap_intervals(some, p, t, seed=0)["mae"]
    copied = [np.repeat(side, 9) for side in (p, t)]
    whole = bootstrap_intervals(some, *copied, seed=0, clusters=np.repeat(np.arange(100), 9))["mae"]
    apart = bootstrap_intervals(some, *copied, seed=0)["mae"]
    assert whole.high - whole.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert apart.high - apart.low == pytest.approx((alone.high - alone.low) / 3, rel=0.1)


def test_a_metric_undefined_in_some_resamples_rests_on_the_others() -> None:
    # The mean of rows above 0, of which there is one in five: no such row in 0.8^5 = 33 % of the draws.
    p = np.array([-1.0, -1, -1, -1, 2.0])
    mean_above = partial(lambda a, b: {"m": float(a[a > 0].mean()) if (a > 0).any() else math.nan})
    found = bootstrap_intervals(mean_above, p, p, seed=0)["m"]
    assert (found.low, found.high) == (2, 2)
    assert found.resamples == pytest.approx(672, abs=45)


def test_a_metric_undefined_in_most_resamples_has_no_interval() -> None:
    # All three rows are different in 3!/3³ = 22 % of the draws only.
    distinct = {3: 1.0}
    found = bootstrap_intervals(lambda a, b: {"m": distinct.get(len(set(a)), math.nan)}, [1, 2, 3], [1, 2, 3], seed=0)
    assert math.isnan(found["m"].low) and math.isnan(found["m"].high)
    assert found["m"].resamples == pytest.approx(222, abs=40)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_has_no_interval(value: float) -> None:
    found = bootstrap_intervals(lambda a, b: {"m": value}, *made(20), seed=0, resamples=10)["m"]
    assert math.isnan(found.low) and math.isnan(found.high) and found.resamples == 0


def test_one_cluster_or_no_row_says_nothing() -> None:
    assert math.isnan(bootstrap_intervals(some, *made(9), seed=0, clusters=["a"] * 9)["mae"].low)
    empty = bootstrap_intervals(lambda p, t: regression_metrics(p, t), [], [], seed=0)
    assert math.isnan(empty["mae"].high)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        bootstrap_intervals(some, [1, 2], [1, 2, 3], seed=0)
    with pytest.raises(ValueError, match="got 0 and 0.95"):
        bootstrap_intervals(some, [1, 2], [1, 2], seed=0, resamples=0)
    with pytest.raises(ValueError, match="got 1000 and 1.0"):
        bootstrap_intervals(some, [1, 2], [1, 2], seed=0, level=1.0)
    with pytest.raises(ValueError, match=r"got 2 rows and clusters of shape \(1,\)"):
        bootstrap_intervals(some, [1, 2], [1, 2], seed=0, clusters=["a"])


def test_a_splits_intervals_are_named_for_the_test_set_and_know_the_groups_of_drawn_rows() -> None:
    p, t = made(60)
    kinds, logos = np.array(["text", "simple"] * 30), np.repeat(np.arange(20), 3)

    def judge(o: object, g: object, rows: np.ndarray) -> Mapping[str, float]:
        own = partial(regression_metrics, prefix="val_")
        return {**own(o, g), **group_metrics(own, o, g, kinds[rows]).values}

    split = Split((), lambda o, g: judge(o, g, np.arange(60)), judge, logos)
    p = t + np.where(kinds == "text", 1.0, 0.0)
    found = split_intervals(split, p, t, seed=3, resamples=60)
    assert {"test_mae", "test_mae_text", "test_pearson_r_simple"} <= set(found)
    assert (found["test_mae_text"].low, found["test_mae_text"].high) == pytest.approx((1, 1))
    assert (found["test_mae_simple"].low, found["test_mae_simple"].high) == (0, 0)


def test_a_splits_intervals_are_those_of_its_metrics_and_clusters() -> None:
    p, t = made(60)
    logos = np.repeat(np.arange(20), 3)
    split = Split((), lambda o, g: regression_metrics(o, g, "val_"), clusters=logos)
    direct = bootstrap_intervals(regression_metrics, p, t, seed=3, resamples=60, clusters=logos)
    found = split_intervals(split, p, t, seed=3, resamples=60)
    assert found == {f"test_{name}": interval for name, interval in direct.items()}
    assert found != split_intervals(Split((), split.metrics), p, t, seed=3, resamples=60)
    assert split_intervals(Split(()), p, t, seed=0) == {}
    first = bootstrap_intervals(regression_metrics, p[:30], t[:30], seed=3, resamples=60, clusters=logos[:30])
    cut = split_intervals(split, p[:30], t[:30], seed=3, resamples=60)  # as limit_batches leaves them
    assert cut == {f"test_{name}": interval for name, interval in first.items()}
