"""Speed of a trial that shares its cores with another one: timed as it comes, and measured alone.

    python benchmarks/fair_measures.py [--rounds 5] [--threads 2]

A neighbour trains all the time with the shared trainer, in a process of its own, with as many
threads as the subject. Of the subject the same three figures are taken with the neighbour
(``naive``: at once; ``fair``: as a trial takes them, alone on the device, the neighbour
standing aside between two updates) and without it (``alone``, the mean of before and after). Printed is the median over
rounds of each figure's ratio to alone: 1.00 is the truth.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from hpo.training import meters
from hpo.training.batches import make_batches
from hpo.training.device_lock import alone
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Goal, Job, TrialContext

CPU = torch.device("cpu")
MODELS = {"MLP 64-64": [64, 64], "MLP 512-512": [512, 512], "MLP 2048-1024": [2048, 1024]}


def task(widths: list[int]) -> Task:
    sizes = [128, *widths]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    x, y = torch.randn(4096, 128), torch.randn(4096, 1)
    split = Split((x, y))
    return Task(nn.Sequential(*layers, nn.Linear(sizes[-1], 1)), split, split, nn.functional.mse_loss, (x[:1],))


def train_for_ever(threads: int, folder: str) -> None:
    """The neighbour: says that it trains, and goes on until it is killed."""
    settings = TrainerSettings(threads=threads, batch_size=64)
    job = Job(
        "neighbour", "search", 0, "none", {}, {}, settings, (Goal("val_loss"),), Goal("val_loss"), 1, 1, 10**6, folder
    )

    def send(point: object) -> object:
        print("trains", flush=True)
        return GO_ON

    Trainer(settings).fit(task(MODELS["MLP 512-512"]), TrialContext(job, send))  # type: ignore[arg-type]


@contextlib.contextmanager
def neighbour(threads: int) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--neighbour", folder, "--threads", str(threads)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                process.stdout.readline()  # type: ignore[union-attr]
                time.sleep(0.5)
                yield
            finally:
                process.kill()


def figures(subject: meters.Subject) -> dict[str, float]:
    """Speed, latency and memory of a subject, taken now."""
    speed, _ = meters.samples_per_s(subject)
    latency, _ = meters.latency_ms(subject.task.model, subject.task.example, CPU)
    return {"samples_per_s": speed, "latency_ms": latency, "peak_memory_mb": meters.peak_memory_mb(subject)}


def one_round(widths: list[int], threads: int) -> dict[str, dict[str, float]]:
    """Each way's figures as ratios to alone."""
    own, settings = task(widths), TrainerSettings(threads=threads, batch_size=64)
    batches = make_batches(own.train, "training", 64, CPU, seed=1, shuffle=True)
    subject = meters.Subject(own, batches, settings, CPU)
    before = figures(subject)
    with neighbour(threads):
        naive = figures(subject)
        with alone(CPU):
            fair = figures(subject)
    after = figures(subject)
    truth = {name: (before[name] + after[name]) / 2 for name in before}
    return {
        way: {name: value / truth[name] for name, value in taken.items()}
        for way, taken in (("naive", naive), ("fair", fair))
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--neighbour", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.neighbour:
        train_for_ever(options.threads, options.neighbour)
    os.environ.setdefault("HPO_LOCK_DIR", str(Path(tempfile.mkdtemp())))  # other trials on this machine stay out of it
    print(f"{'model':14} {'way':6} {'samples_per_s':>22} {'latency_ms':>22} {'peak_memory_mb':>22}   (ratio to alone)")
    for name, widths in MODELS.items():
        rounds = [one_round(widths, options.threads) for _ in range(options.rounds)]
        for way in ("naive", "fair"):
            told = []
            for figure in ("samples_per_s", "latency_ms", "peak_memory_mb"):
                values = [found[way][figure] for found in rounds]
                told.append(f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})")
            print(f"{name:14} {way:6} " + " ".join(f"{text:>22}" for text in told))


if __name__ == "__main__":
    main()
