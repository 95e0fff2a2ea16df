"""Metrics again for every group of rows, with the groups too small to say anything listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MetricsOf = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


@dataclass(frozen=True)
class GroupMetrics:
    """``values``: names ending in ``_<group>``; ``skipped``: rows of every group below the minimum."""

    values: dict[str, float]
    skipped: dict[str, int]


def group_metrics(
    metrics: MetricsOf,
    predictions: ArrayLike,
    targets: ArrayLike,
    groups: ArrayLike,
    *,
    known: Sequence[str] = (),
    min_rows: int = 10,
) -> GroupMetrics:
    """``metrics(predictions, targets)`` for the rows of each group.

    Args:
        predictions, targets, groups: one value per row.
        known: groups that are listed as skipped, with 0 rows, even when no row has them.

    Raises:
        ValueError: the lengths differ.
    """
    p, t, g = np.ravel(np.asarray(predictions)), np.ravel(np.asarray(targets)), np.asarray(groups).astype(str)
    if not p.size == t.size == g.size:
        raise ValueError(f"One prediction, target and group per row; got {p.size}, {t.size} and {g.size}.")
    values: dict[str, float] = {}
    skipped = small_groups(g, known=known, min_rows=min_rows)
    for name in sorted(set(g.tolist()) - set(skipped)):
        rows = g == name
        values.update({f"{metric}_{name}": value for metric, value in metrics(p[rows], t[rows]).items()})
    return GroupMetrics(values, skipped)


def small_groups(groups: ArrayLike, *, known: Sequence[str] = (), min_rows: int = 10) -> dict[str, int]:
    """The groups with fewer than ``min_rows`` rows, and how many they have."""
    names = np.asarray(groups).astype(str).tolist()
    counts = {name: names.count(name) for name in sorted({*names, *known})}
    return {name: count for name, count in counts.items() if count < min_rows}


def split_by_group(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Metric names apart: those of all rows, and those of one group (``mae`` and ``mae_text``)."""
    grouped = [name for name in names if any(name.startswith(f"{other}_") for other in names)]
    return [name for name in names if name not in grouped], grouped
