"""What a model says about a split, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hpo.training.batches import Batches, Loading, make_batches
from hpo.training.precision import Precision
from hpo.training.task import Split
from hpo.training.team.alone import Alone, Team
from hpo.training.update import Loss


def evaluate(
    model: nn.Module,
    split: Split,
    loss: Loss,
    device: torch.device | str,
    batch_size: int,
    *,
    precision: str = "fp32",
    loading: Loading | None = None,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Run ``model`` over ``split`` in its own order, in eval mode and without gradients.

    Returns ``(metrics, outputs, targets)``: ``metrics["loss"]`` is the loss weighted by
    samples, beside whatever ``split.metrics`` gives; outputs and targets are (n, ...) CPU
    tensors, float32 for floating types. The model is moved to ``device`` and keeps its mode.

    Raises:
        TrialFailed: the split is empty, or its tensors differ in length.
    """
    device = torch.device(device)
    batches = make_batches(split, "evaluation", batch_size, device, loading=loading)
    return evaluate_batches(model.to(device), batches, split, loss, Precision(precision, device))


def evaluate_batches(
    model: nn.Module,
    batches: Batches,
    split: Split,
    loss: Loss,
    precision: Precision,
    between: Callable[[], None] = lambda: None,
    team: Team | None = None,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """``evaluate`` over batches that are already on the device; ``between`` is called after each.

    In a ``team`` each process has a share of every batch, and all get the whole answer.
    """
    team = team or Alone()
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    losses: list[Tensor] = []
    with eval_mode(model), torch.no_grad():
        for batch in batches.epoch(0):
            target = batch[-1]
            (mine, _), *_ = team.pieces(batch, 1)
            with precision.autocast():
                output = model(*mine[:-1])
            output = team.gather(precision.widen(output), len(target))
            losses.append(loss(output, target))
            outputs.append(output)
            targets.append(target)
            between()
    sizes = [len(target) for target in targets]
    parts = torch.stack(losses).tolist()  # one wait for the device, not one per batch
    weighted = [part * size for part, size in zip(parts, sizes, strict=True)]
    # fsum refuses to add infinities of both signs, whose sum is NaN.
    mean = (math.fsum(weighted) if all(map(math.isfinite, weighted)) else sum(weighted)) / sum(sizes)
    said, wanted = _on_cpu(outputs), _on_cpu(targets)
    metrics = {"loss": mean}
    if split.metrics is not None:
        metrics.update({name: float(value) for name, value in split.metrics(said, wanted).items()})
    return metrics, said, wanted


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
