"""A shipped format in the place of its model: what it says about a split, kept as a trial keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpo.export.effect import BATCH_ROWS
from hpo.export.formats import Predict
from hpo.training.evaluate import evaluate
from hpo.training.task import PredictionKind, Split, Task, prediction_kind

Array = np.ndarray[Any, Any]


def asked(predict: Predict, task: Task, split: Split) -> tuple[Array, Array]:
    """Outputs and targets of every row, (n, ...) each, in the split's order, or what ``task.keep`` leaves of them.

    ``task.model`` is never asked for its answers, only for the outputs that it has: those that did not
    ship are NaN, or 0 where they are whole numbers.
    """
    unscored = replace(split, metrics=None, metrics_of_rows=None, probe=None)
    model = _Shipped(predict, task)
    _, outputs, targets = evaluate(model, unscored, task.loss, "cpu", BATCH_ROWS, weigh=task.weigh, keep=task.keep)
    return outputs.numpy(), targets.numpy()


def loss_of(task: Task, outputs: Array, targets: Array) -> float:
    """The task's loss of some rows, where ``task.keep`` leaves outputs as they are."""
    return float(task.loss(torch.from_numpy(outputs), torch.from_numpy(targets)))


def kind_of(task: Task, targets: Array) -> PredictionKind:
    """What the task's outputs are, given some of its targets."""
    return prediction_kind(task, torch.from_numpy(targets))


class _Shipped(nn.Module):
    def __init__(self, predict: Predict, task: Task) -> None:
        super().__init__()
        self.predict, self.task = predict, task
        task.model.to("cpu").float().eval()
        with torch.no_grad():
            own = task.model(*task.example)
        self.is_by_name = isinstance(own, Mapping)
        self.is_partial = self.is_by_name and set(own) != set(task.outputs)

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        given = [value.float() if value.is_floating_point() else value for value in inputs]
        arrays = {name: value.numpy() for name, value in zip(self.task.inputs, given, strict=True)}
        said = {name: torch.from_numpy(value) for name, value in self.predict(arrays).items()}
        if not self.is_by_name:
            return said[self.task.outputs[0]]
        return {**self._unshipped(given), **said} if self.is_partial else said

    def _unshipped(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        own = self.task.model(*inputs)
        return {
            name: torch.full_like(value, torch.nan) if value.is_floating_point() else torch.zeros_like(value)
            for name, value in own.items()
        }
