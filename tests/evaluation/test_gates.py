"""Gates by hand: met, not met, NaN, nothing measured; the worst group; statistics over folds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hpo.errors import StudyFileError
from hpo.evaluation.gates import evaluate, figures_on_test, is_released, rule
from hpo.spec import GateSpec, StudySpec
from hpo.trial import Metrics


def gate(metric: str, **fields: Any) -> GateSpec:
    return GateSpec(metric=metric, **fields)


def judged(one: GateSpec, **figures: Any) -> tuple[float | None, bool | None, str]:
    (verdict,) = evaluate([one], figures, "logos")
    return verdict.value, verdict.met, verdict.why


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [
        ({"at_least": 0.9}, 0.9, True),
        ({"at_least": 0.9}, 0.8999, False),
        ({"at_most": 0.05}, 0.05, True),
        ({"at_most": 0.05}, 0.0501, False),
        ({"at_least": 0.9}, math.nan, False),
        ({"at_most": 0.9}, math.nan, False),
        ({"at_least": 0.9}, math.inf, False),
        ({"at_most": 0.9}, -math.inf, False),
    ],
)
def test_a_bound_includes_itself_and_what_is_not_finite_meets_none(
    bound: dict[str, float], value: float, met: bool
) -> None:
    found, got, why = judged(gate("r", **bound), test={"r": value})
    assert got is met
    assert found == value or math.isnan(value)
    assert (why == "not a finite number") is not math.isfinite(value)


@pytest.mark.parametrize("name", ["pearson_r", "test_pearson_r", "val_pearson_r"])
def test_a_metric_is_found_with_and_without_its_prefix(name: str) -> None:
    assert judged(gate(name, at_least=0.9), test={"pearson_r": 0.95})[:2] == (0.95, True)
    assert judged(gate(name, over="folds", at_least=0.9), folds={"val_pearson_r": (0.95, 0.97)})[1] is True


@pytest.mark.parametrize(
    ("over", "command"),
    [
        ("test", "hpo retrain logos"),
        ("groups", "hpo retrain logos"),
        ("run", "hpo retrain logos"),
        ("folds", "hpo validate logos"),
        ("export", "hpo export logos"),
    ],
)
def test_what_is_not_measured_yet_names_the_command_and_releases_nothing(over: str, command: str) -> None:
    verdicts = evaluate([gate("r", over=over, at_least=0.5)], {}, "logos")
    assert (verdicts[0].value, verdicts[0].met) == (None, None)
    assert verdicts[0].why == f"measured by {command}"
    assert not is_released(verdicts)


def test_a_metric_that_was_not_measured_is_not_taken_for_met() -> None:
    assert judged(gate("r2", at_least=0.5), test={"r": 0.9})[:2] == (None, None)


def test_every_group_must_meet_a_gate_and_the_worst_is_named() -> None:
    groups: dict[str, Metrics] = {"simple": {"r": 0.9}, "text": {"r": 0.84}, "gradient": {"r": 0.86}, "complex": {}}
    value, met, why = judged(gate("r", over="groups", at_least=0.85), groups=groups)
    assert (value, met) == (0.84, False)
    assert "text" in why and "too small to judge: complex" in why
    groups["text"] = {"r": 0.85}
    assert judged(gate("r", over="groups", at_least=0.85), groups=groups)[:2] == (0.85, True)
    assert judged(gate("r", over="groups", at_most=0.85), groups=groups)[0] == 0.9
    groups["gradient"] = {"r": math.nan}
    value, met, why = judged(gate("r", over="groups", at_least=0.1), groups=groups)
    assert value is not None and math.isnan(value) and met is False and "gradient" in why


def test_groups_that_are_all_too_small_or_lack_the_metric_are_not_measured() -> None:
    assert judged(gate("r", over="groups", at_least=0.1), groups={"a": {}, "b": {}})[:2] == (None, None)
    value, met, why = judged(gate("r", over="groups", at_least=0.1), groups={"a": {"r": 1.0}, "b": {"mae": 0.1}})
    assert (value, met) == (None, None) and "no r for b" in why


@pytest.mark.parametrize(
    ("statistic", "value"),
    # 0.90, 0.92, 0.97: mean 0.93, deviations -0.03, -0.01, 0.04: sqrt(0.0026 / 2)
    [(None, 0.93), ("mean", 0.93), ("std", math.sqrt(0.0013)), ("min", 0.90), ("max", 0.97)],
)
def test_folds_are_judged_by_their_statistic(statistic: str | None, value: float) -> None:
    one = gate("r", over="folds", statistic=statistic, at_least=0.0)
    found, met, why = judged(one, folds={"val_r": (0.90, 0.92, 0.97)})
    assert found == pytest.approx(value)
    assert met is True and why == "3 folds"


def test_a_nan_in_one_fold_meets_no_gate_and_one_fold_has_no_spread() -> None:
    for statistic in ("mean", "std", "min", "max"):
        one = gate("r", over="folds", statistic=statistic, at_most=9.0)
        assert judged(one, folds={"val_r": (0.1, math.nan, 0.2)})[1] is False
    assert judged(gate("r", over="folds", statistic="std", at_most=1.0), folds={"val_r": (0.5,)})[:2] == (None, None)


def test_every_format_must_meet_a_gate_over_the_export() -> None:
    figures = {"onnx": {"file_mb": 9.0, "latency_ms": 2.0}, "safetensors": {"file_mb": 11.0, "latency_ms": 1.0}}
    assert judged(gate("file_mb", over="export", at_most=10), export=figures)[:2] == (11.0, False)
    value, met, why = judged(gate("latency_ms", over="export", at_most=2), export=figures)
    assert (value, met) == (2.0, True) and "onnx" in why
    assert judged(gate("latency_ms", over="export", at_most=2), export={"onnx": {"file_mb": 1.0}})[1] is None


def test_a_run_is_judged_by_its_own_figures() -> None:
    assert judged(gate("training_minutes", over="run", at_most=30), run={"training_minutes": 31.5})[:2] == (31.5, False)


def test_only_gates_that_are_all_met_release_and_none_stand_in_the_way_of_nothing() -> None:
    met, unmet = gate("r", at_least=0.5), gate("r", at_least=0.7)
    assert is_released(evaluate([], {}))
    assert is_released(evaluate([met], {"test": {"r": 0.6}}))
    assert not is_released(evaluate([met, unmet], {"test": {"r": 0.6}}))


def test_a_rule_reads_as_it_is_meant() -> None:
    assert rule(gate("test_r", at_least=0.9)) == "r ≥ 0.9"
    assert rule(gate("r", over="groups", at_least=0.85)) == "r of every group ≥ 0.85"
    assert rule(gate("r", over="folds", statistic="std", at_most=0.05)) == "std of r over folds ≤ 0.05"


def test_the_figures_of_groups_are_told_apart_and_those_too_small_listed() -> None:
    metrics = {"test_r": 0.9, "test_mae": 0.1, "test_r_big_one": 0.8, "test_mae_big_one": 0.2, "val_r": 1.0, "lr": 0.1}
    known = ["val_r", "val_mae", "val_r_big_one", "val_mae_big_one", "val_r_rare", "val_mae_rare", "lr"]
    assert figures_on_test(metrics, known) == {
        "test": {"r": 0.9, "mae": 0.1},
        "groups": {"big_one": {"r": 0.8, "mae": 0.2}, "rare": {}},
    }
    assert figures_on_test({"val_r": 1.0}, known) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{metric: r}", "either at_least or at_most"),
        ("{metric: r, at_least: 0.1, at_most: 0.2}", "either at_least or at_most"),
        ("{metric: r, at_least: 0.1, statistic: std}", "only a gate over folds has a statistic"),
        ("{metric: r, at_least: 0.1, over: everything}", r"gates\[0\].over"),
        ("{metric: r, at_least: .nan}", r"gates\[0\].at_least"),
        ("{metric: r, at_least: 0.1, at: 3}", "unknown field|Unknown field|no field"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_with_the_field(text: str, message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        StudySpec.parse(f"name: s\nobjective: analytic\nbudget: {{trials: 1}}\ngates: [{text}]\n")
