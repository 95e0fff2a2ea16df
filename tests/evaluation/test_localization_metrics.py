"""Distances against published ones and scikit-learn; calibration on errors whose spread is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import haversine_distances

from hpo.evaluation.localization import (
    EARTH_RADIUS_M,
    calibration_error_m,
    gaussian_nll_terms,
    great_circle_m,
    localization_metrics,
)


def test_nashville_to_los_angeles_is_as_far_as_published() -> None:
    # rosettacode.org/wiki/Haversine_formula: 2887.2599506071106 km on a sphere of 6372.8 km.
    found = great_circle_m([[36.12, -86.67]], [[33.94, -118.40]])
    assert found[0] / EARTH_RADIUS_M * 6372.8 == pytest.approx(2887.2599506071106, rel=1e-12)


def test_buenos_aires_to_paris_is_as_far_as_published() -> None:
    # scikit-learn's documentation: 11099.54 km on a sphere of 6371 km.
    found = great_circle_m([[-34.83333, -58.5166646]], [[49.0083899664, 2.53844117956]])
    assert found[0] / EARTH_RADIUS_M * 6371 == pytest.approx(11099.54035582, rel=1e-9)


def test_distances_equal_scikit_learn_anywhere_on_earth() -> None:
    rng = np.random.default_rng(0)
    a = np.stack([rng.uniform(-90, 90, 200), rng.uniform(-180, 180, 200)], axis=1)
    b = np.concatenate([a[:100] + rng.normal(0, 1e-4, (100, 2)), a[100:][::-1]])
    expected = np.diag(haversine_distances(np.radians(a), np.radians(b))) * EARTH_RADIUS_M
    np.testing.assert_allclose(great_circle_m(a, b), expected, rtol=1e-9, atol=1e-6)


def test_the_date_line_and_the_poles_are_no_borders() -> None:
    across = great_circle_m([[0.0, 179.9], [89.9, 0.0], [90.1, 0.0]], [[0.0, -179.9], [89.9, 180.0], [89.9, 180.0]])
    fifth = math.radians(0.2) * EARTH_RADIUS_M
    assert across[:2] == pytest.approx([fifth, fifth])
    assert across[2] == pytest.approx(0, abs=1e-3)  # 90.1 north is 89.9 on the other side


def north(metres: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Positions so many metres north of a target, and the targets."""
    target = np.tile([48.0, 11.0], (len(metres), 1))
    return target + np.stack([np.degrees(np.array(metres) / EARTH_RADIUS_M), np.zeros(len(metres))], axis=1), target


def test_mean_error_and_shares_by_hand() -> None:
    found = localization_metrics(*north([10, 29.9, 40, 99, 400]), "val_")
    assert found == pytest.approx(
        {"val_mae_m": 115.78, "val_within_30m": 0.4, "val_within_50m": 0.6, "val_within_100m": 0.8}
    )


def test_a_position_that_is_not_finite_is_a_miss() -> None:
    positions, targets = north([10, 10])
    positions[0] = math.nan
    found = localization_metrics(positions, targets, sigma_m=np.ones((2, 2)))
    assert found["within_30m"] == 0.5 and math.isnan(found["mae_m"]) and math.isnan(found["calibration_error_m"])
    assert all(map(math.isnan, localization_metrics(np.empty((0, 2)), np.empty((0, 2))).values()))


def test_calibration_error_by_hand() -> None:
    # Fewer than 40 rows are one bin: root mean square of 30, 40 is 35.36; of σ (3, 4) each, 5.
    assert calibration_error_m([30, 40], [[3, 4], [3, 4]]) == pytest.approx(math.sqrt(1250) - 5)
    # Two bins of 20: errors 10 and 100, predicted 12 and 90: (2 + 10) / 2.
    distance, sigma = np.repeat([10.0, 100.0], 20), np.repeat([[12.0, 0.0], [0.0, 90.0]], 20, axis=0)
    assert calibration_error_m(distance, sigma) == pytest.approx(6)


def test_a_model_that_knows_its_spread_is_calibrated_and_others_are_not() -> None:
    rng = np.random.default_rng(1)
    sigma = rng.uniform(5, 60, (200_000, 2))
    distance = np.linalg.norm(rng.normal(0, sigma), axis=1)
    assert calibration_error_m(distance, sigma) < 0.5
    assert calibration_error_m(distance, 2 * sigma) == pytest.approx(np.sqrt((sigma**2).sum(1)).mean(), rel=0.1)
    shuffled = sigma[rng.permutation(len(sigma))]  # right on average, and knows nothing of the single case
    assert calibration_error_m(distance, shuffled) > 5


def test_the_two_terms_add_up_to_torchs_loss() -> None:
    rng = np.random.default_rng(2)
    mean, targets, sigma = rng.normal(size=(50, 2)), rng.normal(size=(50, 2)), rng.uniform(0.01, 1, (50, 2))
    found = gaussian_nll_terms(mean, sigma, targets, "val_")
    expected = torch.nn.functional.gaussian_nll_loss(*map(torch.tensor, (mean, targets, sigma**2))).item()
    assert found["val_nll"] == pytest.approx(expected)
    assert found["val_log_sigma_term"] == pytest.approx(np.log(sigma).mean())
    calibrated = gaussian_nll_terms(np.zeros(100_000), np.full(100_000, 3.0), rng.normal(0, 3, 100_000))
    assert calibrated["squared_error_term"] == pytest.approx(0.5, abs=0.01)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(1, 3\)"):
        great_circle_m([[1, 2]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="at least 0; the lowest is -1"):
        calibration_error_m([1.0], [[-1, 1]])
    with pytest.raises(ValueError, match=r"got \(1,\) and \(1,\)"):
        calibration_error_m([1.0], [1.0])
    with pytest.raises(ValueError, match="above 0; the lowest is 0"):
        gaussian_nll_terms([0.0], [0.0], [0.0])
