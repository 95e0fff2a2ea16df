"""A small objective that knows folds: which rows a fold is judged on can be told from its metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Direction, Job, Metric, Metrics, Params
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace

ROWS = 60  # to train and validate on; 20 more are the test set
SECRET = -1.0  # the target of every test row, so that a metric would show it had been read


class Folded(TrainingObjective):
    """Row i has input i / 60 and the target i. Fold j of k is judged on the rows j, j + k, j + 2k, ..."""

    summary: ClassVar[str] = "for tests"
    folds: ClassVar[bool] = True
    own_metrics: ClassVar[Mapping[str, Metric]] = {
        "val_mean_target": Metric(Direction.MAXIMIZE, "mean of the targets that were judged"),
        "val_mae": Metric(),
        "val_mae_even": Metric(),
        "val_mae_odd": Metric(),
        "val_mae_rare": Metric(),
    }
    default_params: ClassVar[Params] = {"lr": 0.1}

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"lr": Float(1e-3, 0.5, log=True)})

    def task(self, job: Job) -> Task:
        rows = torch.arange(ROWS)
        judged = rows >= 40
        if job.fold is not None:
            index, folds = job.fold
            judged = rows % folds == index

        judgements: list[Tensor] = []

        def metrics(outputs: Tensor, targets: Tensor) -> Metrics:
            waits_for = job.data.get("waits_for")  # a file, in the middle of fold 1
            judgements.append(targets)
            while waits_for and job.fold and job.fold[0] == 1 and len(judgements) > 3 and not Path(waits_for).exists():
                time.sleep(0.02)
            if job.data.get("fails") is not None and job.fold and job.fold[0] == job.data["fails"]:
                raise ValueError("this fold cannot be judged")
            errors, even = (outputs - targets).abs(), targets % 2 == 0
            found = {"val_mean_target": targets.mean().item(), "val_mae": errors.mean().item()}
            for name, group in (("even", even), ("odd", ~even)):
                if group.any():
                    found[f"val_mae_{name}"] = errors[group].mean().item()
            return found

        def split(which: Tensor) -> Split:
            return Split((which[:, None] / ROWS, which[:, None].float()), metrics)

        return Task(
            model=build_model(lambda: self.model({}, {}), job.seed),
            train=Split((rows[~judged][:, None] / ROWS, rows[~judged][:, None].float())),
            validation=split(rows[judged]),
            test=lambda: Split((torch.linspace(0, 1, 20)[:, None], torch.full((20, 1), SECRET)), metrics),
            loss=nn.functional.mse_loss,
            example=(torch.zeros(1, 1),),
        )

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return nn.Linear(1, 1)

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        return ("zero", "middle")

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        prefix, targets = ("val_", range(40, 60)) if part == "validation" else ("test_", [SECRET] * 20)
        guesses = {"zero": 0.0, "middle": 30.0}
        return {
            name: {f"{prefix}mae": sum(abs(t - guesses[name]) for t in targets) / 20}
            for name in self.chosen_baselines(data, part, names)
        }


class Unfolded(Folded):
    folds: ClassVar[bool] = False


OBJECTIVE = Folded
