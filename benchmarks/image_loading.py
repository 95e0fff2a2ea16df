"""What decoding costs a training: the share of time spent waiting for images, and loading beside two peers.

    python benchmarks/image_loading.py [--images 600] [--rounds 3] [--folder DIR]

Writes photographs (smooth noise, 500x375 px, JPEG) into class folders once, then

1. trains one epoch of the shared trainer on them, nothing kept in memory, with 0, 1 and 2
   loader workers, and prints ``data_wait_share`` as the trainer reports it, and images per second;
2. loads an epoch without training: through image_classification's data set, through a plain
   PyTorch ``Dataset`` around Pillow (open, convert, ``ImageOps.fit``, to a tensor), and through
   Hugging Face's ``datasets`` (``imagefolder``), interleaved, each with the same
   ``DataLoader`` settings. Printed is the median over rounds, and the ratio to the plain one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from hpo.training.settings import TrainerSettings
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Direction, Goal, Job, Point, TrialContext
from objectives.image_classification import OBJECTIVE
from objectives.image_classification.data import load
from objectives.image_classification.loading import Pictures, Pixels

SIDE_PX, BATCH = 32, 32
CLASSES = 4


def write_photographs(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class-{i % CLASSES}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=88)


# Training


def trained(folder: Path, workers: int) -> tuple[float, float]:
    """Share of an epoch spent waiting for data, and images per second of the epoch."""
    data = {"path": str(folder), "image_size": SIDE_PX, "cache_mb": 0}
    params = {**OBJECTIVE.default_params, "batch_size": BATCH, "accumulation": 1, "warmup_epochs": 0}
    own = {"loader_workers": workers, "threads": 1}
    settings = TrainerSettings.layered(OBJECTIVE.default_trainer, own).with_params(params)
    goal = Goal("val_accuracy", Direction.MAXIMIZE)
    points: list[Point] = []

    def send(point: Point) -> Any:
        points.append(point)
        return GO_ON

    with tempfile.TemporaryDirectory() as place:
        job = Job(
            study="loading", series="search", number=0, objective="image_classification", params=params, data=data,
            trainer=settings, goals=(goal,), monitor=goal, epochs=2, folder=place, seed=0, data_seed=0,
        )  # fmt: skip
        Trainer(settings).fit(OBJECTIVE().task(job), TrialContext(job, send))
    last = points[-1].metrics  # of the second epoch, when the workers have started
    return last["data_wait_share"], last["epoch_samples_per_s"]


# Loading alone


class Plain(Dataset[Any]):
    """What one writes by hand."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self.paths[i]) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def fitted_rows(rows: dict[str, Any]) -> dict[str, Any]:
    pictures = [ImageOps.fit(one.convert("RGB"), (SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for one in rows["image"]]
    return {"image": [torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in pictures]}


def only_pixels(rows: list[dict[str, Any]]) -> torch.Tensor:
    return torch.stack([row["image"] for row in rows])


def loaders(folder: Path, cache: Path, workers: int) -> dict[str, DataLoader[Any]]:
    from datasets import load_dataset

    _, images = load({"path": str(folder)})
    everything = np.arange(len(images))
    by_datasets = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(cache))
    more = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    return {
        "plain": DataLoader(Plain(sorted(folder.glob("*/*.jpg"))), **more),
        "image_classification": DataLoader(Pictures(Pixels(images, SIDE_PX, cache_mb=0), everything), **more),
        "datasets imagefolder": DataLoader(by_datasets.with_transform(fitted_rows), collate_fn=only_pixels, **more),
    }


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def read_all(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the photographs there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HPO_CACHE"] = str(Path(scratch) / "cache")
        folder = options.folder or Path(scratch) / "photographs"
        if not folder.exists():
            write_photographs(folder, options.images)
        print(f"load {os.getloadavg()[0]:.1f}\n\nworkers  waiting for data  images a second (of training)")
        for workers in (0, 1, 2):
            rounds = [trained(folder, workers) for _ in range(options.rounds)]
            waits, speeds = zip(*rounds, strict=True)
            print(f"{workers:7}  {statistics.median(waits):16.1%}  {statistics.median(speeds):.0f}", flush=True)
        print("\nworkers  loading through       images a second  ratio to plain")
        for workers in (0, 2):
            found = loaders(folder, Path(scratch) / "datasets", workers)
            count = len(found["plain"].dataset)  # type: ignore[arg-type]
            for loader in found.values():  # workers start, files come into the page cache
                read_all(loader)
            times = [{name: seconds(lambda loader=loader: read_all(loader)) for name, loader in found.items()}  # type: ignore[misc]
                     for _ in range(options.rounds)]  # fmt: skip
            for name in found:
                ratio = statistics.median(one["plain"] / one[name] for one in times)
                speed = count / statistics.median(one[name] for one in times)
                print(f"{workers:7}  {name:20}  {speed:15.0f}  {ratio:.2f}", flush=True)
        print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
