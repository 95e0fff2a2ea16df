"""A small objective that really trains, slowly enough to be killed in the middle."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Job
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace


def rows(seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(seed))
    return x, x.sum(1, keepdim=True).sin()


class Slow(TrainingObjective):
    """Trial 1 waits in its sixth epoch while there is a file ``hold`` beside this one."""

    summary = "for tests"

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"lr": Float(1e-3, 1e-1, log=True), "momentum": Float(0.0, 0.9)})

    def task(self, job: Job) -> Task:
        hold, updates = Path(__file__).with_name("hold"), itertools.count(1)

        def slow_loss(outputs: Tensor, targets: Tensor) -> Tensor:
            if outputs.requires_grad:
                time.sleep(0.01)
                while job.number == 1 and next(updates) > 20 and hold.exists():  # four an epoch
                    time.sleep(0.02)
            return nn.functional.mse_loss(outputs, targets)

        return Task(
            model=build_model(lambda: nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 1)), job.seed),
            train=Split(rows(1)),
            validation=Split(rows(2)),
            test=lambda: Split(rows(3)),
            loss=slow_loss,
            example=(torch.zeros(1, 4),),
        )

    def model(self, params: object, facts: object) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 1))
