"""Splits that keep a group on one side and each side alike in its strata.

A split depends on the group ids and the seed, not on the order of the rows. NumPy, not
scikit-learn's StratifiedGroupKFold: that knows folds only, and costs a second to import.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hpo.errors import DataError


def grouped_split(
    groups: ArrayLike, strata: ArrayLike, shares: Sequence[float], seed: int, called: str = "groups"
) -> list[np.ndarray]:
    """Row numbers of each part, ascending; together all rows, each once.

    Args:
        groups: (n,) ids; all rows of one id land in one part.
        strata: (n,) labels; every part gets its share of each. A group has the stratum of
            its alphabetically first label.
        shares: how large the parts should be, adding up to 1.
        seed: at least 0.
        called: what messages call the groups.

    Raises:
        DataError: the shares do not add up to 1, or there are too few groups to fill a part.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    if (wanted <= 0).any() or abs(wanted.sum() - 1) > 1e-9:
        raise DataError(f"The shares of a split must be above 0 and add up to 1; got {list(shares)}.")
    ids, row_group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    labels, row_label = np.unique(np.asarray(strata).astype(str), return_inverse=True)
    size = np.bincount(row_group, minlength=len(ids))
    stratum = np.full(len(ids), len(labels))
    np.minimum.at(stratum, row_group, row_label)
    rng = np.random.default_rng(seed)
    part_of = np.empty(len(ids), dtype=np.int64)
    owed = np.zeros(len(wanted))  # carried on, or every stratum would round in the same direction
    for label in range(len(labels)):
        members = np.flatnonzero(stratum == label)
        goal = wanted * size[members].sum() + owed
        part_of[members] = _deal(size[members], goal, rng)
        owed = goal - np.bincount(part_of[members], size[members], len(wanted))
    parts = [np.flatnonzero(part_of[row_group] == i) for i in range(len(wanted))]
    if any(len(part) == 0 for part in parts):
        raise DataError(
            f"The data has too few different {called} ({len(ids)}) to fill {len(wanted)} parts; one would be empty. "
            f"More {called}, or fewer parts, are needed."
        )
    return parts


def grouped_folds(groups: ArrayLike, strata: ArrayLike, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """``folds`` pairs of row numbers, (to train on, to validate on), each row validated once.

    Raises:
        DataError: fewer than two folds, or fewer groups than folds.
    """
    if folds < 2:
        raise DataError(f"Cross-validation needs at least 2 folds; got {folds}.")
    parts = grouped_split(groups, strata, [1 / folds] * folds, seed)
    rows = np.arange(sum(map(len, parts)))
    return [(np.setdiff1d(rows, part), part) for part in parts]


def fold_rows(
    rows: ArrayLike, groups: ArrayLike, strata: ArrayLike, fold: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and to validate on in one fold; both ascending, together all of ``rows``.

    Depends on the set of rows, their groups and the seed alone: every fold can be asked for
    on its own, in any order, in any process.

    Args:
        rows: row numbers that may be used; the test set's are not among them.
        groups, strata: (n,) for *all* n rows of the data, as for ``grouped_split``.
        fold: (index from 0, of how many).

    Raises:
        DataError: no such fold, or fewer groups than folds.
    """
    index, folds = fold
    if not 0 <= index < folds:
        raise DataError(f"Of {folds} folds the first is 0 and the last {folds - 1}; got {index}.")
    usable = np.sort(np.asarray(rows, dtype=np.int64))
    pairs = grouped_folds(np.asarray(groups)[usable], np.asarray(strata)[usable], folds, seed)
    train, validation = pairs[index]
    return usable[train], usable[validation]


def _deal(sizes: np.ndarray, goal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part for each group: in random order, each goes where the largest share of the goal is missing.

    ``goal``: rows that each part should get; a part that others have served already may
    have a goal of 0 or less, and then comes last.
    """
    part = np.empty(len(sizes), dtype=np.int64)
    missing = goal.astype(np.float64)
    scale = np.maximum(goal, 1e-9)
    tie = rng.random(len(goal)) * 1e-6  # without it the first part would get every first group
    for group in rng.permutation(len(sizes)):
        part[group] = int(np.argmax(missing / scale + tie))
        missing[part[group]] -= sizes[group]
    return part
