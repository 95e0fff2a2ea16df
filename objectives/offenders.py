"""The first of what breaks a rule, as every loader's messages tell them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

SHOWN = 5
MIN_PER_CLASS = 3  # different samples: one for each part


def listed(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def offenders(bad: np.ndarray, tell: Callable[[int], str]) -> str:
    """``tell(row)`` of the first five rows that are ``bad``, (n,) bool, and how many more there are."""
    return listed([tell(row) for row in np.flatnonzero(bad).tolist()])


def small_classes(classes: Sequence[str], labels: Iterable[str], copies: Iterable[str]) -> list[str]:
    """``name (count)`` of every class with fewer than ``MIN_PER_CLASS`` different samples.

    ``labels``: the class of each sample. ``copies``: what samples that are copies of one another have in common.
    """
    different = Counter(label for label, _ in set(zip(labels, copies, strict=True)))
    return [f"{name} ({different[name]})" for name in classes if different[name] < MIN_PER_CLASS]
