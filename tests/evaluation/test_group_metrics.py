"""Metrics per group."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.evaluation.groups import group_metrics, small_groups
from hpo.evaluation.regression import regression_metrics


def test_a_group_is_judged_on_its_own_rows_alone() -> None:
    rng = np.random.default_rng(0)
    targets, predictions = rng.random(60), rng.random(60)
    groups = np.array(["a", "b", "b"] * 20)
    found = group_metrics(regression_metrics, predictions, targets, groups)
    alone = regression_metrics(predictions[groups == "b"], targets[groups == "b"])
    assert {name: found.values[f"{name}_b"] for name in alone} == alone
    assert found.skipped == {}


def test_groups_below_the_minimum_are_listed_and_not_judged() -> None:
    groups = ["big"] * 10 + ["small"] * 9
    found = group_metrics(regression_metrics, np.arange(19), np.arange(19), groups, known=("big", "none"))
    assert found.skipped == {"none": 0, "small": 9}
    assert {name.rsplit("_", 1)[1] for name in found.values} == {"big"}
    assert small_groups(groups, min_rows=9) == {}


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2, 2 and 1"):
        group_metrics(regression_metrics, [1, 2], [1, 2], ["a"])
