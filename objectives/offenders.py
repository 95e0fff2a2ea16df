"""The first rows that break a rule, as every loader's messages tell them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SHOWN = 5


def offenders(bad: np.ndarray, tell: Callable[[int], str]) -> str:
    """``tell(row)`` of the first five rows that are ``bad``, (n,) bool, and how many more there are."""
    rows = np.flatnonzero(bad)
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(map(tell, rows[:SHOWN].tolist())) + more
