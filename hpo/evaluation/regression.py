"""The numbers that say how close predictions come to their targets.

NumPy and scipy.special, not torchmetrics: the latter takes 3 s to import, in every worker,
for ten formulas. Checked against scikit-learn and SciPy in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc

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
    prediction that is not finite counts as a miss for the shares and makes the rest NaN.

    Raises:
        ValueError: the sizes differ.
    """
    p = np.asarray(predictions, dtype=np.float64).ravel()
    t = np.asarray(targets, dtype=np.float64).ravel()
    if p.size != t.size:
        raise ValueError(f"As many predictions as targets are needed; got {p.size} and {t.size}.")
    if p.size == 0:
        return {prefix + name: math.nan for name in NAMES}
    with np.errstate(all="ignore"):
        values = _values(p, t)
    return {prefix + name: float(values[name]) for name in NAMES}


def _values(p: np.ndarray, t: np.ndarray) -> Mapping[str, float]:
    error = np.abs(p - t)
    mse = float(np.mean(error**2))
    spread = float(np.mean((t - t.mean()) ** 2))
    r = pearson_r(p, t)
    finite = bool(np.isfinite(error).all())
    return {
        "mse": mse,
        "mae": float(error.mean()),
        "rmse": math.sqrt(mse) if mse >= 0 else math.nan,
        "r2": 1 - mse / spread if np.ptp(t) > 0 else math.nan,
        "pearson_r": r,
        "pearson_p": pearson_p(r, p.size),
        # A prediction of 0.8 for 0.9 is 0.1 off, whatever the last bit says.
        "within_0_1": float(np.mean(error <= 0.1 + 1e-12)),
        "within_0_05": float(np.mean(error <= 0.05 + 1e-12)),
        "max_abs_error": float(error.max()),
        "median_abs_error": float(np.median(error)) if finite else math.nan,
    }


def pearson_r(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of two equally long vectors in [-1, 1]; NaN where one does not vary."""
    if a.size < 2 or not np.ptp(a) > 0 or not np.ptp(b) > 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else math.nan


def pearson_p(r: float, rows: int) -> float:
    """Two-sided p of ``r`` under no correlation of normal data, as ``scipy.stats.pearsonr`` gives it."""
    if rows < 3 or math.isnan(r):
        return math.nan
    half = rows / 2 - 1
    return float(min(1.0, 2 * betainc(half, half, 0.5 * (1 - abs(r)))))
