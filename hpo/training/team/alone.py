"""The processes that train one trial together. Alone is the usual case and the form of the others.

The trainer speaks to a ``Team`` wherever several processes would have to agree, share a
batch or put a state together; with one process nothing of that costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from hpo.training.batches import Batch

T = TypeVar("T")


class Team(Protocol):
    """What the trainer asks of the processes that it is one of.

    ``rank`` is this process's place among ``size``; rank 0 reports and writes files.
    """

    rank: int
    size: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """What is called instead of ``model`` in a training step."""
        ...

    def pieces(self, batch: Batch, parts: int) -> Sequence[tuple[Batch, int]]:
        """This process's rows of a batch in ``parts`` pieces, each with how many rows count."""
        ...

    def syncing(self, is_last: bool) -> AbstractContextManager[object]:
        """Around a backward pass: gradients need to be put together after the last one only."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all processes."""
        ...

    def norm(self, grads: Sequence[Tensor]) -> Tensor:
        """The norm of all gradients as one vector, the same in every process."""
        ...

    def gather(self, rows: Tensor, whole: int) -> Tensor:
        """The first ``whole`` rows of what each process has of a batch (see ``pieces``), in the batch's order."""
        ...

    def agree(self, value: T) -> T:
        """Rank 0's ``value``."""
        ...

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        """The whole model's state, as ``model.state_dict()`` gives it in one process."""
        ...

    def load_model(self, model: nn.Module, state: Mapping[str, Any]) -> None: ...

    def optimizer_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole optimiser's state, as ``optimizer.state_dict()`` gives it in one process."""
        ...

    def load_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Raises ``ValueError`` when the state is another optimiser's."""
        ...


class Alone:
    """One process."""

    rank = 0
    size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def pieces(self, batch: Batch, parts: int) -> Sequence[tuple[Batch, int]]:
        rows = len(batch[-1])
        if parts == 1:
            return [(batch, rows)]
        cut = zip(*(part.tensor_split(min(parts, rows)) for part in batch), strict=True)  # of equal size, or one more
        return [(piece, len(piece[-1])) for piece in cut]

    def syncing(self, is_last: bool) -> AbstractContextManager[object]:
        return nullcontext()

    def total(self, values: Tensor) -> Tensor:
        return values

    def norm(self, grads: Sequence[Tensor]) -> Tensor:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads))))

    def gather(self, rows: Tensor, whole: int) -> Tensor:
        return rows

    def agree(self, value: T) -> T:
        return value

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        return model.state_dict()

    def load_model(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        model.load_state_dict(state)

    def optimizer_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return optimizer.state_dict()

    def load_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        optimizer.load_state_dict(dict(state))


def from_first(team: Team, read: Callable[[], T]) -> T:
    """What ``read`` gives in the process of rank 0, in every process."""
    return team.agree(read() if team.rank == 0 else cast(T, None))


def split_rows(batch: Batch, rows: int) -> Iterator[Batch]:
    """``batch`` in pieces of at most ``rows`` rows."""
    return zip(*(part.split(rows) for part in batch), strict=True)
