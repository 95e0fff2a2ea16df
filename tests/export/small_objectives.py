"""Objectives of a few parameters: one, two inputs; one, two, named outputs; buffers; tied and bf16 weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hpo.training.task import Split, Task, build_model
from hpo.trial import Job, Params
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace


class Scaled(nn.Module):
    """An MLP that scales its inputs itself: mean and spread are buffers."""

    mean: Tensor

    def __init__(self, features: int, widths: tuple[int, ...], mean: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((features,), mean))
        sizes = [features, *widths]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(sizes[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - self.mean).squeeze(-1)


class TwoInputs(nn.Module):
    """Numbers and a category in; a value and a class out, as a dict in another order than their names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor, kind: Tensor) -> dict[str, Tensor]:
        hidden = self.head(torch.cat([x, self.embed(kind)], dim=1))
        return {"value": hidden[:, 0], "class": hidden.argmax(dim=1)}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean(dim=1)


class TwoOutputs(nn.Module):
    """Tied weights and two outputs as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Linear(4, 4, bias=False)
        self.back = nn.Linear(4, 4, bias=False)
        self.back.weight = self.there.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.there(x)
        return self.back(hidden), hidden.mean()


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 4) if x.shape[0] == 2 else x


class _Small(TrainingObjective):
    summary = "for tests"
    default_goals = ("val_loss",)
    own_data: Any = None

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"lr": Float(1e-4, 1e-1)})

    def task(self, job: Job) -> Task:
        raise NotImplementedError


class NoModel(_Small):
    """Does not say how to build its model again."""


class Mlp(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return Scaled(facts["features"], tuple(params["widths"]), 0.0)


class Worsening(_Small):
    """Training pulls to +1 and validation wants -1: the first epoch is the best, the last the worst."""

    def task(self, job: Job) -> Task:
        return Task(
            model=self.model({}, {}),
            train=Split((torch.ones(64, 1), torch.ones(64, 1))),
            validation=Split((torch.ones(64, 1), -torch.ones(64, 1))),
            test=lambda: Split((torch.ones(64, 1), -torch.ones(64, 1))),
            loss=nn.functional.mse_loss,
            example=(torch.ones(1, 1),),
        )

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        model = nn.Linear(1, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model


class Conv(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return conv(params["channels"])


class Both(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return TwoInputs()


class Tied(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return TwoOutputs()


class Attention(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return Encoder()


def conv(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 2),
    )


def task_of(model: nn.Module, *rows: Tensor, outputs: tuple[str, ...] = ("output",), **fields: Any) -> Task:
    """A task whose validation split is ``rows`` with zeros for targets; inputs are named in0, in1, ..."""
    split = Split((*rows, torch.zeros(len(rows[0]))))
    return Task(
        model=model,
        train=split,
        validation=split,
        loss=nn.functional.mse_loss,
        example=tuple(row[:1] for row in rows),
        **{"inputs": tuple(f"in{i}" for i in range(len(rows))), "outputs": outputs, **fields},
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp_task(features: int = 6, widths: tuple[int, ...] = (8, 4), rows: int = 70, mean: float = 0.25) -> Task:
    model = build_model(lambda: Scaled(features, widths, mean), seed=1)
    facts = {"features": features, "scaling": torch.tensor([1.0, 2.0])}
    return task_of(model, noise(rows, features), inputs=("x",), outputs=("score",), facts=facts)


def weights_of(task: Task) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.model.state_dict().items()}
