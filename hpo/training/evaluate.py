"""What a model says about a split, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpo.training.batches import Batches, Loading, make_batches
from hpo.training.outputs import each
from hpo.training.precision import Precision
from hpo.training.task import Metrics, Split
from hpo.training.team.alone import Alone, Team
from hpo.training.update import Loss, Weigh

Keep = Callable[[Any, Tensor], tuple[Tensor, Tensor]]


def evaluate(
    model: nn.Module,
    split: Split,
    loss: Loss,
    device: torch.device | str,
    batch_size: int,
    *,
    precision: str = "fp32",
    loading: Loading | None = None,
    weigh: Weigh = len,
    keep: Keep | None = None,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Run ``model`` over ``split`` in its own order, in eval mode and without gradients.

    Returns ``(metrics, outputs, targets)``: ``metrics["loss"]`` is the loss weighted by
    samples, or by what ``weigh`` counts, beside whatever ``split.metrics`` and ``split.probe``
    give; outputs and targets are (n, ...) CPU tensors, float32 for floating types, or what
    ``keep`` makes of them (``Task.keep``). The model is moved to ``device`` and keeps its mode.

    Raises:
        TrialFailed: the split is empty, or its tensors differ in length.
    """
    device = torch.device(device)
    batches = make_batches(split, "evaluation", batch_size, device, loading=loading)
    return evaluate_batches(
        model.to(device), batches, split, loss, Precision(precision, device), weigh=weigh, keep=keep
    )


def evaluate_batches(
    model: nn.Module,
    batches: Batches,
    split: Split,
    loss: Loss,
    precision: Precision,
    between: Callable[[], None] = lambda: None,
    team: Team | None = None,
    *,
    weigh: Weigh = len,
    keep: Keep | None = None,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """``evaluate`` over batches that are already on the device; ``between`` is called after each.

    In a ``team`` each process has a share of every batch, and all get the whole answer.
    """
    team = team or Alone()
    outputs: list[Any] = []
    targets: list[Tensor] = []
    losses: list[Tensor] = []
    weights: list[Tensor | int] = []
    with eval_mode(model), torch.no_grad():
        for batch in batches.epoch(0):
            target = batch[-1]
            (mine, _), *_ = team.pieces(batch, 1)
            with precision.autocast():
                output = model(*mine[:-1])
            output = each(precision.widen(output), partial(team.gather, whole=len(target)))
            losses.append(loss(output, target))
            weights.append(weigh(target))
            said, wanted = keep(output, target) if keep is not None else (output, target)
            outputs.append(said)
            targets.append(wanted)
            between()
        probed = split.probe(model) if split.probe is not None else {}
    sizes = list(map(float, weights))
    parts = torch.stack(losses).tolist()  # one wait for the device, not one per batch
    weighted = [part * size for part, size in zip(parts, sizes, strict=True)]
    # fsum refuses to add infinities of both signs, whose sum is NaN.
    mean = (math.fsum(weighted) if all(map(math.isfinite, weighted)) else sum(weighted)) / sum(sizes)
    said, wanted = _on_cpu(outputs), _on_cpu(targets)
    metrics = {"loss": mean}
    metrics.update({name: float(value) for name, value in {**_judged(split, said, wanted), **probed}.items()})
    return metrics, said, wanted


def _judged(split: Split, outputs: Tensor, targets: Tensor) -> Metrics:
    """The split's metrics; those of its first rows where ``limit_batches`` left the others out."""
    if split.metrics_of_rows is not None and len(targets) < len(split):
        return split.metrics_of_rows(outputs, targets, np.arange(len(targets)))
    return split.metrics(outputs, targets) if split.metrics is not None else {}


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """``model`` in eval mode, and back in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _on_cpu(parts: list[Tensor]) -> Tensor:
    joined = torch.cat(parts).cpu()
    return joined.float() if joined.is_floating_point() else joined
