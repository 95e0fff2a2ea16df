"""How much of a front pruning keeps, and how many epochs it saves, with several goals.

Every rule is replayed over the same trials on a virtual clock, so that it decides on the curves that the
trials really have: ZDT1-3 and DTLZ2 with learning curves (the objective ``analytic``), and two trainings
whose 150 trials were recorded once without a pruner (``data/``). For each seed 120 trials are drawn, in a
random order, and run on four workers.

    python benchmarks/multi_goal_pruning.py [--quick] [--seeds 12] [--syne-tune PYTHON] [--out results.json]

``--syne-tune`` names the Python of an environment with ``pip install syne-tune``, whose MOASHA is then
driven over the same curves; without it, that line is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pruning_peers import Moasha, MultiMetricMedian

from hpo.pareto import reference_point
from hpo.resolve import resolve, search_settings
from hpo.search.judging import Judging
from hpo.simulation.replay import JudgingRole, replay
from hpo.simulation.savings import savings
from hpo.spec import StudySpec
from hpo.study import make_job
from hpo.trial import (
    GO_ON,
    Decision,
    Direction,
    Goal,
    Point,
    StopKind,
    StopReason,
    TrialContext,
    TrialRecord,
    TrialState,
    best_point,
    derive_seed,
)  # fmt: skip
from objectives import registry

DATA = Path(__file__).resolve().parent / "data"
TRIALS, EPOCHS, WORKERS = 120, 20, 4
DONE = StopReason(StopKind.FINISHED, "ran all its epochs")


@dataclass(frozen=True)
class Problem:
    """``draw`` gives the trials of a seed; ``reference`` is the hypervolume's, the same for every seed."""

    name: str
    goals: tuple[Goal, ...]
    once: frozenset[str]
    draw: Callable[[int], list[TrialRecord]]
    reference: tuple[float, ...]


# Every rule by the line it gets: the pruner and its options, as in a study file.
RULES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "none": ("none", {}),
    "median, first goal": ("median", {"startup_trials": 10}),
    "pareto_median": ("pareto_median", {}),
    "pareto_asha": ("pareto_asha", {}),
    "hopeless": ("hopeless", {}),
    "pareto_median 0.6": ("pareto_median", {"keep": 0.6}),
    "pareto_median 0.6 + hopeless": ("any", {"of": [{"name": "pareto_median", "keep": 0.6}, {"name": "hopeless"}]}),
    "pareto_median 0.75 + hopeless": ("any", {"of": [{"name": "pareto_median", "keep": 0.75}, {"name": "hopeless"}]}),
}
PEERS = ("OptunaHub multi_metric_pruner", "Syne Tune MOASHA", "Syne Tune MOASHA, mended")


def judge_of(rule: str, problem: Problem, python: str | None) -> JudgingRole:
    if rule == PEERS[0]:
        return MultiMetricMedian(problem.goals)
    if rule in PEERS:
        assert python is not None
        return Moasha(problem.goals, EPOCHS, python, mended=rule == PEERS[2])
    pruner, options = RULES[rule]
    return Judging(pruner, options, goals=problem.goals, once=problem.once, epochs=EPOCHS)


def analytic(function: str) -> Problem:
    text = {"name": function, "objective": "analytic", "data": {"function": function}}
    goals = [{"metric": f"f{i + 1}"} for i in range(3 if function == "dtlz2" else 2)]
    spec = StudySpec.model_validate({**text, "goals": goals, "budget": {"trials": TRIALS, "epochs": EPOCHS}})
    plan = resolve(spec)
    objective = registry.find("analytic", None)

    def draw(seed: int) -> list[TrialRecord]:
        chance = random.Random(derive_seed(seed, function))
        trials = []
        for number in range(TRIALS):
            params = {name: chance.uniform(0.0, 1.0) for name in plan.space}
            record = TrialRecord(number, TrialState.RUNNING, params, seed=number, epochs=EPOCHS)
            points: list[Point] = []

            def keep(point: Point, points: list[Point] = points) -> Decision:
                points.append(point)
                return GO_ON

            job = make_job(plan, record, "search", Path())
            objective.run(job, TrialContext(job, keep))
            trials.append(_complete(number, points, plan.goals, plan.monitor))
        return trials

    pool = [trial for seed in range(10) for trial in draw(1000 + seed)]
    return Problem(function, plan.goals, search_settings(plan).once, draw, _reference(pool, plan.goals))


def recorded(name: str) -> Problem:
    """A training whose curves are in ``data/NAME.csv``; its first goal moves, the others are measured once."""
    pool, goals = _table(DATA / f"{name}.csv")

    def draw(seed: int) -> list[TrialRecord]:
        chosen = random.Random(derive_seed(seed, name)).sample(pool, TRIALS)
        return [replace(trial, number=number) for number, trial in enumerate(chosen)]

    return Problem(name, goals, frozenset(goal.metric for goal in goals[1:]), draw, _reference(pool, goals))


def _table(path: Path) -> tuple[list[TrialRecord], tuple[Goal, ...]]:
    """Columns: trial, step, and one per goal, lower is better."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    goals = tuple(Goal(name, Direction.MINIMIZE) for name in rows[0] if name not in ("trial", "step"))
    points: dict[int, list[Point]] = {}
    for row in rows:
        metrics = {goal.metric: float(row[goal.metric]) for goal in goals}
        points.setdefault(int(row["trial"]), []).append(Point(int(row["step"]), metrics))
    return [_complete(number, told, goals, goals[0]) for number, told in points.items()], goals


def _complete(number: int, points: Sequence[Point], goals: Sequence[Goal], monitor: Goal) -> TrialRecord:
    best = best_point(points, monitor)
    assert best is not None
    return TrialRecord(
        number, TrialState.COMPLETE, {}, seed=0, values=tuple(best.metrics[goal.metric] for goal in goals),
        metrics=best.metrics, best_step=best.step, last_step=len(points), reason=DONE, points=tuple(points),
        epochs=len(points),
    )  # fmt: skip


def _reference(pool: Sequence[TrialRecord], goals: Sequence[Goal]) -> tuple[float, ...]:
    return reference_point(np.array([trial.values for trial in pool]), goals)


@lru_cache
def problem_of(name: str) -> Problem:
    return recorded(name) if name in ("logos", "digits") else analytic(name)


def measure(task: tuple[str, str, int, str | None]) -> dict[str, Any]:
    """One rule over one problem's trials of one seed."""
    name, rule, seed, python = task
    problem = problem_of(name)
    trials = problem.draw(seed)
    run = replay(trials, judge_of(rule, problem, python), workers=WORKERS)
    found = savings(
        trials, run, problem.goals, seconds=dict.fromkeys(range(len(trials)), 1.0), reference=problem.reference
    )
    front = len(found.front)
    return {
        "problem": name,
        "rule": rule,
        "seed": seed,
        "kept": found.kept,
        "spent": found.spent,
        "front_kept": 1 - len(found.lost) / front,
        "pruned": len(found.pruned) / found.trials,
    }


def interval(values: Sequence[float], rounds: int = 10_000) -> tuple[float, float, float]:
    """The mean, and the 95 % interval of it by bootstrap over the seeds."""
    found = np.asarray(values)
    means = np.random.default_rng(0).choice(found, (rounds, len(found))).mean(axis=1)
    return float(found.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def show(name: str, found: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> None:
    """The table of one problem."""
    print(f"\n{name}, {TRIALS} trials of {EPOCHS} epochs, {len({row['seed'] for row in found})} seeds")
    print("| rule | hypervolume kept | epochs spent | of the front kept | trials pruned |\n|---|---|---|---|---|")
    for rule in rules:
        mine = [row for row in found if row["rule"] == rule]
        cells = [interval([row[column] for row in mine]) for column in ("kept", "spent", "front_kept", "pruned")]
        print(f"| {rule} | " + " | ".join(f"{m:.3f} ({low:.3f}–{high:.3f})" for m, low, high in cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 seeds, ZDT1 and the first training")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--syne-tune", metavar="PYTHON")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="every single figure, as JSON")
    args = parser.parse_args()
    seeds = range(3 if args.quick else args.seeds)
    names = ["zdt1", "logos"] if args.quick else ["zdt1", "zdt2", "zdt3", "dtlz2", "logos", "digits"]
    rules = [*RULES, *(PEERS if args.syne_tune else PEERS[:1])]
    tasks = [(name, rule, seed, args.syne_tune) for name in names for rule in rules for seed in seeds]
    with ProcessPoolExecutor(args.processes) as pool:
        found = list(pool.map(measure, tasks, chunksize=len(seeds)))
    if args.out:
        args.out.write_text(json.dumps(found))
    for name in names:
        show(name, [row for row in found if row["problem"] == name], rules)


if __name__ == "__main__":
    main()
