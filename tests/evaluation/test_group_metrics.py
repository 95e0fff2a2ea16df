"""Metrics per group."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.evaluation.classification import classification_metrics
from hpo.evaluation.groups import group_metrics, group_metrics_by, small_groups
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


def test_logits_keep_their_classes() -> None:
    rng = np.random.default_rng(1)
    logits, targets, groups = rng.normal(size=(60, 3)), rng.integers(0, 3, 60), np.array(["a", "b", "b"] * 20)
    found = group_metrics(classification_metrics, logits, targets, groups)
    rows = groups == "b"
    assert found.values["accuracy_b"] == pytest.approx(np.mean(logits[rows].argmax(1) == targets[rows]))
    assert set(found.values) == {f"{m}_{g}" for m in ("accuracy", "macro_f1", "calibration_error") for g in "ab"}


def test_columns_of_rows_and_rows_are_the_same() -> None:
    rng = np.random.default_rng(2)
    targets, predictions, groups = rng.random(40), rng.random(40), ["a", "b"] * 20
    flat = group_metrics(regression_metrics, predictions, targets, groups)
    assert group_metrics(regression_metrics, predictions[:, None], targets[:, None], groups) == flat


def test_several_columns_keep_their_groups_apart() -> None:
    rng = np.random.default_rng(3)
    targets, predictions = rng.random(60), rng.random(60)
    columns = {"type": ["low", "high"] * 30, "snr": ["low"] * 55 + ["high"] * 5}
    found = group_metrics_by(columns, regression_metrics, predictions, targets, known={"snr": ("none",)})
    by_type = group_metrics(regression_metrics, predictions, targets, columns["type"])
    assert found.values["mae_type_low"] == by_type.values["mae_low"]
    assert found.values["mae_snr_low"] == regression_metrics(predictions[:55], targets[:55])["mae"]
    assert found.skipped == {"snr_high": 5, "snr_none": 0}
    assert not [name for name in found.values if name.endswith("_snr_high")]
