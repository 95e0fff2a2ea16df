"""What a deterministic study costs in idle workers, by a virtual clock: no process, no sleep, no database.

    python benchmarks/determinism_cost.py [--seeds 20] [--trials 200]

Trials last a log-normal time (median 1, shape sigma). A worker of a deterministic study waits until
every trial up to *n - concurrency* has ended. With as many workers as the concurrency it waits for
the slowest of the trials under way; with a concurrency above the workers there is something else to
do meanwhile, at the price of a sampler that has seen less. What is simulated is the rule itself
(``hpo.search.judging.horizon``), not the rest of hpo.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from hpo.search.judging import horizon

SIGMAS = (0.25, 0.5, 1.0)  # 90 % of trials within a factor of 1.5, 2.3, 5.2 of the median
WORKERS = (2, 4, 8)
FACTORS = (1, 2, 4)  # the concurrency, in workers


@dataclass(frozen=True)
class Run:
    """Virtual seconds from the first trial's start to the last one's end, and the share of them spent at work."""

    seconds: float
    utilisation: float


def simulate(durations: list[float], workers: int, concurrency: int | None) -> Run:
    """Run the trials in their order; with a ``concurrency``, as a deterministic study may start them."""
    running: list[tuple[float, int]] = []  # (end, number)
    ended: set[int] = set()
    settled, number, now = 0, 0, 0.0
    while number < len(durations) or running:
        while settled in ended:
            settled += 1
        may_start = concurrency is None or settled >= horizon(number, concurrency)
        if number < len(durations) and len(running) < workers and may_start:
            heappush(running, (now + durations[number], number))
            number += 1
            continue
        now, done = heappop(running)
        ended.add(done)
    return Run(now, sum(durations) / (workers * now))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    asked = parser.parse_args()
    print("| sigma | workers | concurrency | at work, free | at work, deterministic | time, deterministic / free |")
    print("|---|---|---|---|---|---|")
    for sigma in SIGMAS:
        for workers in WORKERS:
            for factor in FACTORS:
                free, held = [], []
                for seed in range(asked.seeds):
                    random = Random(f"{sigma}:{seed}")
                    durations = [random.lognormvariate(0.0, sigma) for _ in range(asked.trials)]
                    free.append(simulate(durations, workers, None))
                    held.append(simulate(durations, workers, factor * workers))
                ratios = [one.seconds / other.seconds for one, other in zip(held, free, strict=True)]
                print(
                    f"| {sigma:g} | {workers} | {factor * workers} | {_share(free)} | {_share(held)} | "
                    f"{statistics.mean(ratios):.2f} ± {statistics.stdev(ratios):.2f} |"
                )


def _share(runs: list[Run]) -> str:
    return f"{100 * statistics.mean(run.utilisation for run in runs):.0f} %"


if __name__ == "__main__":
    main()
