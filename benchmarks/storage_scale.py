"""What many trials cost: hpo beside plain Optuna, on SQLite and on any server, in the same run.

    python benchmarks/storage_scale.py [--trials 100 1000 5000 20000] [--server postgresql+psycopg://...]

Finished trials of 8 float parameters and 5 steps each. Both sides hold the same trials and
take turns, so that a noisy machine hits both. Asks, reports and finishes are medians;
opening is a process of its own, its imports left out; commands are whole processes.
A server's URL must name an empty database that may be filled; `{n}` in it becomes the number
of trials.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

POINTS, DIMS, ROUNDS = 5, 8, 15
ADDED_BY_OPTUNA = 100  # trials that Optuna's own add_trials is timed on
SPEC: dict[str, Any] = {
    "name": "scale", "objective": "analytic", "data": {"function": "sphere", "dims": DIMS},
    "goals": [{"metric": "f1"}], "sampler": {"name": "random"}, "retrain": {"confirm": 0},
    "budget": {"trials": 1_000_000, "epochs": POINTS},
    "search_space": {f"x{i}": {"type": "float", "low": -5, "high": 5} for i in range(DIMS)},
}  # fmt: skip


def source(path: Path, trials: int) -> None:
    """The trials as JSON lines."""
    draw = random.Random(0)
    with path.open("w") as out:
        for _ in range(trials):
            params = {f"x{i}": draw.uniform(-5, 5) for i in range(DIMS)}
            value = sum(x * x for x in params.values())
            curve = [[step, {"f1": value * (2 - step / POINTS)}] for step in range(1, POINTS + 1)]
            out.write(json.dumps({"params": params, "values": {"f1": value}, "curve": curve}) + "\n")


def timed(action: Callable[..., Any], *args: Any, **options: Any) -> tuple[float, Any]:
    """Milliseconds, and what it gave."""
    began = time.perf_counter()
    result = action(*args, **options)
    return 1000 * (time.perf_counter() - began), result


def imported(folder: Path, ours: str, theirs: str) -> dict[str, float]:
    """Both databases filled; milliseconds per trial, Optuna's on a sample by its own means."""
    import optuna

    from hpo import service

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lines, study = folder / "trials.jsonl", folder / "scale.yaml"
    study.write_text(json.dumps(SPEC))
    count = sum(1 for _ in lines.open())
    spent, _ = timed(service.import_trials, str(lines), storage=ours, runs=folder / "runs", into=study)
    service.export_trials(ours, "scale", to="optuna", out=theirs)
    sample = optuna.load_study(study_name="scale", storage=theirs).trials[:ADDED_BY_OPTUNA]
    other = optuna.create_study(study_name="added", storage=theirs)
    per_sample, _ = timed(other.add_trials, sample)
    return {"hpo_s": spent / 1000, "optuna_s": per_sample / len(sample) * count / 1000}


def opened_hpo(url: str, sampler: str) -> Any:
    """A study that is ready to be asked."""
    from hpo.resolve import resolve, search_settings
    from hpo.search.view import Search
    from hpo.spec import StudySpec
    from hpo.study import Study
    from storage.database import Database
    from storage.studies import Studies

    plan = resolve(StudySpec.parse(json.dumps({**SPEC, "sampler": {"name": sampler}}), "benchmark"))
    studies = Studies(Database(url))
    stored = studies.get("scale")
    settings = search_settings(plan)
    return Study(plan, studies.trials(stored), "/nowhere", lambda records: Search(settings, records))


def opened_optuna(url: str, sampler: str) -> Any:
    import optuna

    made = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler](seed=0)
    study = optuna.load_study(study_name="scale", storage=url, sampler=made)
    len(study.get_trials(deepcopy=False))
    return study


def opening(side: str, url: str) -> float:
    """Seconds to open, in a process of its own that has imported everything before."""
    code = (
        "import sys, time; sys.path.insert(0, 'benchmarks'); import storage_scale as s\n"
        "import optuna, moocore, optuna.storages._rdb.models, objectives.analytic\n"
        "import hpo.resolve, hpo.search.memory, hpo.search.samplers, hpo.study, storage.studies\n"
        "optuna.logging.set_verbosity(optuna.logging.ERROR)\n"
        f"b = time.perf_counter(); s.opened_{side}({url!r}, 'random'); print(time.perf_counter() - b)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    return float(done.stdout)


def worked_hpo(url: str, sampler: str) -> dict[str, float]:
    """Median milliseconds of an ask, a report, a finish."""
    from hpo.trial import Outcome, Point, StopKind, StopReason

    study, done = opened_hpo(url, sampler), Outcome(StopReason(StopKind.FINISHED, "done"))
    rounds = []
    for _ in range(ROUNDS):
        asked, job = timed(study.ask)
        study.report(job.number, Point(1, {"f1": 3.0}))
        reported, _ = timed(study.report, job.number, Point(2, {"f1": 2.0}))
        finished, _ = timed(study.finish, job.number, done)
        rounds.append((asked, reported, finished))
    return _medians(rounds)


def worked_optuna(url: str, sampler: str) -> dict[str, float]:
    study = opened_optuna(url, sampler)

    def ask() -> Any:
        trial = study.ask()
        for i in range(DIMS):
            trial.suggest_float(f"x{i}", -5, 5)
        return trial

    rounds = []
    for _ in range(ROUNDS):
        asked, trial = timed(ask)
        trial.report(3.0, 1)
        reported, _ = timed(trial.report, 2.0, 2)
        finished, _ = timed(study.tell, trial, 2.0)
        rounds.append((asked, reported, finished))
    return _medians(rounds)


def _medians(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    return dict(zip(("ask", "report", "finish"), map(statistics.median, zip(*rounds, strict=True)), strict=True))


def command(*words: str) -> float:
    """Seconds of a whole command."""
    call = [sys.executable, "-m", "cli", *words]
    return timed(subprocess.run, call, capture_output=True, check=True, env=_environment())[0] / 1000


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


def measured(folder: Path, ours: str, theirs: str) -> None:
    """Print one line for each figure: hpo, Optuna, and how many times faster."""

    def line(what: str, unit: str, hpo: float, optuna: float | None = None) -> None:
        beside = "" if optuna is None else f"{optuna:10.2f} {unit:2} {optuna / hpo:8.1f}"
        print(f"  {what:24}{hpo:10.2f} {unit:2} {beside}", flush=True)

    spent = imported(folder, ours, theirs)
    line("import", "s", spent["hpo_s"], spent["optuna_s"])
    pairs = [(opening("hpo", ours), opening("optuna", theirs)) for _ in range(3)]
    line("open", "s", *(statistics.median(side) for side in zip(*pairs, strict=True)))
    for verb in ("show", "front", "best", "list"):
        words = [verb] if verb == "list" else [verb, "scale"]
        line(f"hpo {verb}", "s", statistics.median(command(*words, "--storage", ours) for _ in range(3)))
    for sampler in ("random", "tpe"):
        hpo, optuna = worked_hpo(ours, sampler), worked_optuna(theirs, sampler)
        for verb in ("ask", "report", "finish") if sampler == "random" else ("ask",):
            line(f"{verb} ({sampler})" if verb == "ask" else verb, "ms", hpo[verb], optuna[verb])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000, 20000])
    parser.add_argument("--server", help="two URLs, of hpo's and of Optuna's database, with {n} in each", nargs=2)
    options = parser.parse_args()
    for count in options.trials:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            source(folder / "trials.jsonl", count)
            urls = options.server or [f"sqlite:///{folder / 'hpo.db'}", f"sqlite:///{folder / 'optuna.db'}"]
            print(f"{count} trials, {urls[0].partition(':')[0]}: hpo, Optuna, times faster", flush=True)
            measured(folder, *(url.format(n=count) for url in urls))


if __name__ == "__main__":
    main()
