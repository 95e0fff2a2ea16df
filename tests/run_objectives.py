"""Objectives of a moment for single runs: a line to fit, with dropout, so that every random number counts."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Job, Metric, Params
from objectives.base import TrainingObjective
from search_spaces import Float, Int, SearchSpace


class Line(TrainingObjective):
    """With ``sign`` -1 validation wants the opposite of what is trained: the first epoch is the best.

    In its fifth epoch a run waits for the file ``waits_for``, if there is to be one.
    """

    summary: ClassVar[str] = "for tests"
    own_metrics = {"val_bias": Metric(help="mean of prediction minus target")}
    default_params: ClassVar[Params] = {"lr": 0.01, "width": 8}
    default_data = {"sign": 1}
    space = SearchSpace({"lr": Float(1e-4, 1e-1, log=True), "width": Int(2, 32, log=True), "dropout": Float(0.0, 0.5)})

    def task(self, job: Job) -> Task:
        generator = torch.Generator().manual_seed(job.data_seed)
        x = torch.randn(80, 3, generator=generator)
        y = x.sum(1, keepdim=True)

        waits_for, judged = job.data.get("waits_for"), itertools.count(1)

        def bias(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
            while waits_for and next(judged) >= 5 and not Path(waits_for).exists():
                time.sleep(0.02)
            return {"val_bias": (outputs - targets).mean().item()}

        return Task(
            model=build_model(lambda: self.model(job.params, {}), job.seed),
            train=Split((x[:48], y[:48])),
            validation=Split((x[48:64], job.data["sign"] * y[48:64]), bias),
            test=lambda: Split((x[64:], job.data["sign"] * y[64:]), bias),
            loss=nn.functional.mse_loss,
            example=(x[:1],),
        )

    def model(self, params: Params, facts: Any) -> nn.Module:
        width = params["width"]
        return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Dropout(params["dropout"]), nn.Linear(width, 1))


class Other(Line):
    """Another objective, with the same model."""
