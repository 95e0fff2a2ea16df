"""What is looked at before the first update, so that a mistake costs a second and not an epoch."""

from __future__ import annotations

import torch

from hpo.errors import TrialFailed
from hpo.training.batches import Batch
from hpo.training.evaluate import eval_mode
from hpo.training.precision import Precision
from hpo.training.task import Task


def check_fits_data(task: Task, batch: Batch, precision: Precision) -> None:
    """One batch through model and loss, in eval mode so that nothing is changed by it.

    Raises:
        TrialFailed: the model or the loss refuses the batch, or would silently broadcast.
    """
    *inputs, target = batch
    shapes = f"inputs {', '.join(str(tuple(part.shape)) for part in inputs)}, target {tuple(target.shape)}"
    try:
        with eval_mode(task.model), torch.no_grad():
            with precision.autocast():
                output = task.model(*inputs)
            if not isinstance(output, torch.Tensor):
                raise TypeError(f"the model must return one tensor, not {type(output).__name__}")
            shapes += f", output {tuple(output.shape)}"
            same = output.shape == target.shape or output.numel() != target.numel() or not target.is_floating_point()
            if not same:
                raise ValueError("output and target hold the same numbers in other shapes and would be broadcast")
            if output.ndim == 0 or len(output) != len(target):
                raise ValueError(f"there must be one output per sample, {len(target)} of them")
            loss = task.loss(precision.widen(output), target)
            if loss.ndim != 0:
                raise ValueError(f"the loss must be one number, the mean over the batch, not {tuple(loss.shape)}")
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise TrialFailed(f"Model and data do not fit: {error}. Shapes: {shapes}.") from error
