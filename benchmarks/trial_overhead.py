"""What a trial costs beside its own work: hpo beside Optuna and beside Ray Tune with OptunaSearch.

    python benchmarks/trial_overhead.py [--trials 120] [--rounds 5] [--seconds 0] [--only ray]

Every trial reports five times and sleeps ``--seconds`` in all. Two workers where there are
workers. One study after the other in every round, so that a noisy machine hits all sides;
the ratios are the medians of the rounds' own. A trial's cost is the time between the end of
trial 20 and that of the last one, so that what a launch costs stands apart: the time until
the end of trial 20, less what these cost.

hpo's trials are durable in SQLite (WAL, synchronous FULL), point by point; Optuna's as it
opens SQLite by itself; Ray Tune's own are in memory only. All draw at random, so that no
sampler's arithmetic is in the figures. Ray Tune is there twice, both with reused actors (without,
each trial waits a second): with the loggers that it has by itself, and with them off.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_LOGGERS = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"
os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", _LOGGERS: "1"})

REPORTS = 5
WORKERS = 2
FEW = 20
SPACE = {f"x{i}": {"type": "float", "low": -5.0, "high": 5.0} for i in range(3)}


class Ends:
    """When each trial ended, as a listener of hpo; seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.times: list[float] = []

    def note(self, *_: object) -> None:
        self.times.append(time.perf_counter() - self._began)

    def started(self, job: object) -> None: ...
    def reported(self, number: int, point: object) -> None: ...

    def finished(self, record: object) -> None:
        self.note()


def hpo_study(folder: Path, trials: int, runner: str, seconds: float = 0.0) -> list[float]:
    from hpo import service

    spec = {
        "name": "noop", "objective": "analytic", "goals": [{"metric": "f1"}], "search_space": SPACE,
        "data": {"function": "sphere", "epoch_s": seconds / REPORTS}, "sampler": {"name": "random"},
        "budget": {"trials": trials, "epochs": REPORTS}, "concurrency": WORKERS, "runner": runner,
        "retrain": {"confirm": 0, "pick": "f1"},
    }  # fmt: skip
    (folder / "noop.yaml").write_text(json.dumps(spec))
    ends = Ends()
    service.launch(
        folder / "noop.yaml", storage=f"sqlite:///{folder / 'hpo.db'}", runs=folder / "runs",
        listeners=lambda plan, ended: [ends],
    )  # fmt: skip
    return ends.times


def optuna_study(folder: Path, trials: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        value = sum(trial.suggest_float(name, -5.0, 5.0) ** 2 for name in SPACE)
        for step in range(REPORTS):
            trial.report(value, step)
            trial.should_prune()
        return value

    ends = Ends()
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=trials, callbacks=[ends.note])
    return ends.times


def ray_with_optuna_search(folder: Path, trials: int, seconds: float, *, loggers: bool) -> list[float]:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ends = Ends()

    class Noting(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[object], trial: object, **info: object) -> None:
            ends.note()

    def objective(config: dict[str, float]) -> None:
        for _ in range(REPORTS):
            time.sleep(seconds / REPORTS)
            tune.report({"f1": sum(value**2 for value in config.values())})

    tuner = tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space={name: tune.uniform(-5.0, 5.0) for name in SPACE},
        tune_config=tune.TuneConfig(
            metric="f1", mode="min", num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=True,
            search_alg=OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=0)),
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=str(folder), callbacks=[Noting()]),
    )  # fmt: skip
    os.environ[_LOGGERS] = "0" if loggers else "1"
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()
    os.environ[_LOGGERS] = "1"
    return ends.times


def actor_call_ms(calls: int = 1000) -> float:
    """One call of an actor that does nothing, with two actors at work: the floor of a report."""
    import ray

    @ray.remote(num_cpus=0)
    class Idle:
        async def go_on(self, answer: object) -> object:
            return answer

    idle = [Idle.remote() for _ in range(WORKERS)]
    waiting = {actor.go_on.remote(0): actor for actor in idle}
    ray.wait(list(waiting), num_returns=WORKERS)
    began = time.perf_counter()
    for _ in range(calls):
        ready, _ = ray.wait(list(waiting))
        actor = waiting.pop(ready[0])
        waiting[actor.go_on.remote(ray.get(ready[0]))] = actor
    return 1000 * (time.perf_counter() - began) / calls


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.0, help="How long a trial sleeps.")
    parser.add_argument("--only", choices=["ray"], help="Leave out what does not run on Ray.")
    options = parser.parse_args()
    if options.trials <= FEW:
        parser.error(f"--trials must be more than {FEW}; got {options.trials}")
    import ray

    with contextlib.redirect_stdout(io.StringIO()):
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=WORKERS)
    runs: dict[str, Callable[[Path, int], list[float]]] = {
        "hpo inline": lambda folder, n: hpo_study(folder, n, "inline", options.seconds),
        "optuna": optuna_study,
        "hpo ray": lambda folder, n: hpo_study(folder, n, "ray", options.seconds),
        "ray + OptunaSearch": lambda folder, n: ray_with_optuna_search(folder, n, options.seconds, loggers=True),
        "the same, no loggers": lambda folder, n: ray_with_optuna_search(folder, n, options.seconds, loggers=False),
    }
    runs = {name: run for name, run in runs.items() if not options.only or name not in ("hpo inline", "optuna")}
    costs: dict[str, list[float]] = {name: [] for name in runs}  # ms a trial
    launches: dict[str, list[float]] = {name: [] for name in runs}  # s
    calls = []
    for turn in range(options.rounds):
        for name, run in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                times = run(Path(folder), options.trials)
            cost_s = (times[-1] - times[FEW - 1]) / (options.trials - FEW)
            costs[name].append(1000 * cost_s)
            launches[name].append(times[FEW - 1] - FEW * cost_s)
            print(
                f"{turn + 1}: {name:20} {1000 * cost_s:8.1f} ms a trial, launch {launches[name][-1]:.1f} s", flush=True
            )
        calls.append(actor_call_ms())
    _summary(costs, launches, calls, options.seconds)


def _summary(
    costs: dict[str, list[float]], launches: dict[str, list[float]], calls: list[float], seconds: float
) -> None:
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {len(calls)} rounds:")
    for name, values in costs.items():
        told = f"{statistics.median(values):7.1f} ms a trial ({min(values):.1f} to {max(values):.1f})"
        print(f"{name:20} {told}; a launch {statistics.median(launches[name]):.1f} s")
    print(f"{'a bare actor call':20} {statistics.median(calls):8.2f} ms ({min(calls):.2f} to {max(calls):.2f})")
    for one, other in (
        ("hpo inline", "optuna"), ("hpo ray", "ray + OptunaSearch"), ("hpo ray", "the same, no loggers"),
    ):  # fmt: skip
        if one in costs and other in costs:
            ratios = [a / b for a, b in zip(costs[one], costs[other], strict=True)]
            print(f"{one} / {other}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if seconds:
        ideal = 1000 * seconds / WORKERS
        for name in ("hpo ray", "ray + OptunaSearch", "the same, no loggers"):
            print(f"{name} / ideal ({ideal:.0f} ms a trial): {statistics.median(costs[name]) / ideal:.3f}")


if __name__ == "__main__":
    main()
