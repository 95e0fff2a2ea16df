"""One batch through model and loss, before any update: what does not fit is told with its shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hpo.errors import TrialFailed
from hpo.training import outputs
from hpo.training.batches import Batch
from hpo.training.evaluate import eval_mode
from hpo.training.precision import Precision
from hpo.training.task import Task


def fit_once(task: Task, batch: Batch, precision: Precision) -> tuple[str, float]:
    """The shapes on the way of one batch, and its loss; in eval mode, so that nothing is changed by it.

    Raises:
        TrialFailed: the model or the loss refuses the batch, or would silently broadcast.
    """
    *inputs, target = batch
    shapes = f"inputs {', '.join(str(tuple(part.shape)) for part in inputs)}, target {tuple(target.shape)}"
    try:
        with eval_mode(task.model), torch.no_grad():
            with precision.autocast():
                output = task.model(*inputs)
            shapes += f", output {outputs.shapes(output)}"
            if isinstance(output, Tensor) and _would_broadcast(output, target):
                raise ValueError("output and target hold the same numbers in other shapes and would be broadcast")
            outputs.check(output, len(target))
            if isinstance(output, Mapping) and task.keep is None:
                raise ValueError("where the model returns several tensors, Task.keep must say what metrics get of them")
            loss = task.loss(precision.widen(output), target)
            if loss.ndim != 0:
                raise ValueError(f"the loss must be one number, the mean over the batch, not {tuple(loss.shape)}")
            return shapes, loss.item()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise TrialFailed(f"Model and data do not fit: {error}. Shapes: {shapes}.") from error


def _would_broadcast(output: Tensor, target: Tensor) -> bool:
    same = output.shape == target.shape or output.numel() != target.numel()
    return not same and target.is_floating_point()
