"""Objectives that several processes can train: each finds them by name and builds the task from the job."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Job
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace


class Residual(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(torch.tanh(self.linear(x)))


class Net(nn.Module):
    """Two blocks, a parameter that is never used, and whatever ``norm`` is."""

    def __init__(self, dropout: float, norm: nn.Module) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(4, 7), norm
        self.blocks = nn.ModuleList(Residual(7, dropout) for _ in range(2))
        self.leave = nn.Linear(7, 1)
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.enter(x))
        for block in self.blocks:
            x = block(x)
        return self.leave(x)


def mae(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return {"val_mae": (outputs - targets).abs().mean().item()}


def rows(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))
    return x, 3 * x.sum(1, keepdim=True) + 1


class Plain(TrainingObjective):
    """41 rows: in batches of 8 the last one has a single row."""

    summary: ClassVar[str] = "for tests"

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"lr": Float(1e-4, 1e-1)})

    def task(self, job: Job) -> Task:
        return self._task(job, 41, nn.Identity())

    def _task(self, job: Job, samples: int, norm: nn.Module) -> Task:
        dropout = float(job.params.get("dropout", 0))
        model = build_model(lambda: Net(dropout, norm), seed=job.seed)
        return Task(
            model=model,
            train=Split(rows(samples, 1)),
            validation=Split(rows(17, 2), mae),
            test=lambda: Split(rows(9, 3), mae),
            loss=nn.functional.mse_loss,
            example=(torch.zeros(1, 4),),
            blocks=list(model.blocks),
        )


class Normed(Plain):
    """With batch norm, whose statistics are each device's own; the last batch of 3 rows cannot be shared."""

    def task(self, job: Job) -> Task:
        return self._task(job, 43, nn.BatchNorm1d(7))


class Faulty(Plain):
    """Does in one of its processes what ``fault`` says, in the third forward pass of training."""

    def task(self, job: Job) -> Task:
        task = super().task(job)
        passes = 0

        def fault(module: nn.Module, inputs: object) -> None:
            nonlocal passes
            passes += module.training
            if passes == 3 and module.training and dist.get_rank() == job.params.get("rank", 1):
                misbehave(job.params["fault"], Path(job.folder))

        task.model.register_forward_pre_hook(fault)
        (Path(job.folder) / f"pid-{dist.get_rank()}").write_text(str(os.getpid()))
        return task


def misbehave(fault: str, folder: Path) -> None:
    if fault == "raise":
        print("looking at the third batch")
        raise ValueError("the third batch is bad")
    if fault == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        (folder / "hanging").touch()
        time.sleep(600)
