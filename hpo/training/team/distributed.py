"""Several processes, one device each, as one team, through PyTorch's own means: DDP here, FSDP2 in ``sharded``.

Each process goes through the same batches in the same order and takes its rows of every
one, so ``batch_size`` is the batch of all devices together and their number does not
change the result beyond rounding. Checkpoints have the form that one process gives them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from hpo.training.batches import Batch
from hpo.training.task import Task
from hpo.training.team.alone import Alone
from hpo.trial import Metrics, derive_seed

T = TypeVar("T")

# Whoever started the processes ends them when one is lost; until then they wait as long
# as it takes, for an answer to a report or for a measurement.
_PATIENCE = datetime.timedelta(days=7)
_CPU = torch.device("cpu")


@contextmanager
def joined(rank: int, size: int, device: torch.device, store: str) -> Iterator[None]:
    """This process as number ``rank`` of ``size``; ``store`` is a file that all of them can write to."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=dist.FileStore(store, size),
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    yield
    dist.destroy_process_group()  # not after an error: the others would fail of that, too


class Group(Alone):
    """What both strategies share. Make one inside ``joined``; every method is called by all processes.

    ``measured`` is for what was measured before the model was given out.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.measured: Metrics = {}
        # Batch norm cannot normalise a single row.
        self._least = 2 if any(isinstance(module, _BatchNorm) for module in task.model.modules()) else 1

    def pieces(self, batch: Batch, parts: int) -> Sequence[tuple[Batch, int]]:
        """As many for every process; one that has no row left takes the batch's first, which counts 0."""
        shares = self._shares(len(batch[-1]))
        mine, most = shares[self.rank], shares[0]
        parts = sum(rows > 0 for rows in _even(most, parts, self._least))
        start, pieces = sum(shares[: self.rank]), []
        for rows in _even(mine, parts, self._least):
            piece = slice(start, start + rows) if rows else slice(0, self._least)
            pieces.append((tuple(part[piece] for part in batch), rows))
            start += rows
        return pieces

    def total(self, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def gather(self, rows: Tensor, whole: int) -> Tensor:
        shares = self._shares(whole)
        padded = rows.new_zeros(shares[0], *rows.shape[1:])
        padded[: shares[self.rank]] = rows[: shares[self.rank]]
        everyone = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(everyone, padded)
        return torch.cat([part[:share] for part, share in zip(everyone, shares, strict=True)])

    def agree(self, value: T) -> T:
        boxed = [value]
        dist.broadcast_object_list(boxed, src=0, device=_CPU)
        return boxed[0]

    def _shares(self, rows: int) -> list[int]:
        """How many of a batch's rows each process takes; the first one never takes fewer than another."""
        return _even(rows, self.size, self._least)


class Replicated(Group):
    """DDP: the whole model in every process, gradients averaged."""

    def wrap(self, model: nn.Module) -> nn.Module:
        # A parameter that some batch does not use is no error in one process either.
        self._ddp = DistributedDataParallel(model, find_unused_parameters=True, gradient_as_bucket_view=True)
        return OwnDraws(self._ddp, self)

    def syncing(self, is_last: bool) -> AbstractContextManager[object]:
        return nullcontext() if is_last else self._ddp.no_sync()


def make_group(strategy: str, task: Task, device: torch.device) -> Group:
    """The team of this process by its strategy, ``ddp`` or ``fsdp``."""
    if strategy == "ddp":
        return Replicated(task, device)
    from hpo.training.team.sharded import Sharded  # half a second, for whom it is needed

    return Sharded(task, device)


class OwnDraws(nn.Module):
    """What is called in a step: dropout draws anew in each process, and all stay in step.

    A training pass draws one number from the global generator, which is in the same state
    everywhere, and seeds the pass by it and the rank. So rank 0's generator stands for
    all in a checkpoint. ``buffers`` (running statistics) become rank 0's before the pass
    that follows a change, as DDP does for its own.
    """

    def __init__(self, inner: nn.Module, group: Group, buffers: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.inner, self._group, self._changing = inner, group, buffers
        self._changed = False

    def forward(self, *inputs: Tensor) -> Any:
        if self._changed:
            _share(self._changing)
        self._changed = self.training and bool(self._changing)
        if not self.training:
            return self.inner(*inputs)
        drawn = int(torch.randint(2**62, ()))
        device = self._group.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(drawn, self._group.rank))
            return self.inner(*inputs)


def _even(rows: int, parts: int, least: int) -> list[int]:
    """``rows`` in ``parts`` shares that differ by 1 at most, the larger ones first.

    There are fewer, followed by zeros, where a share would have fewer than ``least`` rows.
    """
    used = max(1, min(parts, rows // least))
    each, more = divmod(rows, used)
    return [each + (i < more) if i < used else 0 for i in range(parts)]


def _share(tensors: Sequence[Tensor]) -> None:
    """Give ``tensors`` the values they have on rank 0, in one message per type."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        dist.broadcast(flat, src=0)
        for tensor, values in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(values.view_as(tensor))
