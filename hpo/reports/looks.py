"""How endings look, on the page and in the plots, and which axes want a log scale.

Colour never stands alone: each ending has its own marker too. The page's colours are CSS
variables (``templates/report.css``), so that light and dark each have their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hpo.reports.facts import Ending


@dataclass(frozen=True)
class Look:
    """``css`` for the page (light and dark), ``colour`` for the PNG plots (white ground)."""

    css: str
    colour: str
    symbol: str  # plotly's name
    marker: str  # matplotlib's


def _look(ending: Ending, colour: str, symbol: str, marker: str) -> Look:
    return Look(f"var(--{ending.slug})", colour, symbol, marker)


LOOKS = {
    Ending.COMPLETE: _look(Ending.COMPLETE, "#3569cf", "circle", "o"),
    Ending.EARLY: _look(Ending.EARLY, "#12907f", "diamond-open", "D"),
    Ending.TIME_LIMIT: _look(Ending.TIME_LIMIT, "#5f8a1f", "square-open", "s"),
    Ending.PRUNED: _look(Ending.PRUNED, "#c57f12", "x", "x"),
    Ending.FAILED: _look(Ending.FAILED, "#cc3a3a", "triangle-down", "v"),
    Ending.RUNNING: _look(Ending.RUNNING, "#7d8794", "circle-open", "o"),
    Ending.QUEUED: _look(Ending.QUEUED, "#b4bac4", "circle-open", "o"),
    Ending.INTERRUPTED: _look(Ending.INTERRUPTED, "#8d74b0", "line-ns", "|"),
}
ACCENT = Look("var(--accent)", "#c22577", "star", "*")  # the recommended trial, the running best
MUTED = Look("var(--muted)", "#7d8794", "circle", "o")
INFEASIBLE = Look("var(--muted)", "#7d8794", "circle-open", "o")  # breaks a constraint
# One colour per goal, apart from those of the endings.
SERIES = [
    Look(f"var(--goal-{n})", colour, "circle", "o")
    for n, colour in enumerate(("#4a63b8", "#8a4fa3", "#2b7f8f", "#8c6b2f"), start=1)
]


def wants_log(values: Iterable[float]) -> bool:
    """Whether the bulk of the values spans more than a factor of 25, all of them above 0."""
    found = _finite(values)
    if len(found) < 3 or found.min() <= 0:
        return False
    low, high = np.percentile(found, [2, 98])
    return bool(high / low > 25)


def clipped(values: Iterable[float]) -> tuple[float, float] | None:
    """Where to end a linear axis so that a few diverged values do not flatten the rest; None: all fits."""
    found = _finite(values)
    if len(found) < 8:
        return None
    low, high = np.percentile(found, [5, 95])
    if np.ptp(found) <= 20 * (high - low) or high == low:
        return None
    inner = found[(found >= low - 3 * (high - low)) & (found <= high + 3 * (high - low))]
    margin = 0.05 * np.ptp(inner)
    return float(inner.min() - margin), float(inner.max() + margin)


def _finite(values: Iterable[float]) -> np.ndarray:
    found = np.array(list(values), dtype=float)
    return found[np.isfinite(found)]
