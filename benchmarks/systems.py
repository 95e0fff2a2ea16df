"""Every system's example study, from its data to a figure beside the baseline and today's hand-picked point.

    python benchmarks/systems.py [--only language image ...] [--seeds 5] [--work FOLDER]

For each study file: its data is made by the command in the file's first lines, the study runs as it
stands, and two trials are trained again with fresh seeds on the test set, which the search never read:
the first enqueued one (what people pick by hand today) and the one that the study picks. Printed is the
table of ``docs/systems.md``: the metric that the study watches, the best baseline's value on the same test
set, both trials' means over the seeds, and the gain with the 95 % interval of the difference of two means
(Welch's t). Run again in the same folder, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ruamel.yaml import YAML
from scipy.stats import ttest_ind

from hpo import costs, service
from hpo.evaluation.gates import bare
from hpo.service import Retrained
from hpo.trial import Direction, Goal
from objectives import registry
from storage.records import SEARCH

ROOT = Path(__file__).parent.parent
STUDIES = {
    "quality": "logo-quality",
    "language": "language",
    "image": "image",
    "rf": "rf",
    "multimodal": "multimodal",
}


@dataclass(frozen=True)
class Row:
    """A system's line of the table; values are of ``metric`` on the test set, one a seed."""

    system: str
    data: str
    goal: Goal
    baseline: str
    reference: float
    by_hand: Sequence[float]
    found: Sequence[float]
    epochs: int
    work_min: float

    @property
    def cells(self) -> list[str]:
        sign = 1 if self.goal.direction is Direction.MAXIMIZE else -1
        gain = sign * (fmean(self.found) - fmean(self.by_hand))
        interval = ttest_ind(self.found, self.by_hand, equal_var=False).confidence_interval()
        low, high = sorted(sign * bound for bound in interval)
        return [
            self.system,
            self.data,
            bare(self.goal.metric),
            f"{self.reference:.4g} ({self.baseline})",
            _spread(self.by_hand),
            _spread(self.found),
            f"{gain:+.3g} ({low:+.3g} to {high:+.3g})",
            f"{self.epochs} epochs, {self.work_min:.1f} min of work",
        ]


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.4g} ± {stdev(values):.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("systems"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)  # the studies name their data relative to it
    header = ["system", "data", "test metric", "best baseline", "by hand", "found", "gain (95 %)", "search"]
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for name in options.only:
        row = run(ROOT / "examples" / f"{STUDIES[name]}.yaml", Path.cwd(), options.seeds)
        print("| " + " | ".join(row.cells) + " |", flush=True)


def run(path: Path, work: Path, seeds: int) -> Row:
    """Everything of one study file, in ``work``."""
    make_data(path, work)
    yaml = YAML()
    study: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"))
    study["retrain"] = {**study.get("retrain", {}), "seeds": list(range(seeds))}
    own = work / path.name
    yaml.dump(study, own)
    storage, name = f"sqlite:///{work}/hpo.db", study["name"]
    command = ["-m", "cli", "launch", str(own), "--storage", storage, "--runs", str(work / "runs")]
    subprocess.run([sys.executable, *command], cwd=work, check=True, stdout=subprocess.DEVNULL)
    snapshot = service.snapshot(storage, name)
    by_hand = next(trial.number for trial in snapshot.trials if trial.enqueued)
    first, picked = (_retrained(storage, name, trial) for trial in (by_hand, None))
    monitor = snapshot.study.monitor
    metric = f"test_{bare(monitor.metric)}"
    baselines = {kind: metrics[metric] for kind, metrics in picked.baselines.items() if metric in metrics}
    best = (max if monitor.direction is Direction.MAXIMIZE else min)(baselines, key=lambda kind: baselines[kind])
    facts = registry.find(study["objective"]).check_data({**study.get("data", {})})
    return Row(
        system=study["objective"],
        data=", ".join(f"{count} {what}" for what, count in list(facts.counts.items())[:2]),
        goal=monitor,
        baseline=best,
        reference=baselines[best],
        by_hand=_values(first, metric),
        found=_values(picked, metric),
        epochs=sum(len(trial.points) for trial in snapshot.trials),
        work_min=costs.of_study(snapshot)[SEARCH].seconds / 60,
    )


def make_data(path: Path, work: Path) -> None:
    """Run the ``hpo make-data`` that the file's first lines name, where its output is not there yet."""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"#.*?\bhpo (make-data .*)", line)
        if found:
            words = shlex.split(found[1])
            if not (work / words[words.index("--out") + 1]).exists():
                subprocess.run([sys.executable, "-m", "cli", *words], cwd=work, check=True, stdout=subprocess.DEVNULL)


def _retrained(storage: str, name: str, trial: int | None) -> Retrained:
    done = service.retrain(storage, name, trial=trial)
    if done is None:
        raise KeyboardInterrupt
    return done


def _values(retrained: Retrained, metric: str) -> list[float]:
    return [run.metrics[metric] for run in retrained.runs if metric in run.metrics]


if __name__ == "__main__":
    main()
