"""What telling a tracker costs a study: each tracker beside the same study with none.

    python benchmarks/tracking_overhead.py [--rounds 5] [--trials 12]

Two studies on one worker in this process: `pace`, whose epochs are a sleep of 20 ms, and `digits`, which
trains (examples/my_digits.py; its epochs take milliseconds, so it reports more often than most studies do).
For each tracker: a whole launch beside the launch without one, in turn, as a ratio of the time by the clock and of this
process's processor time, which a busy machine does not change much; and how long one call of the listener
keeps the driver's thread. A first launch of each, which loads the library and makes MLflow's database, is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hpo import service
from hpo.tracking import TrackingListener

TRACKERS = ("none", "mlflow", "tensorboard", "wandb")
EPOCHS = 20
STUDIES: dict[str, dict[str, Any]] = {
    "pace": {"objective": "analytic", "data": {"function": "branin", "epoch_s": 0.02}},
    "digits": {"objective": "my_digits:Digits"},
}


def timed(call: Callable[..., None], times: list[float]) -> Callable[..., None]:
    def timing(*given: object) -> None:
        began = time.perf_counter()
        call(*given)
        times.append(time.perf_counter() - began)

    return timing


def launch(folder: Path, study: str, tracker: str, trials: int, run: int) -> tuple[float, float]:
    """Seconds of a whole launch, by the clock and of the processor."""
    name = f"{study}-{tracker}-{run}"
    spec = {
        "name": name, **STUDIES[study], "sampler": {"name": "random"}, "retrain": {"confirm": 0},
        "budget": {"trials": trials, "epochs": EPOCHS}, "artifacts": {"pictures": False},
        "tracking": [] if tracker == "none" else [tracker],
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(spec))
    began, worked = time.perf_counter(), time.process_time()
    service.launch(path, storage=f"sqlite:///{folder / name}.db", runs=folder / "runs", skip_preflight=True)
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    held: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        for study in STUDIES:
            first = {tracker: launch(folder, study, tracker, 1, -1) for tracker in TRACKERS}
            print(f"{study}, first launch of one trial, s: " + ", ".join(f"{t} {s:.2f}" for t, (s, _) in first.items()))
            took: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for run in range(options.rounds):
                for tracker in TRACKERS:
                    original = {
                        verb: getattr(TrackingListener, verb) for verb in ("started", "reported", "finished", "close")
                    }
                    for verb, call in original.items():
                        setattr(TrackingListener, verb, timed(call, held[f"{tracker} {verb}"]))
                    took[tracker].append(launch(folder, study, tracker, options.trials, run))
                    for verb, call in original.items():
                        setattr(TrackingListener, verb, call)
            for tracker in TRACKERS[1:]:
                for which, what in enumerate(("clock", "processor")):
                    mine, without = ([each[which] for each in took[t]] for t in (tracker, "none"))
                    ratios = [m / w for m, w in zip(mine, without, strict=True)]
                    print(
                        f"{study} {tracker}, {what}: {statistics.median(mine):.2f} s, "
                        f"none {statistics.median(without):.2f}, "
                        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
                    )
    for name, times in ((name, times) for name, times in held.items() if times):
        ordered = sorted(1e6 * seconds for seconds in times)
        print(
            f"{name}: median {statistics.median(ordered):.1f} us, 99 of 100 within "
            f"{ordered[int(0.99 * (len(ordered) - 1))]:.1f} us, longest {ordered[-1]:.1f} us, {len(ordered)} calls"
        )
    print(f"load at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
