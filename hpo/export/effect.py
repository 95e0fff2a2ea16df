"""What rounding a model does to the metrics of the whole validation set, and of the test set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hpo.export.formats import Predict, Subject
from hpo.export.manifest import Shift
from hpo.training.evaluate import evaluate
from hpo.training.task import Split, Task

BATCH_ROWS = 16  # more would cost much memory where a model has a large vocabulary


def shifts(task: Task, subject: Subject, predict: Predict, *, use_test: bool = False) -> dict[str, Shift]:
    """Every metric of the validation split, by the model and by the format that ``predict`` runs.

    With ``use_test`` those of the test split as well, named ``test_...``; it must have been read before.
    Outputs that do not ship, which the loss may need, are PyTorch's on both sides. What
    ``Split.probe`` asks of the model itself is left out.
    """
    splits = {"val_": task.validation}
    if use_test and task.test is not None:
        splits["test_"] = task.test()
    own, rounded = (_metrics(task, splits, model) for model in (subject.model, _Format(subject, predict)))
    return {name: Shift(pytorch=_finite(own[name]), rounded=_finite(rounded[name])) for name in own}


class _Format(nn.Module):
    """A format in the place of the model: what ships comes from it, a tensor or tensors by name."""

    def __init__(self, subject: Subject, predict: Predict) -> None:
        super().__init__()
        self.subject, self.predict = subject, predict

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        arrays = {name: value.numpy() for name, value in zip(self.subject.inputs, inputs, strict=True)}
        said = {name: torch.from_numpy(value) for name, value in self.predict(arrays).items()}
        own = self.subject.model(*inputs)
        return {**own, **said} if isinstance(own, Mapping) else said[self.subject.outputs[0]]


def _metrics(task: Task, splits: Mapping[str, Split], model: nn.Module) -> dict[str, float]:
    metrics = {}
    for part, split in splits.items():
        asked = replace(split, probe=None)
        found, *_ = evaluate(model, asked, task.loss, "cpu", BATCH_ROWS, weigh=task.weigh, keep=task.keep)
        for name, value in found.items():
            metrics[part + name.removeprefix("val_").removeprefix("test_")] = value
    return metrics


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
