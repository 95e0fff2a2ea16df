"""Small convolutional networks on scikit-learn's digits: the loss against size and speed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Job, Params
from objectives.base import TrainingObjective
from search_spaces import Choice, Float, Int, SearchSpace

_SIDE = 8  # pixels


@lru_cache
def _parts(data_seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Train, validation, test: each images (n, 1, 8, 8) in 0 to 1 and classes (n,)."""
    x, y = load_digits(return_X_y=True)
    rest, test = train_test_split(range(len(y)), test_size=0.2, stratify=y, random_state=data_seed)
    train, val = train_test_split(rest, test_size=0.25, stratify=y[rest], random_state=data_seed)
    images = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, _SIDE, _SIDE)
    classes = torch.tensor(y)
    return [(images[rows], classes[rows]) for rows in (train, val, test)]


class DigitsCnn(TrainingObjective):
    """``stride`` is the first convolution's; ``width`` the hidden layer's."""

    summary = "cross-entropy of a small convolutional network on 8x8 digits"
    default_goals: ClassVar[tuple[str, ...]] = ("val_loss", "forward_gflops", "parameter_mb")

    @property
    def space(self) -> SearchSpace:
        return SearchSpace(
            {
                "lr": Float(1e-4, 1e-1, log=True),
                "weight_decay": Float(1e-6, 1.0, log=True),
                "batch_size": Choice((32, 64, 128)),
                "channels": Int(2, 48, log=True),
                "depth": Int(1, 3),
                "stride": Choice((1, 2)),
                "width": Int(8, 256, log=True),
                "dropout": Float(0.0, 0.6),
            }
        )

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        channels, stride = params["channels"], params["stride"]
        layers: list[nn.Module] = []
        for i in range(params["depth"]):
            first = i == 0
            layers += [nn.Conv2d(1 if first else channels, channels, 3, stride if first else 1, padding=1), nn.ReLU()]
        flat = channels * (_SIDE // stride) ** 2
        head = [nn.Flatten(), nn.Linear(flat, params["width"]), nn.ReLU(), nn.Dropout(params["dropout"])]
        return nn.Sequential(*layers, *head, nn.Linear(params["width"], 10))

    def task(self, job: Job) -> Task:
        train, val, test = _parts(job.data_seed)
        return Task(
            model=build_model(lambda: self.model(job.params, {}), job.seed),
            train=Split(train),
            validation=Split(val),
            test=lambda: Split(test),
            loss=nn.functional.cross_entropy,
            example=(train[0][:1],),
            inputs=("image",),
            outputs=("logits",),
        )
