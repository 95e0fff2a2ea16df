"""An objective over points in a file, for bundles that are compared: y = x·w, in four kinds of outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hpo.errors import DataError
from hpo.training.task import Split, Task
from hpo.trial import Job, Metric
from objectives.base import DataFacts, TrainingObjective
from search_spaces import Float, SearchSpace

ROWS, FEATURES = 100, 2


def write(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    np.savez(path, x=x, y=x.sum(axis=1, keepdims=True))
    return path


def rows(data_seed: int) -> dict[str, np.ndarray]:
    order = np.random.default_rng(data_seed).permutation(ROWS)
    return {"train": order[:40], "validation": order[40:60], "test": order[60:]}


def names(chosen: np.ndarray) -> np.ndarray:
    return np.array([f"p{row}" for row in chosen])


class Points(TrainingObjective):
    summary: ClassVar[str] = "for tests"
    own_metrics = {"val_far_cm": Metric(help="mean distance of the mean")}
    default_data: ClassVar[Mapping[str, Any]] = {"kind": "value"}
    shared_facts: ClassVar[frozenset[str] | None] = frozenset({"unit"})
    space = SearchSpace({"lr": Float(1e-4, 1e-1)})

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        path = Path(data.get("path", "nowhere.npz"))
        if not path.is_file():
            raise DataError(f"{path}: there is no such file.")
        return DataFacts(hashlib.sha256(path.read_bytes()).hexdigest())

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        return {part: names(chosen).tolist() for part, chosen in rows(data_seed).items()}

    def task(self, job: Job) -> Task:
        with np.load(job.data["path"]) as file:
            x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
        parts, is_density = rows(job.data_seed), job.data["kind"] == "gaussian"

        def split(part: str) -> Split:
            chosen = parts[part]
            return Split((x[chosen], y[chosen]), _far if is_density else None, ids=names(chosen))

        return Task(
            model=nn.Linear(FEATURES, 2 if is_density else 1),
            train=split("train"),
            validation=split("validation"),
            test=lambda: split("test"),
            loss=_nll if is_density else nn.functional.mse_loss,
            example=(x[:1],),
            inputs=("x",),
            predicts=job.data["kind"],
        )


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.gaussian_nll_loss(outputs[:, :1], targets, outputs[:, 1:] ** 2)


def _far(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return {"val_far_cm": 100 * float((outputs[:, :1] - targets).abs().mean())}
