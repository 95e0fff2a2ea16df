"""The contract of a sampler, over every one; and that proposals are plain Optuna's."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import optuna
import pytest

from hpo.errors import StudyFileError, UnknownName
from hpo.search.points import size
from hpo.search.samplers import SAMPLERS, SamplerFactory
from hpo.search.view import Search, remarks
from hpo.trial import Goal, TrialRecord, TrialState, derive_seed
from search_spaces import Choice, Float, Int, SearchSpace
from tests.searches import FINITE, FLOATS, MIXED, ONE, TWO, drive, ended, settings, space_for, trials_for

EVERY = [(name, goals) for name in sorted(SAMPLERS) for goals in (ONE, TWO) if (name, goals) != ("cmaes", TWO)]
every_sampler = pytest.mark.parametrize(
    ("name", "goals"),
    [pytest.param(*one, marks=[pytest.mark.slow] if one == ("gp", TWO) else []) for one in EVERY],
    ids=[f"{name}-{len(goals)}" for name, goals in EVERY],
)
constrained_or_not = pytest.mark.parametrize("constraints", [(), ("x >= 0.5",)], ids=["free", "constrained"])


@every_sampler
@constrained_or_not
def test_every_sampler_stays_in_the_space_and_repeats_itself(
    name: str, goals: tuple[Goal, ...], constraints: tuple[str, ...]
) -> None:
    space = space_for(name)
    wanted = settings(name, space, goals, constraints=constraints)
    runs = [
        [r.params for r, _ in drive(Search(wanted), range(trials_for(name)), len(goals), constrained=bool(constraints))]
        for _ in range(2)
    ]
    for params in runs[0]:
        space.check(params)
    assert runs[0] == runs[1]
    assert len({tuple(sorted(params.items())) for params in runs[0]}) == trials_for(name)


@every_sampler
@constrained_or_not
def test_a_study_resumed_anywhere_proposes_what_an_unbroken_one_does(
    name: str, goals: tuple[Goal, ...], constraints: tuple[str, ...]
) -> None:
    end = trials_for(name)
    wanted, limited = settings(name, space_for(name), goals, constraints=constraints), bool(constraints)
    whole = list(drive(Search(wanted), range(end), len(goals), constrained=limited))
    records = [record for record, _ in whole]
    for cut in (end - 1,) if name == "gp" else range(1, end):
        resumed = Search(wanted, records[:cut], whole[cut - 1][1])
        after = drive(resumed, range(cut, min(cut + 4, end)), len(goals), constrained=limited)
        assert [record.params for record, _ in after] == [r.params for r in records[cut : cut + 4]], cut


@every_sampler
def test_a_deterministic_search_does_not_care_in_which_order_trials_end(name: str, goals: tuple[Goal, ...]) -> None:
    wanted = settings(name, space_for(name), goals, concurrency=3, deterministic=True)

    def proposed(order: tuple[int, ...]) -> list[dict[str, Any]]:
        search, found = Search(wanted), []
        for first in range(0, 6 if name == "gp" else 15, 3):
            proposals = {number: search.propose(number) for number in range(first, first + 3)}
            for i in order:
                search.finished(ended(first + i, proposals[first + i], len(goals)))
            found += [proposal.params for proposal in proposals.values()]
        return found

    orders = [(0, 1, 2), (2, 1, 0)] if name == "gp" else list(permutations(range(3)))
    assert all(proposed(order) == proposed(orders[0]) for order in orders[1:])


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "gp"])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_parameters_are_those_that_plain_optuna_proposes(name: str, concurrency: int) -> None:
    """Plain Optuna, shown the same trials in the same states, with the same seeds."""
    space = SearchSpace({**FLOATS, **{name: Float(0.0, 1.0) for name in "abcd"}})  # so wide that no child is its parent
    search = Search(settings(name, space, concurrency=concurrency, deterministic=True))
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
        expected |= {name: trial.suggest_float(name, 0.0, 1.0) for name in "abcd"}
        open_trials[number] = trial
        got = search.propose(number)
        assert got.params == expected
        values = (expected["x"] ** 2 + expected["y"],)
        search.finished(TrialRecord(number, TrialState.COMPLETE, got.params, 0, values=values))


def test_a_deterministic_search_waits_for_what_it_must_see() -> None:
    search = Search(settings("random", FLOATS, concurrency=2, deterministic=True))
    records = [ended(n, search.propose(n), 1) for n in (0, 1)]
    assert not search.may_ask(2)
    search.finished(records[1])  # the wrong one: trial 2 must see trial 0
    assert not search.may_ask(2)
    search.finished(records[0])
    assert search.may_ask(2)
    assert search.may_ask(3)
    assert not search.may_ask(4)


def test_an_enqueued_point_is_taken_and_completed() -> None:
    search = Search(settings("tpe", MIXED))
    proposal = search.propose(0, {"n": 2, "c": "a"})
    assert (proposal.params["n"], proposal.params["c"]) == (2, "a")
    MIXED.check(proposal.params)


@pytest.mark.parametrize("enqueued", [None, {"x": 0.5, "n": 2, "c": "a"}], ids=["alone", "beside an enqueued point"])
def test_grid_tries_every_point_once(enqueued: dict[str, Any] | None) -> None:
    search = Search(settings("grid", FINITE))
    params = []
    for number in range(5 * 3 * 2):
        assert not search.is_exhausted()
        proposal = search.propose(number, enqueued if number == 0 else None)
        search.finished(ended(number, proposal, 1))
        params.append(proposal.params)
    assert len({tuple(sorted(p.items())) for p in params}) == size(FINITE) == 5 * 3 * 2
    assert search.is_exhausted()


def test_grid_names_the_samplers_that_take_an_endless_space() -> None:
    with pytest.raises(StudyFileError, match=r"no end of them.*gp, nsga2, nsga3, qmc, random, tpe"):
        SamplerFactory("grid", {}, FLOATS, 0)
    with pytest.raises(StudyFileError, match="cannot take conditions"):
        SamplerFactory("grid", {}, SearchSpace({**FINITE, "m": Int(1, 2, when={"c": "a"})}), 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cmaes", {"sigma0": 0.0}, "greater than 0"),
        ("cmaes", {"popsize": 4}, "population"),
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
    space = SearchSpace({"c": Choice(("a", "b")), "m": Float(0.0, 1.0, when={"c": "a"}), "x": Float(0.0, 1.0)})
    search = Search(settings("qmc", space))
    params = [search.propose(n).params for n in range(16)]
    drawn = [p["m"] for p in params if "m" in p]
    assert len(drawn) == 8  # half of a Sobol sequence of 16
    assert len(set(drawn)) == 8


def test_a_grid_too_large_to_list_is_refused_by_its_size() -> None:
    with pytest.raises(StudyFileError, match=r"this space has 2,000,000,000; 100,000 are the most"):
        SamplerFactory("grid", {}, SearchSpace({"n": Int(1, 1_000_000_000), "c": Choice(("a", "b"))}), 0)
    SamplerFactory("grid", {}, SearchSpace({"n": Int(1, 50_000), "c": Choice(("a", "b"))}), 0)


def test_a_sampler_that_does_not_learn_from_constraints_says_so() -> None:
    assert remarks(settings("tpe", FLOATS, constraints=("x <= 1",))) == []
    assert remarks(settings("random", FLOATS)) == []
    assert remarks(settings("random", FLOATS, constraints=("x <= 1",))) == [
        "Sampler 'random' does not learn from constraints; gp, nsga2, nsga3, tpe do."
    ]


@pytest.mark.parametrize(
    ("name", "key"), [("nsga2", "NSGAIISampler:generation"), ("nsga3", "NSGAIIISampler:generation")]
)
def test_a_generation_is_kept_under_the_name_that_optuna_gives_it(name: str, key: str) -> None:
    """A study of an earlier version, or one that plain Optuna goes on with, has it there."""
    assert Search(settings(name, FLOATS, TWO)).propose(0).sampler_state[key] == 0
