"""One seed, one study: the same trials bit for bit for any number of workers, any speed, and through kills.

The runner here is a virtual clock: trials of random duration on any number of workers, which
ends in the middle of anything. Search, study and database are the real ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hpo import service
from hpo.creation import create_or_check
from hpo.errors import StudyFileError
from hpo.plan import Plan
from hpo.resolve import resolve, search_settings
from hpo.search.pruners import PRUNERS
from hpo.search.samplers import SAMPLERS
from hpo.search.view import Search
from hpo.simulation.clock import Script, simulate
from hpo.spec import StudySpec
from hpo.strategies.stopping import StopRules
from hpo.study import Study
from hpo.trial import Job, Outcome, Point, StopKind, StopReason, TrialRecord
from objectives.analytic.functions import FUNCTIONS
from storage.database import Database
from storage.studies import Studies
from tests.studies import launch, rows, without_timings, write

EPOCHS, CONCURRENCY = 6, 4
TRIALS = {"gp": 12}  # fitting a Gaussian process takes half a second
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"startup_trials": 5}, "gp": {"startup_trials": 5},
    "cmaes": {"population": 4}, "nsga2": {"population": 4}, "nsga3": {"population": 4},
    "median": {"startup_trials": 3}, "percentile": {"percentile": 60.0, "startup_trials": 3},
    "patient": {"patience": 1, "startup_trials": 3}, "threshold": {"upper": 2.0},
    "any": {"of": [{"name": "median", "startup_trials": 3}, {"name": "threshold", "upper": 9.0}]},
}  # fmt: skip


def fields(sampler: str, pruner: str, goals: int) -> dict[str, Any]:
    spaces: dict[str, Any] = {
        "grid": {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25} for i in range(2)},
        "others": {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(2)},
    }
    return {
        "data": {"function": "zdt1", "dims": 2},
        "search_space": spaces.get(sampler, spaces["others"]),
        "goals": [{"metric": f"f{i + 1}"} for i in reversed(range(2))][:goals],
        "sampler": {"name": sampler, **OPTIONS.get(sampler, {})},
        "pruner": {"name": pruner, **OPTIONS.get(pruner, {})},
        "budget": {"trials": TRIALS.get(sampler, 24), "epochs": EPOCHS},
        "concurrency": CONCURRENCY,
        "deterministic": True,
        "retrain": {"confirm": 0, "pick": "knee"},
    }


def plan_of(folder: Path, sampler: str, pruner: str) -> tuple[Plan, str]:
    """With two goals, or one where the two will not have more."""
    for goals in (2, 1):
        text = write(folder, **fields(sampler, pruner, goals)).read_text()
        try:
            return resolve(StudySpec.parse(text)), text
        except StudyFileError:
            if goals == 1:
                raise
    raise AssertionError


class Killed(BaseException):
    """The driver is gone, between two transactions."""


@dataclass
class World:
    """Trials that take a random time each step, and an end that comes after so many things have happened."""

    random: Random
    left: int | None = None  # things that may happen before the kill
    scripts: dict[int, Script] = field(default_factory=dict)

    def started(self, job: Job) -> None:
        goals = FUNCTIONS["zdt1"]([job.params["x0"], job.params["x1"]])
        pace = 0.5 + 2.0 * Random(repr(sorted(job.params.items()))).random()
        steps = range(max(1, job.reported), job.epochs + 1)
        points = [
            Point(s, {f"f{i}": goal + 4.0 * (1 - s / job.epochs) ** pace for i, goal in enumerate(goals, 1)})
            for s in steps
        ]
        seconds = [self.random.lognormvariate(0.0, 1.5) for _ in steps]
        end = Outcome(StopReason(StopKind.FINISHED, "ran all"))
        self.scripts[job.number] = Script(tuple(points), tuple(seconds), end)
        self._happened()

    def reported(self, number: int, point: Point) -> None:
        self._happened()

    def finished(self, record: TrialRecord) -> None:
        self._happened()

    def _happened(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


def run(folder: Path, plan: Plan, text: str, *, workers: int, seed: int, kills: int = 0) -> list[tuple[Any, ...]]:
    """The study as it stands in a new database after so many kills and a last launch without one."""
    url, random = f"sqlite:///{folder / f'{workers}-{seed}.db'}", Random(seed)
    with Database(url, create=True) as database:
        studies = Studies(database)
        create_or_check(studies, plan, text, folder / f"runs-{workers}-{seed}")
    for nth in range(kills + 1):
        with Database(url) as database:
            study = Studies(database).get(plan.name)
            store = Studies(database).trials(study)
            source = Study(
                plan, store, study.folder, lambda records: Search(search_settings(plan), records, study.search_state),  # noqa: B023
                [world := World(random, random.randrange(60) if nth < kills else None)],
                StopRules(plan.goals, plan.spec.stop, lag=plan.spec.concurrency),
            )  # fmt: skip
            try:
                simulate(source, world.scripts, workers)
            except Killed:
                continue
    return trials_of(url)


def trials_of(url: str) -> list[tuple[Any, ...]]:
    """Everything that the seed decides: trials, curves, ends. By SQL, and floats as they were written."""
    trials = rows(
        url,
        "SELECT number, state, stop_kind, reason, params, seed, goal_values, best_step, last_step, sampler_state "
        "FROM hpo_trials WHERE series = 'search' ORDER BY number",
    )
    curves = rows(
        url,
        "SELECT t.number, p.step, p.metrics FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial "
        "WHERE t.series = 'search' ORDER BY t.number, p.step",
    )
    return [*trials, *curves]


# One of each kind in every run, the others in the slow matrix.
QUICK = {"random", "cmaes", "nsga2", "median", "hyperband", "pareto_median", "hopeless"}
OFTEN = {True: [], False: [pytest.mark.slow]}


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        *(pytest.param(s, "median", marks=OFTEN[s in QUICK]) for s in SAMPLERS if s != "tpe"),
        *(pytest.param("tpe", p, marks=OFTEN[p in QUICK]) for p in PRUNERS),
    ],
)
def test_a_study_is_the_same_for_any_workers_speeds_and_kills(tmp_path: Path, sampler: str, pruner: str) -> None:
    plan, text = plan_of(tmp_path, sampler, pruner)
    first = run(tmp_path, plan, text, workers=1, seed=1)
    assert run(tmp_path, plan, text, workers=4, seed=2) == first
    assert run(tmp_path, plan, text, workers=2, seed=3, kills=4) == first


def test_what_the_seed_decides_is_really_looked_at(tmp_path: Path) -> None:
    """Without the promise, speed decides: the comparison above can fail."""
    plan, text = plan_of(tmp_path, "tpe", "median")
    spec = plan.spec.model_copy(update={"deterministic": False})
    free = Plan(**{**plan.__dict__, "spec": spec})
    one, four = (run(tmp_path, free, text, workers=workers, seed=workers) for workers in (1, 4))
    assert one != four
    assert any(row[1] == "pruned" for row in one)


def test_the_rule_that_ends_a_search_ends_it_at_the_same_trial(tmp_path: Path) -> None:
    plan, text = plan_of(tmp_path, "random", "none")
    text = json.dumps({**json.loads(text), "stop": {"no_improvement": 6}, "budget": {"trials": 200, "epochs": 2}})
    plan = resolve(StudySpec.parse(text))
    first = run(tmp_path, plan, text, workers=1, seed=1)
    assert 6 < sum(len(row) > 3 for row in first) < 200
    assert run(tmp_path, plan, text, workers=4, seed=2) == first
    assert run(tmp_path, plan, text, workers=3, seed=3, kills=3) == first


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("workers", "more"),
    [
        ((1, 2, 4), {"sampler": {"name": "tpe", "startup_trials": 4}, "pruner": {"name": "median"}}),
        ((4,), {"sampler": {"name": "nsga2", "population": 4}, "pruner": {"name": "pareto_median"}}),
        ((2,), {"objective": "tests.run_objectives:Line", "data": None, "goals": [{"metric": "val_loss"}],
                "search_space": None, "budget": {"trials": 8, "epochs": 3}}),
    ],
    ids=["tpe", "nsga2", "training"],
)  # fmt: skip
def test_ray_comes_to_what_inline_comes_to(tmp_path: Path, workers: tuple[int, ...], more: dict[str, Any]) -> None:
    study = {
        **fields("random", "none", 2), "data": {"function": "zdt1", "dims": 2, "epoch_s": 0.02, "jitter": 0.9},
        "resources": {"cpus": 0.5}, **more,
    }  # fmt: skip
    inline = f"sqlite:///{tmp_path / 'inline.db'}"
    launch(tmp_path, inline, **study)
    for count in workers:
        url = f"sqlite:///{tmp_path / f'ray{count}.db'}"
        launch(tmp_path, url, runner="ray", workers=count, **study)
        assert _without_timings(trials_of(url)) == _without_timings(trials_of(inline)), count


def _without_timings(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Curves without what the clock decides, which is beside the goals."""
    return [row if len(row) > 3 else (*row[:2], without_timings(row[2])) for row in found]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"budget": {"trials": 5, "timeout": "1h"}}, "budget.timeout"),
        ({"limits": {"time": "1h"}}, "limits.time"),
        ({"limits": {"silence": "1h"}}, "limits.silence"),
        ({"stop": {"hours": 2}}, "stop.hours"),
        ({"objective": "tests.run_objectives:Line", "data": None, "goals": None, "trainer": {"time_limit": "1h"},
          "retrain": {"pick": "knee"}},
         "trainer.time_limit"),
        ({"objective": "tests.run_objectives:Line", "data": None, "goals": [{"metric": "latency_ms"}],
          "retrain": {"pick": "knee"}}, "latency_ms"),
    ],
)  # fmt: skip
def test_what_goes_by_the_clock_is_refused(tmp_path: Path, more: dict[str, Any], field: str) -> None:
    with pytest.raises(StudyFileError, match=rf"deterministic: {field} .*clock"):
        service.check(write(tmp_path, deterministic=True, **more))
