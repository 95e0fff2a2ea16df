"""The contract of a sampler, over every one; and that proposals are plain Optuna's."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest

from hpo.errors import StudyFileError, UnknownName
from hpo.search.samplers import SAMPLERS, SamplerFactory, grid_size
from hpo.search.view import Search, SearchSettings
from hpo.trial import Goal, Point, StopKind, StopReason, TrialRecord, TrialState, derive_seed
from search_spaces import Choice, Float, Int, SearchSpace

FLOATS = SearchSpace({"x": Float(0.0, 1.0), "y": Float(1e-4, 1.0, log=True)})
MIXED = SearchSpace(
    {"x": Float(0.0, 1.0, step=0.25), "n": Int(1, 3), "c": Choice(("a", "b")), "m": Float(0.0, 1.0, when={"c": "a"})}
)
FINITE = SearchSpace({"x": Float(0.0, 1.0, step=0.25), "n": Int(1, 3), "c": Choice(("a", "b"))})
ONE, TWO = (Goal("f1"),), (Goal("f1"), Goal("f2"))


def settings(sampler: str, space: SearchSpace, goals: tuple[Goal, ...] = ONE, **fields: Any) -> SearchSettings:
    options = {"population": 4} if sampler.startswith("nsga") else {}
    if sampler in ("tpe", "gp"):
        options = {"startup_trials": 4}
    return SearchSettings(space, goals, seed=5, sampler=sampler, sampler_options=options, **fields)


def space_for(sampler: str) -> SearchSpace:
    return FINITE if sampler == "grid" else MIXED


def trials_for(sampler: str) -> int:
    return 7 if sampler == "gp" else 14  # fitting a Gaussian process takes half a second


def value(params: dict[str, Any], goals: int) -> tuple[float, ...]:
    x = float(params["x"])
    return (x * x + params.get("n", 0), (1 - x) ** 2 + params.get("m", 0.0))[:goals]


def ended(number: int, params: dict[str, Any], state: dict[str, Any], goals: int) -> TrialRecord:
    reason = StopReason(StopKind.FINISHED, "done")
    record = TrialRecord(number, TrialState.COMPLETE, params, 0, reason=reason, sampler_state=state)
    if number % 5 == 3:  # some are pruned: they have a curve and no value
        points = (Point(1, {"f1": value(params, 1)[0]}),)
        return TrialRecord(number, TrialState.PRUNED, params, 0, sampler_state=state, points=points)
    points = tuple(Point(s, {"f1": value(params, 1)[0] + 1 / s}) for s in (1, 2))
    return TrialRecord(number, record.state, params, 0, values=value(params, goals), sampler_state=state, points=points)


def drive(search: Search, first: int, until: int, goals: int) -> list[TrialRecord]:
    records = []
    for number in range(first, until):
        proposal = search.propose(number)
        records.append(ended(number, proposal.params, proposal.sampler_state, goals))
        search.finished(records[-1])
        drive.state = proposal.search_state  # type: ignore[attr-defined]
    return records


@pytest.mark.parametrize("goals", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_stays_in_the_space_and_repeats_itself(name: str, goals: tuple[Goal, ...]) -> None:
    space = space_for(name)
    runs = [drive(Search(settings(name, space, goals)), 0, trials_for(name), len(goals)) for _ in range(2)]
    for record in runs[0]:
        space.check(record.params)
    assert [r.params for r in runs[0]] == [r.params for r in runs[1]]
    assert len({tuple(sorted(r.params.items())) for r in runs[0]}) > 5


@pytest.mark.parametrize("goals", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_resumed_study_proposes_what_an_unbroken_one_does(name: str, goals: tuple[Goal, ...]) -> None:
    space = space_for(name)
    end = trials_for(name)
    whole = drive(Search(settings(name, space, goals)), 0, end, len(goals))
    before = drive(Search(settings(name, space, goals)), 0, end - 2, len(goals))
    state = drive.state  # type: ignore[attr-defined]
    after = drive(Search(settings(name, space, goals), before, state), end - 2, end, len(goals))
    assert [r.params for r in before + after] == [r.params for r in whole]


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "gp"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_parameters_are_those_that_plain_optuna_proposes(name: str, concurrency: int) -> None:
    """Plain Optuna, shown the same trials in the same states, with the same seeds."""
    search = Search(settings(name, FLOATS, concurrency=concurrency, deterministic=True))
    fresh = {
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda seed: optuna.samplers.TPESampler(
            n_startup_trials=4, multivariate=True, constant_liar=True, seed=seed
        ),
        "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=4, seed=seed),
        "gp": lambda seed: optuna.samplers.GPSampler(n_startup_trials=4, seed=seed),
    }[name]
    plain = optuna.create_study()
    open_trials: dict[int, optuna.Trial] = {}
    for number in range(10):
        visible = number - concurrency  # trial n sees how those up to n - concurrency ended
        if visible >= 0:
            trial = open_trials.pop(visible)
            plain.tell(trial, trial.params["x"] ** 2 + trial.params["y"])
        plain.sampler = fresh(derive_seed(5, number, "sampler"))
        trial = plain.ask()
        expected = {"x": trial.suggest_float("x", 0.0, 1.0), "y": trial.suggest_float("y", 1e-4, 1.0, log=True)}
        open_trials[number] = trial
        got = search.propose(number)
        assert got.params == expected
        values = (expected["x"] ** 2 + expected["y"],)
        search.finished(TrialRecord(number, TrialState.COMPLETE, got.params, 0, values=values))


def test_a_deterministic_search_waits_for_what_it_must_see() -> None:
    search = Search(settings("random", FLOATS, concurrency=2, deterministic=True))
    records = [ended(n, search.propose(n).params, {}, 1) for n in (0, 1)]
    assert not search.may_ask(2)
    search.finished(records[1])  # the wrong one: trial 2 must see trial 0
    assert not search.may_ask(2)
    search.finished(records[0])
    assert search.may_ask(2)
    assert search.may_ask(3)
    assert not search.may_ask(4)


def test_the_order_in_which_trials_end_does_not_matter_when_deterministic() -> None:
    def params_of_third(order: tuple[int, int, int]) -> dict[str, Any]:
        search = Search(settings("tpe", FLOATS, concurrency=3, deterministic=True))
        records = [ended(n, search.propose(n).params, {}, 1) for n in range(3)]
        for n in order:
            search.finished(records[n])
        return [search.propose(n).params for n in (3, 4, 5)]  # type: ignore[return-value]

    assert params_of_third((0, 1, 2)) == params_of_third((2, 0, 1)) == params_of_third((1, 2, 0))


def test_an_enqueued_point_is_taken_and_completed() -> None:
    search = Search(settings("tpe", MIXED))
    proposal = search.propose(0, {"n": 2, "c": "a"})
    assert (proposal.params["n"], proposal.params["c"]) == (2, "a")
    MIXED.check(proposal.params)


def test_grid_tries_every_point_once() -> None:
    size = grid_size(FINITE)
    assert size == 5 * 3 * 2
    search = Search(settings("grid", FINITE))
    records = drive(search, 0, size, 1)
    assert len({tuple(sorted(r.params.items())) for r in records}) == size
    assert search.is_exhausted(size)
    assert not search.is_exhausted(size, enqueued=1)


def test_grid_names_the_samplers_that_take_an_endless_space() -> None:
    with pytest.raises(StudyFileError, match=r"no end of them.*gp, nsga2, nsga3, qmc, random, tpe"):
        SamplerFactory("grid", {}, FLOATS, 0)
    with pytest.raises(StudyFileError, match="cannot take conditions"):
        SamplerFactory("grid", {}, SearchSpace({**FINITE, "m": Int(1, 2, when={"c": "a"})}), 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tpee", {}, "Did you mean 'tpe'"),
        ("tpe", {"startup": 3}, "Did you mean 'startup_trials'"),
        ("tpe", {"startup_trials": 0}, "greater than or equal to 1"),
        ("tpe", {"startup_trials": "many"}, "valid integer"),
        ("nsga2", {"population": 1}, "greater than or equal to 2"),
    ],
)
def test_a_wrong_sampler_or_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownName, StudyFileError), match=message):
        SamplerFactory(name, options, FLOATS, 0)


def test_random_covers_the_space_evenly() -> None:
    search = Search(settings("random", FLOATS))
    xs = sorted(search.propose(n).params["x"] for n in range(200))
    # Kolmogorov-Smirnov distance to the uniform distribution; 1.63/sqrt(n) is its 1 % bound.
    distance = max(max(abs(x - i / 200), abs(x - (i + 1) / 200)) for i, x in enumerate(xs))
    assert distance < 1.63 / math.sqrt(200)


def test_qmc_is_a_sobol_sequence_from_the_first_trial_on() -> None:
    from scipy.stats import qmc

    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 2.0), "c": Choice(("a", "b")), "one": Choice((7,))})
    search = Search(settings("qmc", space))
    got = [search.propose(n).params for n in range(8)]  # none of them has ended
    sobol = qmc.Sobol(3, scramble=True, seed=5).random(8)
    assert [p["c"] for p in got] == [("a", "b")[int(row[2] * 2)] for row in sobol]
    assert [p["x"] for p in got] == pytest.approx([row[0] for row in sobol])
    assert [p["y"] for p in got] == pytest.approx([2 * row[1] for row in sobol])
    assert {p["one"] for p in got} == {7}


def test_qmc_does_not_repeat_a_conditional_parameter() -> None:
    space = SearchSpace({"c": Choice(("a", "b")), "m": Float(0.0, 1.0, when={"c": "a"})})
    search = Search(settings("qmc", space))
    params = [search.propose(n).params for n in range(16)]
    drawn = [p["m"] for p in params if "m" in p]
    assert len(drawn) == 8  # half of a Sobol sequence of 16
    assert len(set(drawn)) == 8


def test_a_grid_too_large_to_list_is_refused_by_its_size() -> None:
    with pytest.raises(StudyFileError, match=r"this space has 2,000,000,000; 100,000 are the most"):
        SamplerFactory("grid", {}, SearchSpace({"n": Int(1, 1_000_000_000), "c": Choice(("a", "b"))}), 0)
    SamplerFactory("grid", {}, SearchSpace({"n": Int(1, 50_000), "c": Choice(("a", "b"))}), 0)


def test_a_grid_is_whole_beside_an_enqueued_point() -> None:
    search = Search(settings("grid", FINITE))
    proposal = search.propose(0, {"x": 0.5, "n": 2, "c": "a"})
    assert proposal.params == {"x": 0.5, "n": 2, "c": "a"}
    search.finished(ended(0, proposal.params, proposal.sampler_state, 1))
    size = grid_size(FINITE)
    records = drive(search, 1, 1 + size, 1)
    assert len({tuple(sorted(r.params.items())) for r in records}) == size
