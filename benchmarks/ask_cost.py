"""What asking for the next trial costs, by sampler and number of finished trials: hpo beside plain Optuna.

    python benchmarks/ask_cost.py [--trials 100 1000 5000 20000] [--rounds 15]

8 float parameters. hpo asks durably, on SQLite, and, for comparison, its sampler alone in
memory; Optuna in memory and on SQLite as it opens it, with the samplers as it makes them
and, where hpo's options differ, with hpo's. All hold the same trials and take turns, so that
a noisy machine hits all. Medians in milliseconds after a first ask, which is told apart;
every ask is followed by a finish.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from sqlalchemy import create_engine, text

from hpo import service
from hpo.resolve import resolve, search_settings
from hpo.search.view import Search
from hpo.spec import StudySpec
from hpo.study import Study
from hpo.trial import Outcome, Point, StopKind, StopReason, TrialRecord, TrialState
from storage.database import Database
from storage.studies import Studies

DIMS, POPULATION = 8, 20
SPACE = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(DIMS)}
GENERATION = "NSGAIISampler:generation"
Sampler = Callable[[], BaseSampler]
# hpo's name, goals, Optuna's as it makes it, Optuna's with hpo's options where they differ.
CASES: list[tuple[str, int, Sampler, Sampler | None]] = [
    ("random", 1, lambda: RandomSampler(seed=0), None),
    ("tpe", 1, lambda: TPESampler(seed=0), None),
    ("tpe", 3, lambda: TPESampler(seed=0), lambda: TPESampler(seed=0, multivariate=True)),
    ("nsga2", 3, lambda: NSGAIISampler(population_size=POPULATION, seed=0), None),
]


def values(params: dict[str, float], goals: int) -> list[float]:
    """Squared distances to three points of the cube."""
    return [sum((x - centre) ** 2 for x in params.values()) for centre in (0.2, 0.5, 0.8)][:goals]


def spec(sampler: str, goals: int) -> dict[str, Any]:
    named = {"name": sampler, **({"population": POPULATION} if sampler == "nsga2" else {})}
    return {
        "name": "ask", "objective": "analytic", "data": {"function": "dtlz2", "dims": DIMS},
        "goals": [{"metric": f"f{i + 1}"} for i in range(goals)], "search_space": SPACE, "sampler": named,
        "budget": {"trials": 1_000_000, "epochs": 1}, "retrain": {"confirm": 0},
    }  # fmt: skip


def filled(folder: Path, trials: int, goals: int) -> tuple[str, str]:
    """The same finished trials for hpo and for Optuna: their URLs."""
    draw, lines = random.Random(0), folder / "trials.jsonl"
    with lines.open("w") as out:
        for _ in range(trials):
            params = {name: draw.random() for name in SPACE}
            found = {f"f{i + 1}": value for i, value in enumerate(values(params, goals))}
            out.write(json.dumps({"params": params, "values": found}) + "\n")
    study, ours, theirs = folder / "ask.yaml", f"sqlite:///{folder / 'hpo.db'}", f"sqlite:///{folder / 'optuna.db'}"
    study.write_text(json.dumps(spec("random", goals)))
    service.import_trials(str(lines), storage=ours, runs=folder / "runs", into=study)
    service.export_trials(ours, "ask", to="optuna", out=theirs)
    rows = [{"number": n, "generation": n // POPULATION} for n in range(trials)]
    ours_too = (
        f"""UPDATE hpo_trials SET sampler_state = '{{"{GENERATION}": ' || :generation || '}}' WHERE number = :number"""
    )
    theirs_too = f"""INSERT INTO trial_system_attributes (trial_id, key, value_json)
        SELECT trial_id, '{GENERATION}', :generation FROM trials WHERE number = :number"""
    for url, statement in ((ours, ours_too), (theirs, theirs_too)):
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(statement), rows)
        engine.dispose()
    return ours, theirs


def hpo_side(url: str, sampler: str, goals: int) -> Callable[[], float]:
    """Asks once, durably, finishes the trial, and gives the milliseconds of the asking."""
    plan = resolve(StudySpec.parse(json.dumps(spec(sampler, goals))), "benchmark")
    studies = Studies(Database(url))
    store, settings = studies.trials(studies.get("ask")), search_settings(plan)
    study = Study(plan, store, "/nowhere", lambda records: Search(settings, records))
    done = Outcome(StopReason(StopKind.FINISHED, "done"))

    def ask() -> float:
        began = time.perf_counter()
        job = study.ask()
        spent = time.perf_counter() - began
        study.report(job.number, Point(1, {f"f{i + 1}": v for i, v in enumerate(values(job.params, goals))}))  # type: ignore[union-attr]
        study.finish(job.number, done)  # type: ignore[union-attr]
        return 1000 * spent

    return ask


def view_side(url: str, sampler: str, goals: int) -> Callable[[], float]:
    """As ``hpo_side``, without the database: what the sampler's part of it costs."""
    plan = resolve(StudySpec.parse(json.dumps(spec(sampler, goals))), "benchmark")
    with Database(url) as database:
        studies = Studies(database)
        records = studies.trials(studies.get("ask")).records(points=True)
    search, number = Search(search_settings(plan), records), len(records)

    def ask() -> float:
        nonlocal number
        began = time.perf_counter()
        params = search.propose(number).params
        spent = time.perf_counter() - began
        search.finished(TrialRecord(number, TrialState.COMPLETE, params, 0, values=tuple(values(params, goals))))
        number += 1
        return 1000 * spent

    return ask


def optuna_side(study: optuna.Study, make: Sampler, goals: int) -> Callable[[], float]:
    """As ``hpo_side``, of plain Optuna."""
    study.sampler = make()

    def ask() -> float:
        began = time.perf_counter()
        trial = study.ask()
        params = {name: trial.suggest_float(name, 0, 1) for name in SPACE}
        spent = time.perf_counter() - began
        study.tell(trial, values(params, goals))
        return 1000 * spent

    return ask


def in_memory(study: optuna.Study) -> optuna.Study:
    found = optuna.create_study(directions=study.directions)
    found.add_trials(study.get_trials(deepcopy=False))
    return found


def measured(folder: Path, trials: int, rounds: int) -> None:
    for goals in (1, 3):
        (folder / str(goals)).mkdir()
        ours, theirs = filled(folder / str(goals), trials, goals)
        stored = optuna.load_study(study_name="ask", storage=theirs)
        for name, wanted, make, alike in CASES:
            if wanted != goals:
                continue
            sides = {
                "hpo": hpo_side(ours, name, goals),
                "hpo, memory": view_side(ours, name, goals),
                "Optuna, memory": optuna_side(in_memory(stored), make, goals),
                **({"Optuna, memory, hpo's options": optuna_side(in_memory(stored), alike, goals)} if alike else {}),
                "Optuna, SQLite": optuna_side(optuna.load_study(study_name="ask", storage=theirs), make, goals),
            }
            first = {side: ask() for side, ask in sides.items()}
            spent: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(rounds):
                for side, ask in sides.items():
                    spent[side].append(ask())
            middle = {side: statistics.median(times) for side, times in spent.items()}
            for side in sides:
                ratio = middle[side] / middle["hpo"]
                print(
                    f"{trials:>6}  {name:6}  {goals}  {side:30}{first[side]:9.1f}{middle[side]:9.2f}{ratio:8.1f}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000, 20000])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'trials':>6}  {'sampler':6} goals  {'side':28}{'first':>9}{'median':>9}{'of hpo':>8}")
    for trials in options.trials:
        with tempfile.TemporaryDirectory() as scratch:
            measured(Path(scratch), trials, options.rounds)


if __name__ == "__main__":
    main()
