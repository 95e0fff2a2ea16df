"""The contract of a pruner, over every one: when it may not prune, whom it sees, and what it has to say."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from hpo.errors import StudyFileError, UnknownName
from hpo.resolve import resolve, search_settings
from hpo.search.judging import Judging
from hpo.search.pruners import PRUNERS, Aims, build
from hpo.search.pruners.judge import NAMED
from hpo.spec import StudySpec
from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState

LOSS, SPEED = Goal("loss"), Goal("speed", Direction.MAXIMIZE)
GOALS, ONCE = (LOSS, SPEED), frozenset({"speed"})
EPOCHS = 9
Curve = Sequence[tuple[float, float]]  # (loss, speed) per step

# Of every pruner the options with which it prunes as early as it can.
EAGER: dict[str, dict[str, Any]] = {
    "any": {"of": [{"name": "pareto_median", "startup_trials": 1}, {"name": "hopeless", "startup_trials": 1}]},
    "hopeless": {"startup_trials": 1},
    "hyperband": {},
    "median": {"startup_trials": 1},
    "none": {},
    "pareto_asha": {},
    "pareto_median": {"startup_trials": 1},
    "patient": {"patience": 1, "startup_trials": 1},
    "percentile": {"percentile": 50.0, "startup_trials": 1},
    "successive_halving": {},
    "threshold": {"upper": 50.0},
}
PRUNING = sorted(set(PRUNERS) - {"none"})
SEVERAL_GOALS = ["any", "hopeless", "pareto_asha", "pareto_median"]
COMPARING = sorted(set(PRUNING) - {"threshold"})
GOOD = [(5.0 - 0.5 * step, 100.0) for step in range(EPOCHS)]
POOR = [(90.0 + step, 1.0) for step in range(EPOCHS)]  # worse at both goals, and ever more so


def judging(name: str, options: dict[str, Any] | None = None, **more: Any) -> Judging:
    settings = {"goals": GOALS, "once": ONCE, "epochs": EPOCHS, **more}
    return Judging(name, EAGER[name] if options is None else options, **settings)


def point(step: int, told: tuple[float, float]) -> Point:
    return Point(step, {"loss": told[0], "speed": told[1]})


def run(study: Judging, number: int, curve: Curve) -> list[StopReason | None]:
    """Run a trial to its end, or to where it is pruned."""
    study.begin(number)
    stops: list[StopReason | None] = []
    for step, told in enumerate(curve, 1):
        stops.append(study.report(number, point(step, told)))
        if stops[-1] is not None:
            break
    study.finished(ended(number, None if stops[-1] else curve[-1]))
    return stops


def ended(number: int, values: tuple[float, float] | None, **more: Any) -> TrialRecord:
    state = TrialState.PRUNED if values is None else TrialState.COMPLETE
    return TrialRecord(number, state, {}, 0, values=values, **more)


def after(study: Judging, good: int) -> Judging:
    """The study with so many good trials, each a little better than the one before, so that all complete."""
    for number in range(good):
        assert run(study, number, [(loss - 0.01 * number, speed) for loss, speed in GOOD])[-1] is None
    return study


def first(stops: Sequence[StopReason | None]) -> StopReason | None:
    return next((stop for stop in stops if stop), None)


def test_every_pruner_is_held_to_this_contract() -> None:
    assert set(EAGER) == set(PRUNERS)


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_the_best_trial_is_never_pruned(name: str) -> None:
    study = after(judging(name), 6)
    assert run(study, 6, [(loss - 1, speed + 1) for loss, speed in GOOD]) == [None] * EPOCHS


@pytest.mark.parametrize("name", PRUNING)
def test_a_poor_trial_is_pruned_with_its_step_and_numbers_in_words(name: str) -> None:
    stop = first(run(after(judging(name), 6), 6, POOR))
    assert stop is not None
    assert stop.kind is StopKind.PRUNED
    step = stop.details["step"]
    assert stop.message.startswith(f"pruned at step {step}: ")
    assert "loss" in stop.message
    assert any(part in stop.message for part in ("90", "91", "92", "93", "94", "95", "96", "97", "98"))


@pytest.mark.parametrize("name", PRUNING)
def test_the_details_are_json_and_complete(name: str) -> None:
    stop = first(run(after(judging(name), 6), 6, POOR))
    assert stop is not None
    told = json.loads(json.dumps(stop.details, allow_nan=False))
    assert told == stop.details
    assert told["rule"] == ("pareto_median" if name == "any" else name)
    assert set(told["vector"]) == ({"loss", "speed"} if name in SEVERAL_GOALS else {"loss"})
    assert told["against_count"] == len(told["against"])
    if name in COMPARING:
        assert told["dominated_by"]
        assert {str(number) for number in told["dominated_by"]} <= set(told["against"])
        assert all(set(vector) == set(told["vector"]) for vector in told["against"].values())


@pytest.mark.parametrize("name", ["median", "pareto_median", "pareto_asha", "hopeless"])
def test_of_many_trials_the_best_are_named_and_all_are_counted(name: str) -> None:
    study = judging(name)
    for number in range(NAMED + 10):
        curve = [(loss - 0.01 * number, speed) for loss, speed in GOOD]
        study.restore(
            TrialRecord(
                number, TrialState.COMPLETE, {}, 0, values=curve[-1],
                points=tuple(point(step, told) for step, told in enumerate(curve, 1)),
            )
        )  # fmt: skip
    stop = first(run(study, NAMED + 10, POOR))
    assert stop is not None
    assert len(stop.details["against"]) == NAMED
    assert stop.details["against_count"] == NAMED + 10
    assert str(NAMED + 9) in stop.details["against"]  # the best of all


@pytest.mark.parametrize("name", ["median", "pareto_median", "hopeless", "percentile", "patient"])
def test_nothing_is_pruned_before_enough_trials_have_completed(name: str) -> None:
    study = after(judging(name, {**EAGER[name], "startup_trials": 3}), 2)
    assert run(study, 2, POOR) == [None] * EPOCHS  # its end makes it the third
    assert first(run(study, 3, [(loss + 9, speed - 1) for loss, speed in POOR])) is not None


@pytest.mark.parametrize("name", ["pareto_asha", "successive_halving", "hyperband"])
def test_a_rung_stops_nobody_before_enough_trials_have_reached_it(name: str) -> None:
    study = judging(name, {"startup_trials": 2})
    assert [first(run(study, number, POOR)) for number in (0, 1)] == [None, None]
    assert first(run(study, 2, [(loss + 9, speed) for loss, speed in POOR])) is not None


@pytest.mark.parametrize("name", ["median", "percentile", "patient", "threshold", "pareto_median", "hopeless"])
def test_the_warm_up_is_never_judged(name: str) -> None:
    stops = run(after(judging(name, {**EAGER[name], "warmup_steps": 4}), 6), 6, POOR)
    assert stops[:4] == [None] * 4
    assert stops[4] is not None


@pytest.mark.parametrize("name", ["pareto_asha", "successive_halving"])
def test_nobody_is_stopped_before_the_first_rung(name: str) -> None:
    stops = run(after(judging(name, {"min_resource": 3}), 6), 6, POOR)
    assert stops[:2] == [None] * 2
    assert stops[2] is not None


@pytest.mark.parametrize("name", PRUNING)
def test_a_trial_that_has_run_all_its_epochs_is_complete(name: str) -> None:
    study = after(judging(name), 6)
    study.begin(6)
    assert study.report(6, point(EPOCHS, POOR[-1])) is None


@pytest.mark.parametrize("name", PRUNING)
def test_values_that_are_not_numbers_end_in_no_error(name: str) -> None:
    nan = math.nan
    study = after(judging(name), 6)
    stop = first(run(study, 6, [(nan, nan)] * EPOCHS))
    if stop is not None:
        assert None in stop.details["vector"].values()
        json.dumps(stop.details, allow_nan=False)
    # And one that told nothing but NaN is nobody's measure.
    assert run(study, 7, [(loss - 1, speed + 1) for loss, speed in GOOD]) == [None] * EPOCHS


@pytest.mark.parametrize("name", SEVERAL_GOALS)
def test_a_rule_waits_for_a_goal_that_has_not_been_told(name: str) -> None:
    study = after(judging(name), 6)
    study.begin(6)
    assert [study.report(6, Point(step, {"loss": 90.0})) for step in range(1, 6)] == [None] * 5
    assert first([study.report(6, point(step, (90.0, 1.0))) for step in (6, 7, 8)]) is not None


def test_what_is_measured_once_holds_for_the_steps_that_do_not_repeat_it() -> None:
    study = after(judging("pareto_median", {"startup_trials": 1, "warmup_steps": 1}), 6)
    study.begin(6)
    assert study.report(6, point(1, (90.0, 1.0))) is None
    stop = study.report(6, Point(2, {"loss": 91.0}))
    assert stop is not None
    assert stop.details["vector"] == {"loss": 90.0, "speed": 1.0}  # the best loss so far


@pytest.mark.parametrize("name", SEVERAL_GOALS)
def test_one_goal_at_which_a_trial_is_the_best_keeps_it(name: str) -> None:
    study = after(judging(name), 2)
    assert run(study, 2, [(90.0, 1000.0)] * EPOCHS) == [None] * EPOCHS


@pytest.mark.parametrize("name", SEVERAL_GOALS)
def test_a_goal_to_be_maximised_is_judged_as_its_mirror_image(name: str) -> None:
    """Turning every sign and every direction changes no decision."""
    turned = (Goal("loss", Direction.MAXIMIZE), Goal("speed"))
    plain, mirror = after(judging(name), 4), judging(name, goals=turned, watched=turned[0])
    for number in range(4):
        run(mirror, number, [(-loss + 0.01 * number, -speed) for loss, speed in GOOD])
    for number, worse in enumerate((0.0, 0.2, 1.0, 30.0), 4):
        curve = [(loss + worse, speed - worse) for loss, speed in GOOD]
        here = first(run(plain, number, curve))
        there = first(run(mirror, number, [(-loss, -speed) for loss, speed in curve]))
        assert (here is None) == (there is None)
        if here and there:
            assert here.details["step"] == there.details["step"]
            assert here.details["dominated_by"] == there.details["dominated_by"]


@pytest.mark.parametrize("name", SEVERAL_GOALS)
def test_a_trial_that_broke_a_constraint_is_no_measure(name: str) -> None:
    study = judging(name)
    for number in range(6):
        study.begin(number)
        for step, told in enumerate(GOOD, 1):
            study.report(number, point(step, told))
        study.finished(ended(number, GOOD[-1], violations=(1.0,)))
    assert run(study, 6, POOR) == [None] * EPOCHS


def in_one_order(study: Judging, order: Sequence[int]) -> dict[int, str]:
    """Trials in waves of three, whose members end in any order."""
    reasons: dict[int, str] = {}
    for wave in range(4):
        numbers = [3 * wave + i for i in range(3)]
        for number in numbers:
            study.begin(number)
        for number in (3 * wave + i for i in order):
            shift = (number * 7) % 12
            curve = [(loss + 0.2 * shift * step, speed - shift) for step, (loss, speed) in enumerate(GOOD, 1)]
            stop = None
            for step, told in enumerate(curve, 1):
                stop = study.report(number, point(step, told))
                if stop:
                    reasons[number] = stop.message
                    break
            study.finished(ended(number, None if stop else curve[-1]))
    return reasons


@pytest.mark.parametrize("name", PRUNING)
def test_a_deterministic_study_prunes_the_same_in_whatever_order_trials_end(name: str) -> None:
    orders = ((0, 1, 2), (2, 0, 1))
    forward, backward = (in_one_order(judging(name, concurrency=3, deterministic=True), order) for order in orders)
    assert forward == backward
    assert forward or name == "threshold"


@pytest.mark.parametrize("name", PRUNING)
def test_a_trial_resumed_after_a_crash_is_judged_the_same(name: str) -> None:
    unbroken = after(judging(name), 6)
    curve = [(8.0 + 0.5 * step, 50.0) for step in range(EPOCHS)]
    expected = run(unbroken, 6, curve)
    broken = judging(name)
    for number in range(6):  # a new process: all comes from the records
        told = [(loss - 0.01 * number, speed) for loss, speed in GOOD]
        points = tuple(point(step, values) for step, values in enumerate(told, 1))
        broken.restore(TrialRecord(number, TrialState.COMPLETE, {}, 0, values=told[-1], points=points))
    # It had told four steps before the crash, of which the last two are done again.
    before = tuple(point(step, (curve[step - 1][0] - 100 * (step > 2), 50.0)) for step in range(1, 5))
    broken.restore(TrialRecord(6, TrialState.QUEUED, {}, 0, points=before))
    broken.begin(6)
    again = [broken.report(6, point(step, told)) for step, told in enumerate(curve, 1) if step > 2]
    ends = first(expected)
    late = next((stop for stop in again if stop), None)
    if ends is not None and ends.details["step"] > 2:
        assert late is not None
        assert late.details == ends.details
    elif ends is None:
        assert late is None


@pytest.mark.parametrize("name", COMPARING)
def test_judging_a_trial_leaves_its_record_as_it_was(name: str) -> None:
    """Asked twice about the same step, a rule says the same."""
    study = after(judging(name), 6)
    study.begin(6)
    reasons = [study.report(6, point(1, POOR[0])) for _ in range(2)]
    assert reasons[0] == reasons[1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pareto_median", {"keep": 1.0}, "keep: .*less than 1"),
        ("pareto_median", {"against": "all"}, "against: .*'completed' or 'reached'"),
        ("pareto_median", {"quantile": 0.5}, "Unknown option of pruner pareto_median"),
        ("pareto_asha", {"reduction_factor": 1}, "greater than or equal to 2"),
        ("successive_halving", {"min_resource": 0}, "greater than or equal to 1"),
        ("hopeless", {"quantile": 0.0}, "greater than 0"),
        ("hopeless", {"startup_trials": 0}, "greater than or equal to 1"),
        ("hyperband", {"min_resource": 5}, "two brackets.*15.*epochs \\(9\\)"),
        ("any", {}, "needs the option 'of'"),
        ("any", {"of": []}, "at least 1 item"),
        ("any", {"of": ["median"]}, "of: .*dict"),
        ("any", {"of": [{"keep": 0.5}]}, "of\\[0\\] needs the name"),
        ("any", {"of": [{"name": "pareto_mean"}]}, "of\\[0\\].*Did you mean 'pareto_median'"),
        ("any", {"of": [{"name": "none"}, {"name": "hopeless", "quantil": 1}]}, "of\\[1\\].*Did you mean 'quantile'"),
        ("any", {"of": [{"name": "median", "watch": "loss"}]}, "of\\[0\\].watch: .*beside of"),
    ],
)
def test_a_wrong_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownName, StudyFileError), match=message):
        build(name, options, Aims(GOALS, LOSS, ONCE, EPOCHS))


def test_hyperband_needs_the_epochs() -> None:
    with pytest.raises(StudyFileError, match="epochs of a trial"):
        build("hyperband", {}, Aims(GOALS, LOSS))


def test_a_plan_tells_the_pruner_what_is_measured_once_and_how_long_a_trial_is() -> None:
    text = "name: s\nobjective: tests.training.tiny_objective:Tiny\nbudget: {trials: 1, epochs: 7}\n"
    settings = search_settings(resolve(StudySpec.parse(text)))
    assert {"samples_per_s", "parameter_mb"} <= settings.once
    assert "val_loss" not in settings.once
    assert settings.epochs == 7
