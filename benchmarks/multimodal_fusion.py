"""What fusion is worth: each modality alone beside all together, on planets that training never saw.

    python benchmarks/multimodal_fusion.py [--records 4000] [--epochs 15] [--seeds 3] [--work FOLDER]

Planets are made by ``hpo make-data multimodal``'s maker, 10 % of each modality missing. The tiny preset is
trained with the same parameters for texts, graphs and cubes alone and for all three, several seeds each, and
the epoch with the lowest validation cross-entropy counts. Of the modalities alone the best is that with the
highest validation accuracy. The gain is the difference of the mean test accuracies, with a 95 % bootstrap
interval over test planets: the same planets are drawn for both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.evaluation.intervals import Interval, bootstrap_intervals
from hpo.training.ending import TEST_PREDICTIONS
from hpo.training.settings import TrainerSettings
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Decision, Direction, Goal, Job, Point, TrialContext
from objectives.multimodal import OBJECTIVE
from objectives.multimodal.data import load, split
from objectives.multimodal.fields import checked
from objectives.multimodal.presets import PARTS

ALL = " + ".join(PARTS)
FOUND = {"lr": 3e-3, "w_graph": 0.03, "w_cube": 0.03}  # beside the hand-picked ones: a point near a search's best
GROUPS = ("all planets", "nothing missing", *(f"no {part}" for part in PARTS))


@dataclass(frozen=True)
class Trained:
    """What the seeds of one model reached: its best validation accuracy, and who was told right, (seeds, planets)."""

    validation: float
    right: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Models by name, the best of the single ones, fusion's gain in accuracy over it, and test planets by group."""

    models: dict[str, Trained]
    best: str
    gain: Interval
    groups: dict[str, np.ndarray]


def compare(
    work: Path, *, records: int, epochs: int, seed: int = 7, data_seed: int = 0, seeds: Sequence[int] = (0,)
) -> Comparison:
    """Make planets in ``work``, train everything, and compare; ``data_seed`` decides the split."""
    path = work / "planets"
    OBJECTIVE().make_data(path, seed=seed, records=records, progress=False)
    models = {}
    for modalities in (*((part,) for part in PARTS), PARTS):
        data = {"path": str(path), "modalities": list(modalities)}
        models[" + ".join(modalities)] = train(data, epochs, data_seed, seeds, work)
    best = max((name for name in models if name != ALL), key=lambda name: models[name].validation)
    right = np.stack([models[ALL].right.mean(0), models[best].right.mean(0)], axis=1)
    planets = load(checked({"path": str(path)}))
    test = split(planets, data_seed).test
    there = {part: planets.present(part)[test] for part in PARTS}
    groups = [np.ones(len(test), bool), np.all(list(there.values()), axis=0), *(~there[part] for part in PARTS)]

    def gain(pairs: np.ndarray, _: np.ndarray) -> dict[str, float]:
        return {"gain": float(pairs[:, 0].mean() - pairs[:, 1].mean())}

    interval = bootstrap_intervals(gain, right, right, seed=0, clusters=planets.ids[test])["gain"]
    return Comparison(models, best, interval, dict(zip(GROUPS, groups, strict=True)))


def train(data: dict[str, object], epochs: int, data_seed: int, seeds: Sequence[int], work: Path) -> Trained:
    """One model of ``data``'s modalities for each seed."""
    validation, right, began = [], [], time.perf_counter()
    for seed in seeds:
        folder = Path(tempfile.mkdtemp(dir=work))
        reached, said = _trial(data, epochs, data_seed, seed, folder)
        validation.append(reached)
        right.append(said)
    return Trained(float(np.mean(validation)), np.stack(right), time.perf_counter() - began)


def _trial(data: dict[str, object], epochs: int, data_seed: int, seed: int, folder: Path) -> tuple[float, np.ndarray]:
    """The best epoch's validation accuracy, and which test planets (n,) it tells right."""
    goal = Goal("val_cross_entropy", Direction.MINIMIZE)
    trainer = TrainerSettings.layered(OBJECTIVE.default_trainer, {"precision": "fp32"})
    job = Job(
        study="fusion", series="search", number=0, objective="multimodal", params={**OBJECTIVE.default_params, **FOUND},
        data=data, trainer=trainer, goals=(goal,), monitor=goal, epochs=epochs, folder=str(folder), seed=seed,
        data_seed=data_seed, use_test=True,
    )  # fmt: skip
    points: list[Point] = []

    def send(point: Point) -> Decision:
        points.append(point)
        return GO_ON

    Trainer(trainer.with_params(job.params)).fit(OBJECTIVE().task(job), TrialContext(job, send))
    best = min(points, key=lambda point: point.metrics["val_cross_entropy"])
    with np.load(folder / TEST_PREDICTIONS, allow_pickle=False) as file:
        said = file["outputs"][:, : int(file["columns"])].argmax(1)
        return best.metrics["val_accuracy"], said == file["targets"]


def table(found: Comparison) -> str:
    """Test accuracies, one row a model."""
    lines = [f"| model | {' | '.join(GROUPS)} | seconds |", "|---" * (len(GROUPS) + 2) + "|"]
    for name, model in found.models.items():
        cells = [f"{model.right[:, rows].mean():.3f}" for rows in found.groups.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {model.seconds:.0f} |")
    counts = " | ".join(str(int(rows.sum())) for rows in found.groups.values())
    lines.append(f"| planets | {counts} | |")
    gain = found.models[ALL].right.mean() - found.models[found.best].right.mean()
    lines.append("")
    lines.append(
        f"Fusion beats {found.best} alone by {gain:.3f} in accuracy, 95 % interval {found.gain.low:.3f} to "
        f"{found.gain.high:.3f}."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=4000, help="planets, three fifths of them to train on")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds each model is trained with")
    parser.add_argument("--work", type=Path, help="where planets and trials go; left out: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        print(table(compare(work, records=args.records, epochs=args.epochs, seeds=range(args.seeds))))


if __name__ == "__main__":
    main()
