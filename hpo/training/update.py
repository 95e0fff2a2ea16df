"""One update of a model: forward, backward, clip, step. The trainer and the meters use this same one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpo.training.batches import Batch
from hpo.training.precision import Precision
from hpo.training.team.alone import Alone, Team

Loss = Callable[[Any, Tensor], Tensor]
Weigh = Callable[[Tensor], Tensor | int]


class Updater:
    """Applies updates to ``model``.

    ``weigh(target)`` is how much a batch counts beside others (``Task.weigh``).
    ``parts``: into how many pieces each batch is cut on its way through the model, so that
    less memory is needed for the same update. Where batch norm learns from a piece, it has
    at least two samples.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        grad_clip: float | None = None,
        *,
        parts: int = 1,
        team: Team | None = None,
        weigh: Weigh = len,
    ) -> None:
        self.model, self.loss, self.optimizer, self.precision = model, loss, optimizer, precision
        self._weigh = weigh
        self.grad_clip, self.parts, self.team = grad_clip, parts, team or Alone()
        self._least = 2 if any(isinstance(module, _BatchNorm) for module in model.modules()) else 1
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def update(self, group: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """One optimiser step over all batches of ``group``, as if they were one batch.

        Returns the mean loss over the group (in a team: this process's share of
        it) and the gradient norm before clipping, both scalars left on the device: reading
        them would make it wait. A norm that is not finite means, with fp16, that the scaler
        dropped the step.
        """
        loss = self.backward(group)
        scaler = self.precision.scaler
        if scaler is None:
            norm = self._clip()
            self.optimizer.step()
        else:
            scaler.unscale_(self.optimizer)
            norm = self._clip()
            scaler.step(self.optimizer)
            scaler.update()
        self.clear()
        return loss, norm

    def backward(self, group: Sequence[Batch]) -> Tensor:
        """Add the gradients of the group's mean loss to those that are there; gives that loss."""
        if len(group) == 1 and self.parts == 1 and self.team.size == 1:
            return self._backward(group[0], None)
        whole = self.weight(group)
        pieces = [piece for batch in group for piece in self.pieces(batch)]
        losses = []
        for i, (piece, rows) in enumerate(pieces):
            with self.team.syncing(i == len(pieces) - 1):
                losses.append(self._backward(piece, self._weigh(piece[-1]) / whole if rows else 0.0))
        return torch.stack(losses).sum()

    def weight(self, group: Sequence[Batch]) -> Tensor | int:
        """How much the batches of ``group`` count together."""
        return sum(self._weigh(batch[-1]) for batch in group)

    def pieces(self, batch: Batch) -> Sequence[tuple[Batch, int]]:
        """What of a batch goes through the model at a time, the largest first, and how many rows of each count."""
        return self.team.pieces(batch, max(1, min(self.parts, len(batch[-1]) // self._least)))

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, to go backward from. What the model gave is let go unless the way back needs it."""
        with self.precision.autocast():
            output = self.model(*batch[:-1])
        return self.loss(self.precision.widen(output), batch[-1])

    def _backward(self, batch: Batch, share: Tensor | float | None) -> Tensor:
        loss = self.forward(batch)
        if share is not None:  # the loss is a mean, so a smaller piece must weigh less
            loss = loss * share
        scaler = self.precision.scaler
        # A team averages its gradients, of which each process has a share only.
        whole = loss if self.team.size == 1 else loss * self.team.size
        (whole if scaler is None else scaler.scale(whole)).backward()
        return loss.detach()

    def _clip(self) -> Tensor:
        """The norm of all gradients as one vector; scales them down to ``grad_clip`` when set.

        Agrees with ``torch.nn.utils.clip_grad_norm_``, whose bookkeeping per call costs
        more than a small model's backward pass.
        """
        grads = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if not grads:
            return torch.zeros((), device=self.precision.device)
        norm = self.team.norm(grads)
        if self.grad_clip is None:
            return norm
        # On a CPU reading the norm is free and saves a pass over gradients that are small
        # enough; a GPU would have to wait for it, so there they are scaled by 1 instead.
        if norm.device.type != "cpu" or not norm.item() <= self.grad_clip:
            torch._foreach_mul_(grads, torch.clamp(self.grad_clip / (norm + 1e-6), max=1.0))
        return norm


def groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """``batches`` in lists of ``size``, the last perhaps shorter; fetched as they are needed."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
