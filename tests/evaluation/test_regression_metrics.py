"""Every number against scikit-learn and SciPy, and what is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from hpo.evaluation.regression import NAMES, regression_metrics


@pytest.mark.parametrize("rows", [3, 10, 500])
@pytest.mark.parametrize("noise", [0.01, 0.3, 5.0])
def test_every_metric_equals_scikit_learn_and_scipy(rows: int, noise: float) -> None:
    rng = np.random.default_rng(rows)
    targets = rng.random(rows)
    predictions = targets + rng.normal(0, noise, rows)
    ours = regression_metrics(predictions, targets)
    expected = stats.pearsonr(predictions, targets)
    assert ours == pytest.approx(
        {
            "mse": sklearn_metrics.mean_squared_error(targets, predictions),
            "mae": sklearn_metrics.mean_absolute_error(targets, predictions),
            "rmse": sklearn_metrics.root_mean_squared_error(targets, predictions),
            "r2": sklearn_metrics.r2_score(targets, predictions),
            "pearson_r": expected.statistic,
            "pearson_p": expected.pvalue,
            "within_0_1": np.mean(abs(predictions - targets) <= 0.1),
            "within_0_05": np.mean(abs(predictions - targets) <= 0.05),
            "max_abs_error": sklearn_metrics.max_error(targets, predictions),
            "median_abs_error": sklearn_metrics.median_absolute_error(targets, predictions),
        },
        rel=1e-9,
        abs=1e-300,
    )
    assert tuple(ours) == NAMES


def test_the_bound_of_a_share_belongs_to_it() -> None:
    found = regression_metrics([0.8, 0.85, 0.5], [0.9, 0.9, 0.9])
    assert found["within_0_1"] == pytest.approx(2 / 3)
    assert found["within_0_05"] == pytest.approx(1 / 3)


def test_columns_and_rows_count_the_same() -> None:
    column = regression_metrics(np.array([[0.1], [0.4]], np.float32), np.array([[0.2], [0.3]], np.float32))
    assert column["mae"] == pytest.approx(0.1)


def test_undefined_numbers_are_nan_and_never_an_exception() -> None:
    constant = regression_metrics([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert math.isnan(constant["pearson_r"]) and math.isnan(constant["pearson_p"])
    assert constant["mae"] == pytest.approx(0.3)
    flat = regression_metrics([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])
    assert math.isnan(flat["r2"]) and math.isnan(flat["pearson_r"])
    assert all(math.isnan(value) for value in regression_metrics([], []).values())
    assert math.isnan(regression_metrics([1.0, 2.0], [1.0, 3.0])["pearson_p"])
    assert regression_metrics([0.5], [0.5])["mse"] == 0


def test_a_prediction_that_is_not_finite_is_a_miss() -> None:
    found = regression_metrics([math.nan, 0.5], [0.5, 0.5])
    assert found["within_0_1"] == 0.5
    assert math.isnan(found["mse"]) and math.isnan(found["median_abs_error"])
    assert regression_metrics([math.inf, 0.5], [0.5, 0.4])["max_abs_error"] == math.inf


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        regression_metrics([1, 2], [1, 2, 3])


def test_names_are_python_keywords_with_their_prefix() -> None:
    assert all(name.isidentifier() for name in regression_metrics([1, 2], [1, 2], prefix="val_"))


def test_numbers_hold_for_targets_of_any_size_and_spread() -> None:
    rng = np.random.default_rng(7)
    for offset, scale in [(0.0, 1e-4), (1e6, 1.0), (0.9, 1e-3), (0.0, 1e9)]:
        targets = offset + scale * rng.random(12)
        predictions = targets + scale * rng.normal(0, 0.2, 12)
        found = regression_metrics(predictions, targets)
        assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(targets, predictions), rel=1e-6)
        assert found["pearson_r"] == pytest.approx(stats.pearsonr(predictions, targets).statistic, rel=1e-6)


def test_a_constant_whose_mean_rounds_does_not_correlate(recwarn: pytest.WarningsRecorder) -> None:
    constant = [0.1] * 10
    assert math.isnan(regression_metrics(constant, np.arange(10))["pearson_r"])
    assert math.isnan(regression_metrics(np.arange(10), constant)["r2"])
    assert not recwarn.list
