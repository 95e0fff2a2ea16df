"""Differences of two samples against textbook figures and hand-worked numbers."""

from __future__ import annotations

import math

import pytest

from hpo.evaluation.differences import difference

# Welch's test, example 1 of the article "Welch's t-test" (Wikipedia): t = -2.46, 24.9 degrees of freedom.
A1 = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
A2 = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]
# Example 2 there, of unequal sizes and spreads (variances 9.0 and 0.9): Welch's p is 0.149, Student's 0.036.
B1 = [17.2, 20.9, 22.6, 18.1, 21.7, 21.4, 23.5, 24.2, 14.7, 21.8]
B2 = [21.5, 22.8, 21.0, 23.0, 21.6, 23.6, 22.5, 20.7, 23.4, 21.8, 20.7, 21.7, 21.5, 22.5, 23.6, 21.5, 22.5, 23.5]
B2 += [21.5, 21.8]
# Student 1908, Biometrika 6, the hours of sleep gained by ten patients; R's t.test(paired = TRUE) gives the interval.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_the_interval_of_two_samples_is_welchs() -> None:
    found = difference(A1, A2)
    spread = math.sqrt(7.9 / 15 + 3.8 / 15)
    assert found.mean / spread == pytest.approx(2.46, abs=0.03)
    assert (found.high - found.low) / 2 == pytest.approx(2.060 * spread, rel=0.01)  # t of 25 degrees of freedom
    assert (found.high + found.low) / 2 == pytest.approx(found.mean)
    assert found.excludes_zero


def test_unequal_spreads_are_not_pooled() -> None:
    found = difference(B1, B2)
    half = 2.231 * math.sqrt(9.0 / 10 + 0.9 / 20)  # t of 9.9 degrees of freedom
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.01)
    assert not found.excludes_zero  # a pooled spread would say otherwise


def test_the_interval_of_pairs_is_students() -> None:
    found = difference(DRUG_1, DRUG_2, paired=True)
    assert (found.mean, found.low, found.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)
    assert found.above == 0.95  # nine of ten gained more, one the same
    assert math.isnan(found.p_ranks)


def test_a_wider_level_widens_the_interval_as_the_t_table_says() -> None:
    at_95, at_99 = difference([0, 1, 2], [2.5, 3.5, 4.5]), difference([0, 1, 2], [2.5, 3.5, 4.5], level=0.99)
    spread = math.sqrt(2 / 3)
    assert (at_95.low, at_95.high) == pytest.approx((2.5 - 2.776 * spread, 2.5 + 2.776 * spread), abs=1e-3)
    assert (at_99.low, at_99.high) == pytest.approx((2.5 - 4.604 * spread, 2.5 + 4.604 * spread), abs=1e-3)
    assert at_95.excludes_zero
    assert not at_99.excludes_zero


def test_superiority_counts_pairs_and_its_test_counts_orders() -> None:
    assert difference([1, 2], [2, 3]).above == 3.5 / 4
    separated = difference([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    assert separated.above == 1.0
    assert separated.p_ranks == pytest.approx(2 / 252)  # two of the 252 orders of five among ten


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([1.0], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0])])
def test_too_little_allows_no_interval(first: list[float], second: list[float]) -> None:
    found = difference(first, second)
    assert not found.is_known
    assert not found.excludes_zero
    assert found.mean > 0


@pytest.mark.parametrize(
    ("first", "second", "paired"), [([], [1.0], False), ([1.0], [math.nan], False), ([1.0], [1.0, 2.0], True)]
)
def test_what_is_no_sample_is_refused(first: list[float], second: list[float], paired: bool) -> None:
    with pytest.raises(ValueError, match="values|Pairs|value"):
        difference(first, second, paired=paired)
