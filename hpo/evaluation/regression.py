"""The numbers that say how close predictions come to their targets.

From torchmetrics where it has them, on all rows at once and in float64. Not its
``r2_score``: that takes every residual sum below 1e-4 for zero, so ten rows 0.001 off
score a perfect 1 whatever the target's spread.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

NAMES = (
    "mse", "mae", "rmse", "r2", "pearson_r", "pearson_p", "within_0_1", "within_0_05", "max_abs_error",
    "median_abs_error",
)  # fmt: skip
HIGHER_IS_BETTER = frozenset({"r2", "pearson_r", "within_0_1", "within_0_05"})


def regression_metrics(predictions: ArrayLike, targets: ArrayLike, prefix: str = "") -> dict[str, float]:
    """All of ``NAMES``, each with ``prefix``, computed in float64.

    Args:
        predictions, targets: of equal size, any shape; read in order. Errors have the
            target's unit; shares (``within_``) are in [0, 1], the bound included.

    What is undefined is NaN and never an exception: r2 where the targets do not vary, r
    where either side does not, p with fewer than three rows, everything with none. A
    prediction that is not finite counts as a miss for the shares and makes the rest NaN
    (or infinite, where an infinite error has a place in the formula).

    Raises:
        ValueError: the sizes differ.
    """
    p = np.array(predictions, dtype=np.float64).ravel()
    t = np.array(targets, dtype=np.float64).ravel()
    if p.size != t.size:
        raise ValueError(f"As many predictions as targets are needed; got {p.size} and {t.size}.")
    if p.size == 0:
        return {prefix + name: math.nan for name in NAMES}
    with np.errstate(all="ignore"):
        values = {**_of_torchmetrics(p, t), **_own(np.abs(p - t))}
    values["pearson_r"] = pearson_r(p, t)
    values["pearson_p"] = pearson_p(values["pearson_r"], p.size)
    return {prefix + name: values[name] for name in NAMES}


def _of_torchmetrics(p: np.ndarray, t: np.ndarray) -> dict[str, float]:
    import torch
    from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error

    said, wanted = torch.from_numpy(p), torch.from_numpy(t)
    mse = float(mean_squared_error(said, wanted))
    return {
        "mse": mse,
        "mae": float(mean_absolute_error(said, wanted)),
        "rmse": math.sqrt(mse),
        "r2": 1 - mse / float(np.var(t)) if np.ptp(t) > 0 else math.nan,
    }


def _own(error: np.ndarray) -> dict[str, float]:
    return {
        # A prediction of 0.8 for 0.9 is 0.1 off, whatever the last bit says.
        "within_0_1": float(np.mean(error <= 0.1 + 1e-12)),
        "within_0_05": float(np.mean(error <= 0.05 + 1e-12)),
        "max_abs_error": float(error.max()),
        "median_abs_error": float(np.median(error)) if np.isfinite(error).all() else math.nan,
    }


def pearson_r(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of two equally long float64 vectors in [-1, 1].

    NaN where one does not vary or is not finite: torchmetrics would warn, or, where a
    constant's mean rounds, correlate the rounding.
    """
    if a.size < 2 or not all(np.isfinite(side).all() and np.ptp(side) > 0 for side in (a, b)):
        return math.nan
    import torch
    from torchmetrics.functional.regression import pearson_corrcoef

    return float(pearson_corrcoef(torch.from_numpy(a), torch.from_numpy(b)))


def pearson_p(r: float, rows: int) -> float:
    """Two-sided p of ``r`` under no correlation of normal data, as ``scipy.stats.pearsonr`` gives it."""
    if rows < 3 or math.isnan(r):
        return math.nan
    from scipy.special import betainc

    half = rows / 2 - 1
    return float(min(1.0, 2 * betainc(half, half, 0.5 * (1 - abs(r)))))
