"""What rounding a model does to the metrics of the whole validation set."""

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
from hpo.training.task import Task

BATCH_ROWS = 16  # more would cost much memory where a model has a large vocabulary


def shifts(task: Task, subject: Subject, predict: Predict) -> dict[str, Shift]:
    """Every metric of the validation split, by the model and by the format that ``predict`` runs.

    Outputs that do not ship, which the loss may need, are PyTorch's on both sides. What
    ``Split.probe`` asks of the model itself is left out.
    """
    own, rounded = _metrics(task, subject.model), _metrics(task, _Format(subject, predict))
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


def _metrics(task: Task, model: nn.Module) -> dict[str, float]:
    split = replace(task.validation, probe=None)
    found, *_ = evaluate(model, split, task.loss, "cpu", BATCH_ROWS, weigh=task.weigh, keep=task.keep)
    return {"val_loss": found.pop("loss"), **found}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
