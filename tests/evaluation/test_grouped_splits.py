"""Splits: groups whole, strata alike, the seed decides."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.errors import DataError
from hpo.evaluation.splits import fold_rows, grouped_folds, grouped_split

SHARES = (0.68, 0.17, 0.15)


def rows(groups: int = 120, per_group: int = 5) -> tuple[np.ndarray, np.ndarray]:
    ids = np.repeat([f"g{i}" for i in range(groups)], per_group)
    return ids, np.repeat(np.array(["a", "b", "c", "d"])[np.arange(groups) % 4], per_group)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_stands_on_two_sides_and_every_row_is_used_once(seed: int) -> None:
    groups, strata = rows()
    parts = grouped_split(groups, strata, SHARES, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    seen = [set(groups[part]) for part in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_stratum(seed: int) -> None:
    groups, strata = rows()
    for part, share in zip(grouped_split(groups, strata, SHARES, seed), SHARES, strict=True):
        for label in "abcd":
            assert np.sum(strata[part] == label) == pytest.approx(share * np.sum(strata == label), abs=5)


def test_groups_of_unequal_size_still_fill_the_shares() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 20, 300)
    groups = np.repeat(np.arange(300), sizes)
    parts = grouped_split(groups, np.zeros(len(groups)), SHARES, 1)
    for part, share in zip(parts, SHARES, strict=True):
        assert len(part) / len(groups) == pytest.approx(share, abs=0.01)


def test_the_seed_alone_decides_whatever_the_order_of_rows() -> None:
    groups, strata = rows()
    order = np.random.default_rng(3).permutation(len(groups))
    first = [set(groups[part]) for part in grouped_split(groups, strata, SHARES, 7)]
    again = [set(groups[order][part]) for part in grouped_split(groups[order], strata[order], SHARES, 7)]
    other = [set(groups[part]) for part in grouped_split(groups, strata, SHARES, 8)]
    assert first == again != other


def test_folds_validate_every_row_once_and_keep_groups_whole() -> None:
    groups, strata = rows(100, 3)
    folds = grouped_folds(groups, strata, 5, 0)
    assert sorted(np.concatenate([part for _, part in folds]).tolist()) == list(range(300))
    for train, validation in folds:
        assert not set(groups[train]) & set(groups[validation])
        assert len(train) + len(validation) == 300
        assert len(validation) == pytest.approx(60, abs=12)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"too few different logos \(2\) to fill 3 parts; .* More logos"):
        grouped_split(["a", "b"], ["x", "x"], SHARES, 0, "logos")
    with pytest.raises(DataError, match="add up to 1"):
        grouped_split(["a", "b"], ["x", "x"], (0.5, 0.4), 0)
    with pytest.raises(DataError, match="at least 2 folds; got 1"):
        grouped_folds(["a", "b"], ["x", "x"], 1, 0)


def test_folds_of_some_rows_deal_out_these_and_no_others() -> None:
    groups, strata = rows(100, 3)
    usable = np.flatnonzero(np.arange(300) // 3 % 4 != 0)  # whole groups are left out
    folds = [fold_rows(usable, groups, strata, (index, 5), 3) for index in range(5)]
    assert sorted(np.concatenate([validation for _, validation in folds]).tolist()) == usable.tolist()
    for train, validation in folds:
        assert sorted([*train, *validation]) == usable.tolist()
        assert not set(groups[train]) & set(groups[validation])


def test_a_fold_depends_on_the_set_of_rows_and_the_seed_alone() -> None:
    groups, strata = rows()
    usable = np.arange(0, 400)
    later = fold_rows(usable, groups, strata, (3, 4), 7)
    first = fold_rows(usable[::-1], groups, strata, (3, 4), 7)
    other = fold_rows(usable, groups, strata, (3, 4), 8)
    assert all(np.array_equal(a, b) for a, b in zip(first, later, strict=True))
    assert not np.array_equal(later[1], other[1])


@pytest.mark.parametrize("fold", [(5, 5), (-1, 5), (0, 1)])
def test_a_fold_that_there_is_not_is_refused(fold: tuple[int, int]) -> None:
    groups, strata = rows()
    with pytest.raises(DataError, match="got 5|got -1|at least 2 folds; got 1"):
        fold_rows(np.arange(600), groups, strata, fold, 0)
