"""The health rules: each is told when it must be, once, and not when not; as a study file sets them."""

from __future__ import annotations

import json
import math
import pickle
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hpo import resolve
from hpo.errors import StudyFileError
from hpo.spec import StudySpec
from hpo.training.conditions import MEASURES, Condition
from hpo.training.health import COMMON, Rule, Verdict, Watch, settle, summary
from objectives.base import TRAINER_METRICS
from objectives.quality_regression import QualityRegression

RULES = {
    rule.name: rule
    for rule in settle(
        QualityRegression.health,
        {"device_memory_low": 0.3, "gpu_idle": 40},
        monitor="val_pearson_r",
        maximized={"val_pearson_r"},
    )
}
NAN, INF = math.nan, math.inf

# Ten epochs of a metric around 0.6: up and down by 0.08, and by 0.02.
JUMPY = [0.52, 0.68] * 5
CALM = [0.58, 0.62] * 5


def over(**metrics: Sequence[float]) -> list[dict[str, float]]:
    """A history out of one list per metric."""
    return [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]


def told(history: list[dict[str, float]], *rules: Rule, reported: int = 0) -> list[tuple[str, int]]:
    """What a watch says over a run, epoch by epoch: the rule and the epoch."""
    watch = Watch(rules or RULES.values(), reported)
    found = [verdict for epoch in range(1, len(history) + 1) for verdict in watch.see(history[:epoch])]
    return [(verdict.rule.name, verdict.epoch) for verdict in found]


FIRES = [
    ("overfitting", over(train_loss=[0.9, 0.49, 0.1], val_loss=[1.0, 1.0, 1.0]), 2),
    ("unstable", over(val_pearson_r=JUMPY), 10),
    ("worsening", over(val_pearson_r=[0.5, 0.6, 0.5, 0.4, 0.3, 0.2]), 5),
    ("first_epoch_loss", over(train_loss=[1.01, 0.5]), 1),
    ("not_finite", over(val_mae=[0.1, NAN, NAN]), 2),
    ("not_finite", over(val_mae=[0.1, 0.1], val_r2=[0.0, -INF]), 2),
    ("vanishing_gradients", over(grad_norm=[0.02, 0.0099]), 2),
    ("exploding_gradients", over(grad_norm=[9.9, 10.1, 11.0]), 2),
    ("memory", over(epoch_memory_mb=[8000.0, 8193.0, 100.0]), 2),
    ("slow_epochs", over(epoch_s=[10.0, 29.0, 60.0]), 3),  # means 10, 19.5, 33
    ("large_model", over(parameter_mb=[50.1]), 1),
    ("device_memory_high", over(gpu_memory_share=[0.95, 0.951]), 2),
    ("device_memory_low", over(gpu_memory_share=[0.31, 0.29]), 2),
    ("gpu_idle", over(gpu_utilisation_pct=[50.0, 20.0]), 2),  # mean 35
    ("converged", over(val_pearson_r=[0.90, 0.91, 0.5]), 2),
    ("stable", over(val_pearson_r=CALM), 10),
]


@pytest.mark.parametrize(("name", "history", "epoch"), FIRES)
def test_a_rule_is_told_once_in_the_first_epoch_that_it_holds(
    name: str, history: list[dict[str, float]], epoch: int
) -> None:
    # A second round of the same would find it again, if it were not known already.
    assert told([*history, *history], RULES[name])[:1] == [(name, epoch)]
    assert len(told([*history, *history], RULES[name])) == 1


def test_every_rule_has_a_history_that_sets_it_off() -> None:
    assert {name for name, _, _ in FIRES} == set(RULES) == set(COMMON) | {"converged", "stable"}


QUIET = [
    ("overfitting", over(train_loss=[0.5, 0.8], val_loss=[1.0, 1.0])),
    ("overfitting", over(train_loss=[-3.0, -2.0], val_loss=[-1.0, 1.0])),  # a likelihood: no ratio
    ("overfitting", over(train_loss=[0.1])),
    ("unstable", over(val_pearson_r=CALM)),
    ("unstable", over(val_pearson_r=JUMPY[:9])),  # not yet ten epochs
    ("unstable", over(val_pearson_r=[0.1 * n for n in range(10)])),  # far, but never back
    ("unstable", over(val_pearson_r=[*JUMPY[:9], NAN])),
    ("worsening", over(val_pearson_r=[0.5, 0.4, 0.3, 0.3, 0.2, 0.1])),  # staying the same is not worse
    ("worsening", over(val_pearson_r=[0.1, 0.2, 0.3, 0.4])),
    ("first_epoch_loss", over(train_loss=[1.0, 5.0])),
    ("not_finite", over(val_mae=[0.1], train_loss=[NAN])),
    ("vanishing_gradients", over(grad_norm=[0.01, NAN])),
    ("exploding_gradients", over(grad_norm=[10.0, NAN])),
    ("memory", over(epoch_memory_mb=[8192.0])),
    ("slow_epochs", over(epoch_s=[60.0])),  # the first epoch alone proves nothing
    ("slow_epochs", over(epoch_s=[30.0, 30.0])),
    ("large_model", over(parameter_mb=[50.0])),
    ("device_memory_high", over(gpu_memory_share=[0.95])),
    ("device_memory_low", over(gpu_memory_share=[0.3])),
    ("gpu_idle", over(gpu_utilisation_pct=[10.0, 90.0])),
    ("converged", over(val_pearson_r=[NAN, 0.9])),
    ("stable", over(val_pearson_r=JUMPY)),
    ("stable", over(val_pearson_r=CALM[:9])),
]


@pytest.mark.parametrize(("name", "history"), QUIET)
def test_a_rule_that_does_not_hold_is_not_told(name: str, history: list[dict[str, float]]) -> None:
    assert told(history, RULES[name]) == []


@pytest.mark.parametrize("name", RULES)
def test_a_rule_whose_metric_is_not_reported_does_not_apply(name: str) -> None:
    watch = Watch([RULES[name]])
    assert watch.see([{"something_else": 1.0}] * 12) == []
    assert watch.flags([{"something_else": 1.0}] * 12) == []


def condition(measure: str, epochs: int = 1, maximize: bool = False, other: str = "") -> Condition:
    return Condition(measure, "m", ">", 0.0, other=other, epochs=epochs, maximize=maximize)


SAWTOOTH = [4.0, 1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("looked_at", "expected"),
    [
        (condition("last"), 2.0),
        (condition("first"), 4.0),
        (condition("best"), 1.0),
        (condition("best", maximize=True), 4.0),
        (condition("max"), 4.0),
        (condition("min"), 1.0),
        (condition("mean"), 2.5),
        (condition("mean", epochs=5), None),
        (condition("std", epochs=3), math.sqrt(2 / 3)),  # of 1, 3, 2 around 2
        (condition("std", epochs=5), None),
        (condition("relative_std", epochs=3), math.sqrt(2 / 3) / 4),
        (condition("span", epochs=3), 2.0),
        (condition("change", epochs=3), -2.0),
        (condition("change", epochs=4), None),
        (condition("worse_running"), 0.0),
        (condition("worse_running", maximize=True), 1.0),
        (condition("setbacks", epochs=4), 1.0),
        (condition("setbacks", epochs=4, maximize=True), 2.0),
        (condition("ratio", other="n"), 0.5),
        (condition("not_finite"), 0.0),
    ],
)
def test_a_measure_is_what_its_name_says(looked_at: Condition, expected: float | None) -> None:
    value = looked_at.value(over(m=SAWTOOTH, n=[1.0, 1.0, 1.0, 4.0]))
    assert value == (expected if expected is None else pytest.approx(expected))


def test_every_measure_is_tested_and_survives_nan_and_an_empty_history() -> None:
    for measure in MEASURES:
        for epochs in (1, 2, 3):
            looked_at = condition(measure, epochs, other="m")
            assert looked_at.value([]) is None
            for values in ([NAN], [NAN, 1.0], [1.0, NAN], [INF, -INF, INF], [0.0, 0.0]):
                value = looked_at.value(over(m=values))
                assert value is None or isinstance(value, float)


def test_a_metric_that_is_missing_in_some_epochs_is_judged_over_the_others() -> None:
    history = [{"m": 1.0}, {}, {"m": 2.0}, {}, {"m": 3.0}]
    assert condition("worse_running").value(history) == 2.0
    assert condition("std", epochs=3).value(history) == pytest.approx(statistics.pstdev([1, 2, 3]))


def test_a_rule_of_several_conditions_holds_when_all_do() -> None:
    """Converged as a model of positions is: the validation loss rests, the training loss falls, gradients are sound."""
    rule = Rule(
        "converged",
        Condition("span", "val_loss", "<", 0.01, epochs=10),
        "{metric} moved less than {threshold} for {epochs} epochs",
        also=(
            Condition("change", "train_loss", "<", 0.0, epochs=9),
            Condition("min", "grad_norm", ">", 0.01),
            Condition("max", "grad_norm", "<", 10.0),
        ),
        good=True,
    )
    resting, falling, sound = [1.0] + [0.5] * 10, [2.0 - 0.1 * n for n in range(11)], [1.0] * 11
    assert told(over(val_loss=resting, train_loss=falling, grad_norm=sound), rule) == [("converged", 11)]
    assert told(over(val_loss=resting, train_loss=[1.0] * 11, grad_norm=sound), rule) == []
    assert told(over(val_loss=resting, train_loss=falling, grad_norm=[20.0, *sound[1:]]), rule) == []
    assert told(over(val_loss=resting, train_loss=falling), rule) == []


# A run with a finding in epochs 1, 3, 5 and 10.
RUN = over(
    train_loss=[1.5, 0.6, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3],
    val_loss=[1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7],
    val_pearson_r=[0.5, 0.6, 0.65, 0.7, 0.95, 0.7, 0.95, 0.7, 0.95, 0.7],
)
FINDINGS = [("first_epoch_loss", 1), ("overfitting", 3), ("converged", 5), ("unstable", 10)]


def test_a_whole_run_is_told_epoch_by_epoch() -> None:
    assert told(RUN) == FINDINGS


@pytest.mark.parametrize("reported", range(len(RUN) + 1))
@pytest.mark.parametrize("behind", [0, 2])
def test_after_a_resume_nothing_is_told_twice_and_nothing_is_lost(reported: int, behind: int) -> None:
    """The report of epoch ``reported`` arrived; the checkpoint is some epochs older, or one newer."""
    before = [finding for finding in FINDINGS if finding[1] <= reported]
    for checkpoint in {max(0, reported - behind), min(len(RUN), reported + 1)}:
        watch = Watch(RULES.values(), reported)
        after = []
        for epoch in range(max(1, checkpoint), len(RUN) + 1):  # the checkpoint's own epoch is reported again
            after += [(verdict.rule.name, verdict.epoch) for verdict in watch.see(RUN[:epoch])]
        assert before + after == FINDINGS


def test_going_back_to_a_checkpoint_tells_only_what_is_new() -> None:
    watch = Watch(RULES.values())
    first = [verdict.rule.name for verdict in watch.see(RUN[:3])]
    assert first == ["first_epoch_loss", "overfitting"]
    back = [*RUN[:1], {"train_loss": 0.2, "val_loss": 0.9, "grad_norm": 99.0}]
    assert [(v.rule.name, v.epoch) for v in watch.see(back)] == [("exploding_gradients", 2)]


def test_going_back_in_a_resumed_run_tells_what_is_new_in_epochs_that_were_reported_before() -> None:
    watch = Watch(RULES.values(), reported=3)
    assert watch.see(RUN[:3]) == []
    back = [*RUN[:1], {"train_loss": 0.9, "val_loss": 0.9, "grad_norm": 99.0}]
    assert [(v.rule.name, v.epoch) for v in watch.see(back)] == [("exploding_gradients", 2)]


def test_the_flags_of_a_run_are_every_rule_that_applies_as_it_stands_at_the_end() -> None:
    watch = Watch(RULES.values())
    watch.see(RUN)
    flags = {flag.rule.name: flag for flag in watch.flags(RUN)}
    assert set(flags) == {
        "overfitting", "unstable", "worsening", "first_epoch_loss", "not_finite", "converged", "stable",
    }  # fmt: skip
    assert {name for name, flag in flags.items() if flag.is_fine} == {"worsening", "not_finite", "converged"}
    assert flags["converged"].value == 0.95
    assert flags["overfitting"].value == pytest.approx(0.3 / 0.7)
    message, details = summary(watch.flags(RUN))
    assert message == "met: converged; not met: stable; warnings: overfitting, unstable, first_epoch_loss"
    assert {d["rule"]: d["holds"] for d in details} == {name: flag.holds for name, flag in flags.items()}
    assert summary([]) == ("no warning", [])


def test_a_finding_is_one_sentence_with_its_epoch_and_figures() -> None:
    (verdict,) = Watch([RULES["overfitting"]]).see(over(train_loss=[0.2], val_loss=[0.8]))
    assert verdict.message == (
        "epoch 1: train_loss is 0.25 of val_loss, below 0.5: the model learns its training data by heart"
    )
    assert verdict.details == {
        "rule": "overfitting", "condition": "train_loss / val_loss < 0.5", "value": 0.25, "threshold": 0.5, "epoch": 1,
        "good": False, "remedy": RULES["overfitting"].remedy,
    }  # fmt: skip
    assert json.loads(json.dumps(verdict.details)) == verdict.details


def test_metrics_that_are_not_finite_are_named() -> None:
    history = [{"val_r": NAN, "val_ok": 1.0, **{f"val_{i}": INF for i in range(5)}, "train_loss": NAN}]
    (verdict,) = Watch([RULES["not_finite"]]).see(history)
    assert verdict.message == "epoch 1: a validation metric is NaN or infinite: val_r, val_0, val_1, val_2 and 2 more"
    assert verdict.value == 6


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_every_rule_is_plain_data_with_a_message_and_a_remedy(rule: Rule) -> None:
    assert pickle.loads(pickle.dumps(rule)) == rule
    message = Verdict(rule, True, 0.123456, 3).message
    assert message.startswith("epoch 3: ") and "{" not in message
    assert rule.remedy.endswith(".")


def test_the_monitored_metric_takes_its_place_and_its_direction() -> None:
    rules = {rule.name: rule for rule in settle((), {}, monitor="val_loss", maximized=set())}
    assert rules["worsening"].condition.metric == "val_loss"
    assert told(over(val_loss=[0.1, 0.2, 0.3, 0.4]), rules["worsening"]) == [("worsening", 4)]
    assert {c.metric for c in rules["unstable"].also} == {"val_loss"}


def test_the_common_rules_look_at_what_the_trainer_reports() -> None:
    for rule in COMMON.values():
        for condition in (rule.condition, *rule.also):
            for metric in filter(None, (condition.metric, condition.other)):
                assert metric in {*TRAINER_METRICS, "<monitor>", "val_*"}, f"{rule.name}: nobody reports {metric}"


DIGITS = """
name: s
objective: tests.training.tiny_objective:Tiny
budget: {trials: 1, epochs: 2}
health: {%s}
"""


def rules_of(health: str) -> dict[str, Rule]:
    return {rule.name: rule for rule in resolve.resolve(StudySpec.parse(DIGITS % health)).rules}


def test_a_study_file_moves_thresholds_and_leaves_rules_out() -> None:
    usual, changed = rules_of(""), rules_of("overfitting: 0.4, first_epoch_loss: false, memory: 1, worsening: 5")
    assert usual["overfitting"].condition.threshold == 0.5
    assert changed["overfitting"] == replace(usual["overfitting"], condition=changed["overfitting"].condition)
    assert changed["overfitting"].condition.threshold == 0.4
    assert set(usual) - set(changed) == {"first_epoch_loss"}
    assert set(changed) - set(usual) == {"memory"}
    assert changed["memory"].condition.threshold == 1.0
    assert told(over(epoch_memory_mb=[2.0]), changed["memory"]) == [("memory", 1)]
    assert usual["own"].condition.threshold == 0.25
    assert rules_of("own: 0.75")["own"].condition.threshold == 0.75
    assert rules_of("overfitting: true") == usual


def test_health_is_no_part_of_what_makes_a_study_the_same() -> None:
    plans = [resolve.resolve(StudySpec.parse(DIGITS % text)) for text in ("", "overfitting: 0.4")]
    assert plans[0].digest == plans[1].digest


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ("overfiting: 0.4", "health: Unknown health rule 'overfiting'.*Did you mean 'overfitting'"),
        ("memory: true", "health: memory has no threshold of its own; give it a number"),
        ("overfitting: .nan", "health: the threshold of overfitting must be a finite number, or false; got nan"),
        ("worsening: 0", "health: the threshold of worsening is a count: a whole number of 1 or more; got 0"),
        ("worsening: 2.5", "health: the threshold of worsening is a count"),
        ("overfitting: often", "health.*often"),
    ],
)
def test_a_mistake_under_health_is_told(health: str, message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        rules_of(health)


def test_health_without_the_shared_trainer_is_refused() -> None:
    text = "name: s\nobjective: analytic\nbudget: {trials: 1}\nhealth: {overfitting: 0.4}\n"
    with pytest.raises(StudyFileError, match="health: analytic does not train with the shared trainer"):
        resolve.resolve(StudySpec.parse(text))
