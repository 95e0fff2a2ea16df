"""How many epochs does a search need to reach the best of the grid of 81 points within 1 %?

    python benchmarks/rf_grid_vs_search.py [--seeds 3] [--work FOLDER]

Runs ``examples/rf-grid.yaml`` once and ``examples/rf.yaml`` with several seeds, on the same records and
the same split, one trial after the other, none longer than the grid's. A search ends with the first
complete trial whose mean error is at most 1.01 times that of the grid's best, or when it has spent a
quarter of the grid's epochs; all epochs of all its trials count, pruned ones too. Run again in the same
folder, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hpo.training.task import Task
from hpo.trial import Job, TrialState
from objectives.rf_localization import RfLocalization

ROOT = Path(__file__).parent.parent
METRIC, WITHIN, MOST_SHARE = "val_mae_m", 1.01, 0.25
RECORDS = ("--records", "400", "--seed", "7", "--set", "samples=16000", "--out", "data/rf")
AS_THE_GRID: dict[str, Any] = {
    "budget": {"trials": 4, "epochs": 10},
    "pruner": {"name": "successive_halving", "watch": METRIC, "min_resource": 3, "reduction_factor": 2},
}


class FixedSplit(RfLocalization):
    """The split of the grid, whatever the study's seed: else every seed would be judged on other events."""

    def task(self, job: Job) -> Task:
        return super().task(replace(job, data_seed=42))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("rf-grid"))
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / RECORDS[-1]).exists():
        _hpo(work, "make-data", "rf_localization", *RECORDS)
    grid = run(work, "rf-grid", {})
    print(f"grid: {grid}", flush=True)
    target = grid.best * WITHIN
    for seed in range(1, options.seeds + 1):
        # Trials that are pruned are short: many fit into the share of epochs that is allowed.
        changes = {"seed": seed, "name": f"rf-{seed}", "stop": {"target": {METRIC: target}}, **AS_THE_GRID}
        most = int(grid.epochs * MOST_SHARE)
        search = run(work, "rf", changes, most)
        told = f"{search.epochs / grid.epochs:.3f}" if search.best <= target else f"not within {MOST_SHARE}"
        print(f"search with seed {seed}: {search}; of the grid's epochs: {told}", flush=True)


class Figures:
    """What a study came to."""

    def __init__(self, trials: Any, minutes: float) -> None:
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        first = min(complete, key=lambda trial: trial.values[0])
        self.best, self.params = float(first.values[0]), dict(first.params)
        self.trials, self.complete = len(trials), len(complete)
        self.epochs = sum(len(trial.points) for trial in trials)
        self.minutes = minutes

    def __str__(self) -> str:
        return (
            f"best {METRIC} {self.best:.1f} in {self.epochs} epochs of {self.trials} trials "
            f"({self.complete} complete), {self.minutes:.1f} min, at {self.params}"
        )


def run(work: Path, example: str, changes: Mapping[str, Any], most_epochs: int | None = None) -> Figures:
    """A study of ``examples`` in ``work``; with ``most_epochs``, a few trials at a time until these are spent."""
    from hpo import service

    yaml = YAML()
    study: dict[str, Any] = yaml.load((ROOT / "examples" / f"{example}.yaml").read_text(encoding="utf-8"))
    study |= {"objective": "rf_grid_vs_search:FixedSplit", "runner": "inline", "concurrency": 1, **changes}
    study.pop("baselines", None)
    step = study["budget"]["trials"] if most_epochs is None else 4
    path, storage, began = work / f"{study['name']}.yaml", f"sqlite:///{work}/hpo.db", time.monotonic()
    trials = 0
    while True:
        trials += step
        study["budget"]["trials"] = trials
        yaml.dump(study, path)
        _hpo(work, "launch", str(path), "--storage", storage, "--runs", str(work / "runs"), "--skip-preflight")
        done = service.snapshot(storage, study["name"]).trials
        found = Figures(done, (time.monotonic() - began) / 60)
        reached = "stop" in study and found.best <= study["stop"]["target"][METRIC]
        if most_epochs is None or reached or found.epochs >= most_epochs:
            return found


def _hpo(work: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "cli", *words], cwd=work, env=environment, check=True, capture_output=True)


if __name__ == "__main__":
    main()
