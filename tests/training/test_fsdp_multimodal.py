"""The multimodal model on two processes: what one process learns, with half of the parameters in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from hpo.training.task import Split, Task
from hpo.trial import GO_ON, Decision, Goal, Job, Metric, Point, TrialContext
from objectives import registry
from objectives.multimodal import Multimodal
from tests.training.training_kit import Trial, make_settings


class Planets(Multimodal):
    """Reports what the process that reports has of the parameters."""

    own_metrics: ClassVar = {**Multimodal.own_metrics, "val_own_mb": Metric(help="parameters in this process")}

    def task(self, job: Job) -> Task:
        from hpo.training.team.sharded import local_part

        task = super().task(job)

        def own_mb(outputs: object, targets: object) -> dict[str, float]:
            return {"val_own_mb": sum(local_part(p).nbytes for p in task.model.parameters()) / 2**20}

        return replace(task, validation=Split(task.validation.data, own_mb))


@pytest.fixture(scope="module")
def planets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "planets"
    registry.find("multimodal").make_data(path, seed=1, records=100, nodes=8, progress=False)
    return str(path)


def run(folder: Path, planets: str, modalities: Sequence[str], **settings: object) -> list[Point]:
    """Two epochs without dropout."""
    folder.mkdir()
    points: list[Point] = []

    def send(point: Point) -> Decision:
        points.append(point)
        return GO_ON

    goal = Goal("val_loss")
    job = replace(
        Trial(folder).job,
        objective=f"{__name__}:Planets",
        params={**Multimodal.default_params, "dropout": 0.0, "batch_size": 16},
        data={**Multimodal.default_data, "path": planets, "preset": "tiny", "modalities": list(modalities)},
        trainer=make_settings(lr=1e-3, grad_clip=1.0, **settings),
        goals=(goal,),
        monitor=goal,
        epochs=2,
    )
    registry.find(job.objective).run(job, TrialContext(job, send))
    return points


def curve(points: Sequence[Point], name: str) -> list[float]:
    return [point.metrics[name] for point in points]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(tmp_path: Path, planets: str, strategy: str) -> None:
    """Without the graph, whose auto-encoder draws its codes at random, each process its own."""
    alone = run(tmp_path / "one", planets, ["text", "cube"])
    together = run(tmp_path / "two", planets, ["text", "cube"], devices=2, strategy=strategy)
    for name in ("train_loss", "val_loss", "grad_norm"):
        assert curve(together, name) == pytest.approx(curve(alone, name), rel=1e-4)


@pytest.mark.slow
def test_each_process_has_half_of_the_parameters(tmp_path: Path, planets: str) -> None:
    everything = ["text", "graph", "cube"]
    (whole, _) = curve(run(tmp_path / "one", planets, everything), "val_own_mb")
    half = curve(run(tmp_path / "two", planets, everything, devices=2, strategy="fsdp"), "val_own_mb")
    assert half == pytest.approx([whole / 2] * 2, rel=0.01)  # an odd first axis is cut in unequal parts


@pytest.mark.slow
def test_checkpointed_blocks_are_sharded_too(tmp_path: Path, planets: str) -> None:
    settings = {"devices": 2, "strategy": "fsdp", "gradient_checkpointing": True, "limit_batches": 2}
    points = run(tmp_path / "two", planets, ["text", "graph", "cube"], **settings)
    assert len(points) == 2
