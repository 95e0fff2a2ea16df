"""How far off a position on Earth is, in metres, and whether the model knew.

NumPy: neither torchmetrics nor a paired form in scikit-learn has great circles.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

EARTH_RADIUS_M = 6_371_008.8  # mean radius of WGS 84 (Moritz 2000, doi:10.1007/s001900050278)
NAMES = ("mae_m", "within_30m", "within_50m", "within_100m")
HIGHER_IS_BETTER = frozenset({"within_30m", "within_50m", "within_100m"})
BINS = 10
MIN_ROWS_PER_BIN = 20


def great_circle_m(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Metres along the sphere from each row of ``a`` to the same row of ``b``: (n,) float64.

    The haversine formula (Sinnott 1984, Sky and Telescope 68:159), exact to the sphere at any
    distance; the sphere is within 0.6 % of the ellipsoid.

    Args:
        a, b: (n, 2) degrees, latitude first. A latitude beyond 90 goes on over the pole.

    Raises:
        ValueError: the shapes differ or are not (n, 2).
    """
    p, q = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if p.shape != q.shape or p.ndim != 2 or p.shape[1] != 2:
        raise ValueError(f"Positions must have shape (n, 2), latitude first; got {p.shape} and {q.shape}.")
    (lat_p, lon_p), (lat_q, lon_q) = np.radians(p).T, np.radians(q).T
    with np.errstate(invalid="ignore"):
        h = np.sin((lat_q - lat_p) / 2) ** 2 + np.cos(lat_p) * np.cos(lat_q) * np.sin((lon_q - lon_p) / 2) ** 2
        return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


def localization_metrics(
    positions: ArrayLike, targets: ArrayLike, prefix: str = "", *, sigma_m: ArrayLike | None = None
) -> dict[str, float]:
    """All of ``NAMES``, each with ``prefix``, and ``calibration_error_m`` where ``sigma_m`` is given.

    ``mae_m`` is the mean great-circle distance in metres; shares are in [0, 1], the bound
    included.

    Args:
        positions, targets: (n, 2) degrees, latitude first.
        sigma_m: (n, 2) predicted standard deviations north and east, in metres.

    Without rows all is NaN. A position that is not finite counts as a miss and makes the rest NaN.

    Raises:
        ValueError: the shapes do not fit.
    """
    distance = great_circle_m(positions, targets)
    values = dict.fromkeys(NAMES, math.nan)
    if len(distance):
        values = {"mae_m": float(distance.mean())}
        values.update({f"within_{bound}m": float(np.mean(distance <= bound)) for bound in (30, 50, 100)})
    if sigma_m is not None:
        values["calibration_error_m"] = calibration_error_m(distance, sigma_m)
    return {prefix + name: value for name, value in values.items()}


def calibration_error_m(distance_m: ArrayLike, sigma_m: ArrayLike) -> float:
    """|expected error − predicted σ| in metres; 0 for a model that knows how far off it is.

    Rows are sorted by predicted σ into bins of equal size (``BINS``, fewer where a bin would
    have under ``MIN_ROWS_PER_BIN`` rows). In each bin the error to expect is the root of the
    mean squared distance, and the predicted σ the root of the mean of σ_north² + σ_east²:
    squared, the second is the expectation of the first if the Gaussians are right, which
    mean distance and mean σ are not (their ratio is 1.25 for a perfect model). The result
    is the mean of their absolute differences, weighted by rows. Levi et al. 2022
    (doi:10.3390/s22155540) divide each by the predicted σ (ENCE); metres need no such division.

    Args:
        distance_m: (n,) errors.
        sigma_m: (n, 2), at least 0.

    NaN without rows, and where a distance or σ is not finite.

    Raises:
        ValueError: the shapes do not fit, or a σ is below 0.
    """
    distance, sigma = np.asarray(distance_m, dtype=np.float64), np.asarray(sigma_m, dtype=np.float64)
    if distance.ndim != 1 or sigma.shape != (len(distance), 2):
        raise ValueError(f"Each of (n,) distances needs two σ, (n, 2); got {distance.shape} and {sigma.shape}.")
    if (sigma < 0).any():
        raise ValueError(f"A standard deviation is at least 0; the lowest is {sigma.min()}.")
    if not len(distance) or not (np.isfinite(distance).all() and np.isfinite(sigma).all()):
        return math.nan
    variance = (sigma**2).sum(axis=1)
    bins = np.array_split(np.argsort(variance, kind="stable"), min(BINS, max(1, len(distance) // MIN_ROWS_PER_BIN)))
    off = [abs(math.sqrt(np.mean(distance[rows] ** 2)) - math.sqrt(np.mean(variance[rows]))) for rows in bins]
    return float(np.average(off, weights=[len(rows) for rows in bins]))


def gaussian_nll_terms(mean: ArrayLike, sigma: ArrayLike, targets: ArrayLike, prefix: str = "") -> dict[str, float]:
    """``log_sigma_term``, ``squared_error_term`` and their sum ``nll``, each with ``prefix``.

    The means of log σ and of (y − μ)²/2σ² over rows and axes, in the units of the arguments
    (the loss is taken in normalised ones); the constant log √2π is left out. For a calibrated
    model the second is 0.5.

    Args:
        mean, sigma, targets: of one shape; σ above 0.

    NaN without rows.

    Raises:
        ValueError: the shapes differ, or a σ is not above 0.
    """
    m, s, y = (np.asarray(values, dtype=np.float64) for values in (mean, sigma, targets))
    if not m.shape == s.shape == y.shape:
        raise ValueError(f"Means, σ and targets must have one shape; got {m.shape}, {s.shape} and {y.shape}.")
    if (s <= 0).any():
        raise ValueError(f"A standard deviation must be above 0; the lowest is {s.min()}.")
    first = float(np.log(s).mean()) if s.size else math.nan
    second = float(((y - m) ** 2 / (2 * s**2)).mean()) if s.size else math.nan
    return {prefix + "log_sigma_term": first, prefix + "squared_error_term": second, prefix + "nll": first + second}
