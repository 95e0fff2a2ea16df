"""What samplers are told of trials that break a constraint or do not fit into memory."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from hpo.search.memory import FITS, Memory
from hpo.search.view import Search
from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState
from search_spaces import Float, SearchSpace
from tests.searches import ONE, settings

LINE = SearchSpace({"x": Float(0.0, 1.0)})
WIDE = SearchSpace({name: Float(0.0, 1.0) for name in "xabc"})
MIXED_GOALS = (Goal("loss"), Goal("speed", Direction.MAXIMIZE))


def complete(number: int, params: dict[str, Any], *values: float, violations: tuple[float, ...] = ()) -> TrialRecord:
    return TrialRecord(number, TrialState.COMPLETE, params, 0, values=values, violations=violations)


def failed(number: int, params: dict[str, Any], kind: StopKind) -> TrialRecord:
    return TrialRecord(number, TrialState.FAIL, params, 0, reason=StopReason(kind, "did not work"))


def told(memory: Memory) -> list[optuna.trial.FrozenTrial]:
    return memory._storage.get_all_trials(memory._id)


def given(memory: Memory, *records: TrialRecord) -> list[optuna.trial.FrozenTrial]:
    for record in records:
        memory.begin(record.number)
        memory.keep(record.number, record.params)
        memory.tell(record)
    return told(memory)


def test_constraints_are_told_under_their_names() -> None:
    memory = Memory(LINE, ONE, ("a <= 1", "b >= 2"))
    trials = given(memory, complete(0, {"x": 0.1}, 1.0, violations=(-0.5, float("inf"))))
    assert trials[0].constraints == {"a <= 1": -0.5, "b >= 2": float("inf")}


def test_a_trial_without_room_is_told_as_infeasible_with_the_worst_values_so_far() -> None:
    memory = Memory(LINE, MIXED_GOALS)
    trials = given(
        memory,
        failed(0, {"x": 0.9}, StopKind.OUT_OF_MEMORY),
        complete(1, {"x": 0.1}, 3.0, 10.0),
        complete(2, {"x": 0.2}, 2.0, 20.0),
        failed(3, {"x": 0.8}, StopKind.OUT_OF_MEMORY),
        failed(4, {"x": 0.3}, StopKind.ERROR),
        complete(5, {"x": 0.4}, 9.0, 1.0),
    )
    assert [(t.state.name, t.values) for t in trials] == [
        ("PRUNED", None),  # nothing had been told before
        ("COMPLETE", [3.0, 10.0]),
        ("COMPLETE", [2.0, 20.0]),
        ("COMPLETE", [3.0, 10.0]),  # the largest loss and the smallest speed until then
        ("FAIL", None),
        ("COMPLETE", [9.0, 1.0]),
    ]
    assert [t.constraints.get(FITS) for t in trials] == [1.0, -1.0, -1.0, 1.0, None, -1.0]


def test_with_constraints_of_its_own_a_trial_without_room_breaks_those() -> None:
    memory = Memory(LINE, ONE, ("a <= 1",))
    trials = given(
        memory,
        complete(0, {"x": 0.1}, 1.0, violations=(-1.0,)),
        failed(1, {"x": 0.9}, StopKind.OUT_OF_MEMORY),
    )
    assert [t.constraints for t in trials] == [{"a <= 1": -1.0}, {"a <= 1": float("inf")}]


@pytest.mark.parametrize("constraints", [(), ("x <= 1",)])
def test_a_memory_rebuilt_from_records_is_the_one_that_was_told(constraints: tuple[str, ...]) -> None:
    kept = (-1.0,) if constraints else ()
    curve = (Point(1, {"f1": 2.0}), Point(2, {"f1": 1.0}))
    records = [
        complete(0, {"x": 0.1}, 1.0, violations=kept),
        failed(1, {"x": 0.9}, StopKind.OUT_OF_MEMORY),
        TrialRecord(2, TrialState.PRUNED, {"x": 0.5}, 0, points=curve),
        failed(3, {"x": 0.6}, StopKind.ERROR),
        complete(4, {"x": 0.2}, 5.0, violations=kept),
    ]
    live, rebuilt = Memory(LINE, ONE, constraints), Memory(LINE, ONE, constraints)
    given(live, *records)
    for record in records:
        rebuilt.restore(record, told=True)
    for a, b in zip(told(live), told(rebuilt), strict=True):
        assert (a.number, a.state, a.values, a.params, a.distributions) == (
            b.number, b.state, b.values, b.params, b.distributions
        )  # fmt: skip
        assert (a.system_attrs, a.intermediate_values) == (b.system_attrs, b.intermediate_values)


@pytest.mark.parametrize("kind", [StopKind.OUT_OF_MEMORY, StopKind.ERROR])
def test_tpe_keeps_away_from_where_memory_ran_out_and_ignores_other_failures(kind: StopKind) -> None:
    """The values get better towards x = 0.65, and every trial above 0.6 fails."""
    search = Search(settings("tpe", LINE))
    above = []
    for number in range(80):
        params = search.propose(number).params
        above.append(params["x"] > 0.6)
        record = failed(number, params, kind) if above[-1] else complete(number, params, (params["x"] - 0.65) ** 2)
        search.finished(record)
    # Measured: 26 of the last 60 when told, all 60 when ignored.
    assert (sum(above[20:]) < 35) == (kind is StopKind.OUT_OF_MEMORY)


@pytest.mark.parametrize("name", ["tpe", "nsga2", "nsga3", pytest.param("gp", marks=pytest.mark.slow)])
def test_samplers_that_learn_from_constraints_stay_where_they_are_kept(name: str) -> None:
    """The loss falls with x, and x <= 0.4 is the constraint: told of it, few go beyond."""

    def beyond(constraints: tuple[str, ...]) -> int:
        search, end = Search(settings(name, WIDE, constraints=constraints)), 25 if name == "gp" else 80
        xs = []
        for number in range(end):
            params = search.propose(number).params
            xs.append(params["x"])
            violations = (params["x"] - 0.4,) if constraints else ()
            loss = -params["x"] - 0.1 * sum(params[name] for name in "abc")
            search.finished(complete(number, params, loss, violations=violations))
        return sum(x > 0.45 for x in xs[end // 2 :])

    # Measured, of 40: tpe 7 against 40, nsga2 7 against 37, nsga3 8 against 37.
    assert beyond(("x <= 0.4",)) < beyond(()) / 2
