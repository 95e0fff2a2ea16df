"""Looking at tasks before they are trained, for tests: the findings by name, and small images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from hpo.training.checks.findings import Finding, Preflight, Result
from hpo.training.checks.preflight import Extent, preflight
from hpo.training.task import Split, Task
from tests.training.training_kit import make_settings

EXTENT = Extent(epochs=5, trials=6, workers=2)


def look(task: Task | Callable[[], Task], extent: Extent = EXTENT, **settings: Any) -> Preflight:
    build = (lambda: task) if isinstance(task, Task) else task
    return preflight(build, make_settings(**settings), extent, seed=5)


def finding(found: Preflight, check: str) -> Finding:
    return next(f for f in found.findings if f.check == check)


def results(found: Preflight) -> dict[str, Result]:
    return {f.check: f.result for f in found.findings}


class Items(Dataset[Any]):
    """Images of 3 × 8 × 8 with a class of 4; ``faults`` gives some of them another item, or raises it."""

    def __init__(self, size: int = 40, faults: dict[int, Any] | None = None) -> None:
        self.size, self.faults = size, faults or {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        fault = self.faults.get(index)
        if isinstance(fault, BaseException):
            raise fault
        generator = torch.Generator().manual_seed(index)
        return fault if fault is not None else (torch.rand(3, 8, 8, generator=generator), index % 4)


def classifier(classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))


def image_task(train: Dataset[Any] | None = None, validation: Dataset[Any] | None = None, **changes: Any) -> Task:
    task = Task(
        model=classifier(),
        train=Split(train or Items()),
        validation=Split(validation or Items(12)),
        loss=cross_entropy,
        example=(torch.zeros(1, 3, 8, 8),),
    )
    return replace(task, **changes)
