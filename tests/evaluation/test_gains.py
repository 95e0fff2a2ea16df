"""Gains over baselines, by hand: the direction decides what is better."""

from __future__ import annotations

import math

import pytest

from hpo.evaluation.gains import Gain, gains, main_metrics
from hpo.spec import GateSpec
from hpo.trial import Direction, Goal

UP, DOWN = Direction.MAXIMIZE, Direction.MINIMIZE


@pytest.mark.parametrize(
    ("direction", "value", "reference", "gain", "ratio", "words"),
    [
        (UP, 0.9, 0.6, 0.3, 1.5, "0.3 better, ×1.5"),
        (DOWN, 0.02, 0.08, 0.06, 0.25, "0.06 better, ×0.25"),
        (UP, 0.5, 0.75, -0.25, 0.5 / 0.75, "0.25 worse, ×0.667"),
        (DOWN, 0.75, 0.5, -0.25, 1.5, "0.25 worse, ×1.5"),
        (UP, 0.5, -0.5, 1.0, None, "1 better"),
        (UP, 0.5, 0.5, 0.0, 1.0, "the same"),
        (UP, 0.5, math.nan, math.nan, None, "not comparable"),
    ],
)
def test_a_gain_is_told_with_its_ratio_where_that_has_a_meaning(
    direction: Direction, value: float, reference: float, gain: float, ratio: float | None, words: str
) -> None:
    found = Gain("m", direction, value, "b", reference)
    assert found.gain == pytest.approx(gain, nan_ok=True)
    assert found.ratio == pytest.approx(ratio)
    assert found.words == words


def test_a_study_cares_about_its_goals_its_monitor_and_what_its_gates_look_at() -> None:
    gates = [
        GateSpec(metric="test_r2", at_least=0.8),
        GateSpec(metric="rmse", at_most=0.05),
        GateSpec(metric="file_mb", over="export", at_most=100),
    ]
    main = main_metrics([Goal("val_loss"), Goal("samples_per_s", UP)], Goal("val_r", UP), gates)
    assert main == [Goal("loss"), Goal("samples_per_s", UP), Goal("r", UP), Goal("r2", UP), Goal("rmse")]


def test_only_what_both_have_is_compared_on_the_same_part() -> None:
    main = [Goal("loss"), Goal("r", UP), Goal("f1")]
    model = {"val_loss": 0.1, "val_r": 0.9, "test_r": 0.7, "f1": 2.0}
    simple = {"mean": {"val_r": 0.0, "test_r": 0.1, "f1": 3.0}, "trees": {"val_r": 0.8}}
    found = gains(model, simple, main, "val_")
    assert {metric: [(g.baseline, g.reference) for g in own] for metric, own in found.items()} == {
        "r": [("mean", 0.0), ("trees", 0.8)],
        "f1": [("mean", 3.0)],
    }
    assert [g.value for g in gains(model, simple, main, "test_")["r"]] == [0.7]
