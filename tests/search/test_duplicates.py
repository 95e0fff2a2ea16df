"""No point is run twice: it is replaced, counted, and an exhausted space ends the study."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.search.points import REPLACED, TriedPoints, points, size
from hpo.search.samplers import SAMPLERS
from hpo.search.view import Search
from hpo.trial import StopKind, StopReason, TrialRecord, TrialState
from search_spaces import Choice, Float, Int, SearchSpace
from tests.searches import ended, settings

CONDITIONAL = SearchSpace(
    {"c": Choice(("a", "b")), "n": Int(1, 2, when={"c": "a"}), "x": Float(0.0, 0.3, step=0.1, when={"c": "a"})}
)
TINY = SearchSpace({"x": Float(0.0, 1.0, step=0.25), "n": Int(1, 3)})


def test_the_points_of_a_conditional_space_are_counted_and_listed() -> None:
    # c=b alone, or c=a with 2 values of n and 4 of x.
    assert size(CONDITIONAL) == 1 + 2 * 4
    listed = list(points(CONDITIONAL))
    assert listed[-1] == {"c": "b"}
    assert listed[0] == {"c": "a", "n": 1, "x": 0.0}
    for point in listed:
        CONDITIONAL.check(point)


def test_spaces_without_end_or_too_large_to_list_are_never_exhausted() -> None:
    assert size(SearchSpace({"x": Float(0.0, 1.0)})) is None
    assert size(SearchSpace({**CONDITIONAL, "big": Int(1, 1_000_000)})) is None
    assert size(SearchSpace({"n": Int(1, 1000), "m": Int(1, 1000)})) == 1_000_000


def test_points_are_the_same_after_rounding_to_steps_and_true_is_not_one() -> None:
    tried = TriedPoints(SearchSpace({"x": Float(0.0, 1.0, step=0.1), "c": Choice((True, 1, "1"))}))
    tried.add({"x": 0.1 + 0.2, "c": True})
    assert {"x": 0.3, "c": True} in tried
    assert {"x": 0.3, "c": 1} not in tried
    assert {"x": 0.3, "c": "1"} not in tried
    assert {"x": 0.4, "c": True} not in tried


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"gp"}))
@pytest.mark.parametrize("resumed", [False, True])
def test_every_sampler_tries_every_point_of_a_small_space_once(name: str, resumed: bool) -> None:
    wanted = settings(name, TINY)
    search, records, replaced, state = Search(wanted), [], 0, {}
    for number in range(15):
        assert not search.is_exhausted()
        proposal = search.propose(number)
        replaced += proposal.sampler_state.get(REPLACED, 0)
        records.append(ended(number, proposal, 1))
        search.finished(records[-1])
        state = state if proposal.search_state is None else proposal.search_state
        if resumed:
            search = Search(wanted, records, state)
    assert len({(r.params["x"], r.params["n"]) for r in records}) == 15
    assert search.is_exhausted()
    assert (replaced > 0) == (name != "grid")


def test_a_running_trial_and_a_failed_one_are_not_repeated_either() -> None:
    search = Search(settings("random", SearchSpace({"n": Int(1, 2)})))
    first = search.propose(0).params
    failed = TrialRecord(0, TrialState.FAIL, first, 0, reason=StopReason(StopKind.ERROR, "broke"))
    search.finished(failed)
    assert search.propose(1).params != first
    assert search.is_exhausted()


def test_a_point_that_somebody_asked_for_may_be_repeated() -> None:
    search = Search(settings("random", TINY))
    point: dict[str, Any] = {"x": 0.5, "n": 2}
    for number in range(3):
        proposal = search.propose(number, point)
        assert proposal.params == point
        assert REPLACED not in proposal.sampler_state


def test_the_repetition_stands_where_there_is_no_end_of_points_and_chance_finds_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = Search(settings("random", SearchSpace({"x": Float(0.0, 1.0)})))
    monkeypatch.setattr(search._memory, "draw", lambda *_: {"x": 0.5})
    assert [search.propose(number).params for number in (0, 1)] == [{"x": 0.5}] * 2
