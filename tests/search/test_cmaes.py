"""CMA-ES rebuilt by replay, held against the package that does the arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cmaes import CMA

from hpo.errors import StudyFileError
from hpo.search.samplers import SamplerFactory
from hpo.search.view import Search, SearchSettings
from hpo.trial import Direction, Goal, TrialRecord, TrialState, derive_seed
from search_spaces import Choice, Float, Int, SearchSpace
from tests.searches import FLOATS, ONE, TWO, settings

BOWL = SearchSpace(
    {"x": Float(-4.0, 8.0), "y": Float(1e-3, 1e3, log=True), "n": Int(0, 40), "s": Float(0.0, 1.0, step=0.1)}
)


def bowl(params: dict[str, Any]) -> float:
    """Lowest, at 0, where x = 5, y = 10, n = 7 and s = 0.3."""
    return float(
        (params["x"] - 5) ** 2 / 144
        + (np.log10(params["y"]) - 1) ** 2 / 36
        + ((params["n"] - 7) / 40) ** 2
        + (params["s"] - 0.3) ** 2
    )


def run(search: Search, numbers: range, sign: float = 1.0) -> list[TrialRecord]:
    records = []
    for number in numbers:
        proposal = search.propose(number)
        value = sign * bowl(proposal.params)
        records.append(
            TrialRecord(
                number, TrialState.COMPLETE, proposal.params, 0, values=(value,), sampler_state=proposal.sampler_state
            )
        )
        search.finished(records[-1])
    return records


def test_the_proposals_are_those_of_the_package_told_generation_by_generation() -> None:
    search = Search(settings("cmaes", FLOATS))
    alone = CMA(
        mean=np.full(2, 0.5), sigma=1 / 6, bounds=np.array([[0, 1], [0, 1]]), n_max_resampling=20, population_size=4
    )
    told = []
    for number in range(20):
        if len(told) == 4:
            alone.tell(told)
            told = []
        alone.reseed_rng(derive_seed(5, number, "sampler"))
        point = alone.ask()
        params = search.propose(number).params
        # y is on a log scale from 1e-4 to 1: 10 ** (4 * p - 4).
        assert [params["x"], params["y"]] == pytest.approx([point[0], 10 ** (4 * point[1] - 4)])
        value = (point[0] - 0.2) ** 2 + (point[1] - 0.9) ** 2
        told.append((point, value))
        search.finished(TrialRecord(number, TrialState.COMPLETE, params, 0, values=(value,)))


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("direction", list(Direction))
def test_it_finds_the_bottom_of_a_bowl_or_the_top_of_a_hill(separable: bool, direction: Direction) -> None:
    options = {"separable": separable}
    search = Search(SearchSettings(BOWL, (Goal("f1", direction),), 3, sampler="cmaes", sampler_options=options))
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    values = [abs(record.values[0]) for record in run(search, range(240), sign)]  # type: ignore[index]
    # Chance, on the same number of points, comes to about 0.02.
    assert min(values[:20]) > min(values[-20:])
    assert min(values) < 1e-3
    assert np.median(values[-40:]) < 0.01


def test_steps_and_bounds_are_respected_and_every_cell_is_reached() -> None:
    space = SearchSpace({"n": Int(1, 3), "k": Int(1, 1000, log=True), "s": Float(0.0, 1.0, step=0.3)})
    search = Search(settings("cmaes", space))
    params = [search.propose(number).params for number in range(300)]  # none has ended: one generation
    for point in params:
        space.check(point)
    assert {p["n"] for p in params} == {1, 2, 3}
    assert {round(p["s"], 9) for p in params} == {0.0, 0.3, 0.6, 0.9}


def test_trials_that_end_late_do_not_change_what_a_generation_was_told() -> None:
    """With several workers and no promise of determinism, the trials that were told are remembered."""
    wanted = settings("cmaes", FLOATS, concurrency=8)
    search = Search(wanted)

    def end(number: int, proposal: Any) -> TrialRecord:
        value = (proposal.params["x"] - 0.2) ** 2
        return TrialRecord(
            number, TrialState.COMPLETE, proposal.params, 0, values=(value,), sampler_state=proposal.sampler_state
        )

    ended = [end(number, search.propose(number)) for number in range(8)]  # a generation is four
    for number in (7, 5, 3, 6):
        search.finished(ended[number])
    ended.append(end(8, search.propose(8)))
    for number in (0, 1, 2, 4, 8):
        search.finished(ended[number])
    unbroken = [search.propose(number).params for number in (9, 10)]
    resumed = Search(wanted, ended)
    assert [resumed.propose(number).params for number in (9, 10)] == unbroken
    assert ended[8].sampler_state["cmaes:told"] == [3, 5, 6, 7]


def test_a_single_number_is_enough_and_none_is_refused() -> None:
    assert run_one(SearchSpace({"x": Float(0.0, 1.0), "c": Choice(("a", "b"))}))
    with pytest.raises(StudyFileError, match=r"searches numbers.*gp, nsga2, nsga3, qmc, random, tpe"):
        SamplerFactory("cmaes", {}, SearchSpace({"c": Choice(("a", "b")), "m": Int(1, 2, when={"c": "a"})}), 0)


def run_one(space: SearchSpace) -> bool:
    search = Search(SearchSettings(space, ONE, 3, sampler="cmaes", sampler_options={"separable": True}))
    for number in range(30):
        params = search.propose(number).params
        space.check(params)
        search.finished(TrialRecord(number, TrialState.COMPLETE, params, 0, values=((params["x"] - 0.9) ** 2,)))
    return bool(abs(params["x"] - 0.9) < 0.1)


def test_several_goals_are_refused_with_the_samplers_that_take_them() -> None:
    with pytest.raises(
        StudyFileError, match=r"takes one goal, and this study has 2.*gp, nsga2, nsga3, qmc, random, tpe"
    ):
        Search(settings("cmaes", FLOATS, TWO))
