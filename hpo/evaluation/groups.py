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
        predictions, targets: (n, ...), one row each; handed on in their shape.
        groups: (n,) labels.
        known: groups that are listed as skipped, with 0 rows, even when no row has them.

    Raises:
        ValueError: the lengths differ.
    """
    p, t, g = np.asarray(predictions), np.asarray(targets), np.asarray(groups).astype(str)
    if not len(p) == len(t) == len(g):
        raise ValueError(f"One prediction, target and group per row; got {len(p)}, {len(t)} and {len(g)}.")
    values: dict[str, float] = {}
    skipped = small_groups(g, known=known, min_rows=min_rows)
    for name in sorted(set(g.tolist()) - set(skipped)):
        rows = g == name
        values.update({f"{metric}_{name}": value for metric, value in metrics(p[rows], t[rows]).items()})
    return GroupMetrics(values, skipped)


def group_metrics_by(
    columns: Mapping[str, ArrayLike],
    metrics: MetricsOf,
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    known: Mapping[str, Sequence[str]] | None = None,
    min_rows: int = 10,
) -> GroupMetrics:
    """``group_metrics`` for each of several columns; a group is called ``<column>_<group>``.

    Args:
        columns: (n,) labels of each row, by the column's name.
        known: by column, as for ``group_metrics``.

    Raises:
        ValueError: the lengths differ.
    """
    values: dict[str, float] = {}
    skipped: dict[str, int] = {}
    for column, labels in columns.items():
        groups = [f"{column}_{label}" for label in np.asarray(labels).astype(str).tolist()]
        listed = [f"{column}_{label}" for label in (known or {}).get(column, ())]
        found = group_metrics(metrics, predictions, targets, groups, known=listed, min_rows=min_rows)
        values.update(found.values)
        skipped.update(found.skipped)
    return GroupMetrics(values, skipped)


def small_groups(groups: ArrayLike, *, known: Sequence[str] = (), min_rows: int = 10) -> dict[str, int]:
    """The groups with fewer than ``min_rows`` rows, and how many they have."""
    labels, sizes = np.unique(np.asarray(groups).astype(str), return_counts=True)
    counts = {**dict.fromkeys(known, 0), **dict(zip(labels.tolist(), sizes.tolist(), strict=True))}
    return {name: counts[name] for name in sorted(counts) if counts[name] < min_rows}


def split_by_group(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Metric names apart: those of all rows, and those of one group (``mae`` and ``mae_text``)."""
    grouped = [name for name in names if any(name.startswith(f"{other}_") for other in names)]
    return [name for name in names if name not in grouped], grouped
