"""Your own model with your own data: scikit-learn's handwritten digits and a small network."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from hpo.evaluation.splits import fold_rows
from hpo.training.task import Split, Task, build_model
from hpo.trial import Direction, Metric
from objectives.base import TrainingObjective
from search_spaces import Choice, Float, Int, SearchSpace

PIXELS, DIGITS = load_digits(return_X_y=True)
X, Y = torch.tensor(PIXELS / 16, dtype=torch.float32), torch.tensor(DIGITS)


def rows(data_seed, fold=None):
    """Rows to train on, to validate on and to test on; a fold deals the first two out anew."""
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(data_seed)).numpy()
    train, validation, test = order[:1100], order[1100:1450], order[1450:]
    if fold is not None:
        train, validation = fold_rows(order[:1450], np.arange(len(X)), DIGITS, fold, data_seed)
    return train, validation, test


def accuracy(outputs, targets):
    return {"val_accuracy": (outputs.argmax(1) == targets).float().mean().item()}


class Digits(TrainingObjective):
    summary = "read a handwritten digit from 8x8 pixels"
    own_metrics = {"val_accuracy": Metric(Direction.MAXIMIZE, "share of digits read correctly")}
    folds = True
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
        train, validation, test = rows(job.data_seed, job.fold)
        return Task(
            model=build_model(lambda: self.model(job.params, {}), job.seed),
            train=Split((X[train], Y[train])),
            validation=Split((X[validation], Y[validation]), accuracy),
            test=lambda: Split((X[test], Y[test]), accuracy),
            loss=nn.functional.cross_entropy,
            example=(X[:1],),
        )

    def baseline_names(self, data):
        return ("majority", "logistic_regression")

    def baselines(self, data, data_seed, part, names=None):
        simple = {"majority": DummyClassifier(), "logistic_regression": LogisticRegression(max_iter=200)}
        train, validation, test = rows(data_seed)
        judged, prefix = (validation, "val_") if part == "validation" else (test, "test_")
        found = {}
        for name in self.chosen_baselines(data, part, names):
            model = simple[name].fit(X[train], Y[train])
            chances = torch.tensor(model.predict_log_proba(X[judged]))
            loss = nn.functional.nll_loss(chances, Y[judged]).item()
            found[name] = {prefix + "loss": loss, prefix + "accuracy": model.score(X[judged], Y[judged])}
        return found
