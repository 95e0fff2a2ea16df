"""Searches without training, for tests: spaces, settings, trials that end at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpo.search.view import Proposal, Search, SearchSettings
from hpo.trial import Goal, Params, Point, StopKind, StopReason, TrialRecord, TrialState
from search_spaces import Choice, Float, Int, SearchSpace

FLOATS = SearchSpace({"x": Float(0.0, 1.0), "y": Float(1e-4, 1.0, log=True)})
MIXED = SearchSpace(
    {
        "x": Float(0.0, 1.0, step=0.05),
        "n": Int(1, 3),
        "c": Choice(("a", "b")),
        "m": Float(0.0, 1.0, when={"c": "a"}),
        "one": Choice((7,)),
    }
)
FINITE = SearchSpace({"x": Float(0.0, 1.0, step=0.25), "n": Int(1, 3), "c": Choice(("a", "b"))})
ONE, TWO = (Goal("f1"),), (Goal("f1"), Goal("f2"))


def settings(sampler: str, space: SearchSpace, goals: tuple[Goal, ...] = ONE, **fields: Any) -> SearchSettings:
    options = {"population": 4} if sampler in ("cmaes", "nsga2", "nsga3") else {}
    if sampler in ("tpe", "gp"):
        options = {"startup_trials": 4}
    return SearchSettings(space, goals, seed=5, sampler=sampler, sampler_options=options, **fields)


def space_for(sampler: str) -> SearchSpace:
    return FINITE if sampler == "grid" else MIXED


def trials_for(sampler: str) -> int:
    return 7 if sampler == "gp" else 14  # fitting a Gaussian process takes half a second


def value(params: Params, goals: int) -> tuple[float, ...]:
    x = float(params["x"])
    return (x * x + params.get("n", 0), (1 - x) ** 2 + params.get("m", 0.0))[:goals]


def ended(number: int, proposal: Proposal, goals: int, *, constrained: bool = False) -> TrialRecord:
    """Most are complete; some are pruned, with a curve and no value, and one in seven runs out of memory."""
    params, state = proposal.params, proposal.sampler_state
    if number % 7 == 5:
        reason = StopReason(StopKind.OUT_OF_MEMORY, "too large")
        return TrialRecord(number, TrialState.FAIL, params, 0, reason=reason, sampler_state=state)
    if number % 5 == 3:
        points = (Point(1, {"f1": value(params, 1)[0]}),)
        return TrialRecord(number, TrialState.PRUNED, params, 0, sampler_state=state, points=points)
    points = tuple(Point(s, {"f1": value(params, 1)[0] + 1 / s}) for s in (1, 2))
    return TrialRecord(
        number, TrialState.COMPLETE, params, 0, values=value(params, goals), sampler_state=state, points=points,
        violations=(0.5 - float(params["x"]),) if constrained else (),
    )  # fmt: skip


def drive(
    search: Search, numbers: range, goals: int, *, constrained: bool = False
) -> Iterator[tuple[TrialRecord, dict[str, Any]]]:
    """Each trial as it ended, and what was to be remembered of the study, one after the other."""
    state: dict[str, Any] = {}
    for number in numbers:
        proposal = search.propose(number)
        record = ended(number, proposal, goals, constrained=constrained)
        search.finished(record)
        state = state if proposal.search_state is None else proposal.search_state
        yield record, state
