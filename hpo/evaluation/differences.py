"""Two samples of one figure, such as the best values of two settings over seeds: how far apart, and how sure.

The interval is Welch's, of the difference of means with unequal spreads (Welch 1947, Biometrika 34;
Student's of the differences where the samples are pairs). A bootstrap is left out on purpose: of five
values or fewer its percentile interval is too narrow (Hesterberg 2015, doi:10.1080/00031305.2015.1089789:
by ``sqrt((n - 1) / n)`` and no quantile of t), and so few are usual here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Of two samples, the second minus the first, in the figure's own unit and sign.

    ``low`` to ``high`` holds the difference of the true means at confidence ``level``; both NaN where
    nothing can be said: fewer than two values in a sample, or no spread in either.
    ``above`` is the share of all pairs in which the second sample's value is larger, ties counted half
    (the probability of superiority; Vargha & Delaney 2000, doi:10.3102/10769986025002101), and
    ``p_ranks`` the two-sided p-value of the Mann-Whitney test of it (for pairs NaN: another test).
    """

    n: tuple[int, int]
    means: tuple[float, float]
    low: float
    high: float
    level: float
    above: float
    p_ranks: float
    paired: bool = False

    @property
    def mean(self) -> float:
        return self.means[1] - self.means[0]

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def excludes_zero(self) -> bool:
        return self.is_known and not self.low <= 0 <= self.high


def difference(
    first: Sequence[float], second: Sequence[float], *, level: float = LEVEL, paired: bool = False
) -> Difference:
    """How far the ``second`` sample's mean is from the ``first``'s.

    Args:
        first, second: finite values, at least one each; of ``paired`` ones those of one index belong together.
        level: in (0, 1).

    Raises:
        ValueError: a sample is empty, a value is not finite, or pairs do not match in number.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not len(a) or not len(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("Both samples need at least one value, and finite ones alone.")
    if paired and len(a) != len(b):
        raise ValueError(f"Pairs are as many in both samples; got {len(a)} and {len(b)}.")
    low, high = _interval(a, b, level, paired)
    sides = np.sign(b[:, None] - a[None, :])
    if paired:
        sides = np.sign(b - a)
    from scipy import stats  # half a second, which other commands should not wait for

    p_ranks = math.nan if paired else float(stats.mannwhitneyu(b, a, alternative="two-sided").pvalue)
    means = (float(a.mean()), float(b.mean()))
    return Difference((len(a), len(b)), means, low, high, level, float((sides + 1).mean() / 2), p_ranks, paired)


def _interval(a: np.ndarray, b: np.ndarray, level: float, paired: bool) -> tuple[float, float]:
    has_spread = np.ptp(b - a) > 0 if paired else np.ptp(a) > 0 or np.ptp(b) > 0
    if min(len(a), len(b)) < 2 or not has_spread:
        return math.nan, math.nan
    from scipy import stats

    with warnings.catch_warnings():
        # Nearly equal values make scipy warn of its precision; the interval is then as narrow as it looks.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_rel(b, a) if paired else stats.ttest_ind(b, a, equal_var=False)
        found = test.confidence_interval(level)
    return float(found.low), float(found.high)
