"""What a trial costs that does nothing: hpo beside Optuna and beside Ray Tune with OptunaSearch.

    python benchmarks/trial_overhead.py [--trials 60] [--rounds 3]

Every trial reports five times and sleeps never. In pairs, one after the other, so that a
noisy machine hits both sides; the ratios are of the medians. hpo's trials are durable in
SQLite (WAL, synchronous FULL), point by point; Optuna's as it opens SQLite by itself;
Ray Tune's own are in memory only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.update(RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")

REPORTS = 5
SPACE = {f"x{i}": {"type": "float", "low": -5.0, "high": 5.0} for i in range(3)}


def hpo_study(folder: Path, trials: int, runner: str) -> float:
    from hpo import service

    spec = {
        "name": "noop", "objective": "analytic", "goals": [{"metric": "f1"}], "search_space": SPACE,
        "sampler": {"name": "random"}, "budget": {"trials": trials, "epochs": REPORTS}, "concurrency": 2,
        "runner": runner, "retrain": {"confirm": 0, "pick": "f1"},
    }  # fmt: skip
    (folder / "noop.yaml").write_text(json.dumps(spec))
    began = time.perf_counter()
    service.launch(folder / "noop.yaml", storage=f"sqlite:///{folder / 'hpo.db'}", runs=folder / "runs")
    return time.perf_counter() - began


def optuna_study(folder: Path, trials: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        value = sum(trial.suggest_float(name, -5.0, 5.0) ** 2 for name in SPACE)
        for step in range(REPORTS):
            trial.report(value, step)
            trial.should_prune()
        return value

    began = time.perf_counter()
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=trials)
    return time.perf_counter() - began


def ray_with_optuna_search(trials: int) -> float:
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, float]) -> None:
        for _ in range(REPORTS):
            tune.report({"f1": sum(value**2 for value in config.values())})

    began = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space={name: tune.uniform(-5.0, 5.0) for name in SPACE},
        tune_config=tune.TuneConfig(
            metric="f1", mode="min", num_samples=trials, search_alg=OptunaSearch(), max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=tempfile.mkdtemp()),
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    import logging

    import ray

    with contextlib.redirect_stdout(io.StringIO()):
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=2)
    times: dict[str, list[float]] = {"hpo inline": [], "optuna": [], "hpo ray": [], "ray + OptunaSearch": []}
    for _ in range(options.rounds):
        folder = Path(tempfile.mkdtemp())
        (folder / "ray").mkdir()
        times["hpo inline"].append(hpo_study(folder, options.trials, "inline"))
        times["optuna"].append(optuna_study(folder, options.trials))
        times["hpo ray"].append(hpo_study(folder / "ray", options.trials, "ray"))
        times["ray + OptunaSearch"].append(ray_with_optuna_search(options.trials))
    per_trial_ms = {name: 1000 * statistics.median(t) / options.trials for name, t in times.items()}
    for name, value in per_trial_ms.items():
        spread = ", ".join(f"{1000 * t / options.trials:.1f}" for t in times[name])
        print(f"{name:20} {value:7.1f} ms a trial   (rounds: {spread})")
    print(f"hpo inline / optuna            {per_trial_ms['hpo inline'] / per_trial_ms['optuna']:.2f}")
    print(f"hpo ray / ray + OptunaSearch   {per_trial_ms['hpo ray'] / per_trial_ms['ray + OptunaSearch']:.2f}")


if __name__ == "__main__":
    main()
