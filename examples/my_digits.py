"""Your own model with your own data: scikit-learn's handwritten digits and a small network."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Direction, Metric
from objectives.base import TrainingObjective
from search_spaces import Choice, Float, Int, SearchSpace


class Digits(TrainingObjective):
    summary = "read a handwritten digit from 8x8 pixels"
    own_metrics = {"val_accuracy": Metric(Direction.MAXIMIZE, "share of digits read correctly")}
    space = SearchSpace(
        {
            "lr": Float(1e-4, 1e-1, log=True),
            "batch_size": Choice((32, 64, 128)),
            "width": Int(16, 256, log=True),
            "dropout": Float(0.0, 0.5),
        }
    )

    def model(self, params, facts):
        width, dropout = params["width"], params["dropout"]
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))

    def task(self, job):
        pixels, digits = load_digits(return_X_y=True)
        x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(job.data_seed))
        train, validation, test = order[:1100], order[1100:1450], order[1450:]

        def accuracy(outputs, targets):
            return {"val_accuracy": (outputs.argmax(1) == targets).float().mean().item()}

        return Task(
            model=build_model(lambda: self.model(job.params, {}), job.seed),
            train=Split((x[train], y[train])),
            validation=Split((x[validation], y[validation]), accuracy),
            test=lambda: Split((x[test], y[test]), accuracy),
            loss=nn.functional.cross_entropy,
            example=(x[:1],),
        )
