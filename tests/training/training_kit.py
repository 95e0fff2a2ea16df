"""A tiny task and a context that remembers, for the trainer's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task, build_model
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Decision, Goal, Job, Outcome, Point, TrialContext

LOSS = Goal("val_loss")


def mae(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return {"val_mae": (outputs - targets).abs().mean().item()}


def regression(samples: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 4, generator=generator)
    return x, x.sum(1, keepdim=True)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def make_task(**changes: Any) -> Task:
    train, validation = regression(40, 1), regression(16, 2)
    task = Task(
        model=build_model(net, seed=3),
        train=Split(train),
        validation=Split(validation, mae),
        loss=nn.functional.mse_loss,
        example=(validation[0][:1],),
    )
    return replace(task, **changes)


def make_settings(**changes: Any) -> TrainerSettings:
    return TrainerSettings(**{"lr": 0.01, "batch_size": 8, "threads": 1, **changes})


class Clock:
    """The clock by which trials count their time, where the fixture ``clock`` is used: it stands still by itself."""

    now_s = 0.0


class Slow(nn.Linear):
    """A model that needs a second for a batch while training."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(4, 1)
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now_s += self.training
        return super().forward(x)


class Trial:
    """One trial in ``folder``; ``points`` holds what it reported."""

    def __init__(
        self,
        folder: Path,
        *,
        answer: Callable[[Point], Decision] = lambda point: GO_ON,
        stop_requested: Callable[[], bool] = lambda: False,
        **job: Any,
    ) -> None:
        self.folder, self.points, self._answer = folder, [], answer  # type: tuple[Path, list[Point], Any]
        defaults: dict[str, Any] = {"goals": (LOSS,), "monitor": LOSS, "seed": 11, "epochs": 4, "params": {}}
        if job.get("resume"):
            defaults["reported"] = 10**6  # every epoch is known, unless a test says otherwise
        self.job = Job(
            study="s",
            series="x",
            number=0,
            objective="o",
            data={},
            trainer=TrainerSettings(),
            data_seed=0,
            folder=str(folder),
            **{**defaults, **job},
        )
        self.context = TrialContext(self.job, self._send, stop_requested=stop_requested)

    def _send(self, point: Point) -> Decision:
        self.points.append(point)
        return self._answer(point)

    def fit(self, task: Task, settings: TrainerSettings | None = None) -> Outcome:
        return Trainer(settings or make_settings()).fit(task, self.context)

    def curve(self, metric: str = "val_loss") -> list[float]:
        return [point.metrics[metric] for point in self.points]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Equal bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
