"""What a trial does about running out of memory and about NaN, and how often it may.

Out of memory: every batch is cut into twice as many pieces, so half the physical batch and
twice the accumulation, for the same updates. A loss or gradient that is not finite: half
the learning rate. Either way training goes on after the last checkpoint; where that leads
to NaN again before an epoch is done, after the best epoch with a fresh optimiser, because
weights can be finite and beyond saving. Out of memory while evaluating needs neither: the
evaluation is done again with half its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from hpo.errors import OutOfMemory, TrialFailed
from hpo.training.epoch import NotFiniteError

# What PyTorch says when memory is short, on devices that have no exception of their own for it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass
class Recovery:
    """How the settings of a trial had to be bent so far.

    ``parts``: pieces per batch; ``lr_factor``: on every learning rate; ``causes``: one sentence each.
    """

    batch_size: int
    most: int
    parts: int = 1
    lr_factor: float = 1.0
    causes: list[str] = field(default_factory=list)

    @property
    def physical_batch(self) -> int:
        """Samples that go through the model at a time."""
        return -(-self.batch_size // self.parts)

    def after(self, error: BaseException) -> str:
        """Bend the settings; a sentence about what was done.

        Raises:
            TrialFailed: it has been done often enough, or there is nothing left to halve;
                OutOfMemory where memory was the cause.
        """
        cause = self._cause(error)
        if len(self.causes) >= self.most:
            before = f" Recovered {len(self.causes)} times before: {' '.join(self.causes)}" if self.causes else ""
            failure = OutOfMemory if is_out_of_memory(error) else TrialFailed
            raise failure(f"{cause} Lower lr, clip gradients, or take a smaller batch.{before}") from error
        if isinstance(error, NotFiniteError):
            self.lr_factor /= 2
            done = f"learning rate times {self.lr_factor:g} from here on"
        elif self.physical_batch == 1:
            raise OutOfMemory(f"{cause} The physical batch is 1 already; take a smaller model or sequence.") from error
        else:
            self.parts *= 2
            done = f"physical batch {self.physical_batch}, {self.parts} times the accumulation"
        self.causes.append(cause)
        return f"{cause} {done[0].upper()}{done[1:]}."

    def _cause(self, error: BaseException) -> str:
        if isinstance(error, NotFiniteError):
            return str(error)
        return f"Out of memory at a physical batch of {self.physical_batch} ({first_line(error)})."

    def state(self) -> dict[str, Any]:
        return {"parts": self.parts, "lr_factor": self.lr_factor, "causes": list(self.causes)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.parts, self.lr_factor, self.causes = state["parts"], state["lr_factor"], list(state["causes"])


def first_line(error: BaseException) -> str:
    """What an exception says first, in at most 200 characters."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def is_recoverable(error: BaseException) -> bool:
    """Whether it is a NaN, or memory that ran out."""
    return isinstance(error, NotFiniteError) or is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
