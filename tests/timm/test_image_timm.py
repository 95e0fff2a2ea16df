"""The models of timm as image_classification has them: EVA-02 Base at full size, and its smallest sister trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.errors import DataError
from hpo.export.forward import first_rows, load_weights_strictly
from hpo.training.settings import TrainerSettings
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Direction, Goal, Job, Point, TrialContext
from objectives.image_classification import OBJECTIVE

TINY = "timm:eva02_tiny_patch14_224"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return OBJECTIVE().make_data(tmp_path_factory.mktemp("data") / "digits", seed=1, records=60, progress=False)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_CACHE", str(tmp_path / "cache"))


def job(digits: Path, folder: Path | str = "nowhere", **data: Any) -> Job:
    goal = Goal("val_accuracy", Direction.MAXIMIZE)
    params = {**OBJECTIVE.default_params, "lr": 1e-3, "batch_size": 24, "accumulation": 1, "warmup_epochs": 0}
    settings = TrainerSettings.layered(OBJECTIVE.default_trainer, {"threads": 2})
    return Job(
        study="study", series="search", number=0, objective="image_classification", params=params,
        data={"path": str(digits), **data}, trainer=settings, goals=(goal,), monitor=goal, epochs=1,
        folder=str(folder), seed=3, data_seed=1,
    )  # fmt: skip


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_eva02_base_has_the_parameters_of_its_paper(digits: Path) -> None:
    """Table 3 of arXiv 2303.11331: 86 M; 85.8 M in timm's eva02_base_patch14_224, without a last layer."""
    outline = OBJECTIVE().outline(job(digits, model="eva02-base")).model
    assert all(parameter.is_meta for parameter in outline.parameters())
    head = 768 * 10 + 10
    assert parameters(outline) - head == pytest.approx(85.8e6, abs=0.05e6)


def test_eva02_base_runs_and_sees_images_of_224_px(digits: Path) -> None:
    task = OBJECTIVE().task(job(digits, model="eva02-base"))
    assert task.example[0].shape == (1, 3, 224, 224) and task.example[0].dtype == torch.uint8
    task.model.eval()
    with torch.no_grad():
        assert task.model(*task.example).shape == (1, 10)
    assert len(task.blocks) == 12


def test_the_smallest_eva02_is_trained_a_step_and_built_again_from_its_facts(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    wanted = job(digits, tmp_path / "trial", model=TINY, image_size=28)
    task = OBJECTIVE().task(wanted)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    points: list[Point] = []

    def send(point: Point) -> Any:
        points.append(point)
        return GO_ON

    Trainer(wanted.trainer.with_params(wanted.params)).fit(task, TrialContext(wanted, send))
    assert points[-1].metrics["train_loss"] == pytest.approx(2.3, abs=1.0)  # ln 10: nothing is known yet
    assert any(not torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    again = OBJECTIVE().model(wanted.params, json.loads(json.dumps(dict(task.facts))))
    load_weights_strictly(again, task.model.state_dict())
    inputs = first_rows(task.validation, 2, task.inputs)
    task.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs), task.model(*inputs))


def test_a_convolutional_network_of_timm_takes_any_size(digits: Path) -> None:
    task = OBJECTIVE().task(job(digits, model="timm:convnext_atto", image_size=32))
    task.model.eval()
    with torch.no_grad():
        assert task.model(*task.example).shape == (1, 10)
    assert len(task.blocks) == 4


def test_a_name_that_timm_does_not_know_is_refused(digits: Path) -> None:
    with pytest.raises(DataError, match="timm knows no 'eva03_huge'"):
        OBJECTIVE().task(job(digits, model="timm:eva03_huge", image_size=32))


def test_weights_of_timm_go_in_by_path_whatever_the_classes(digits: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    net = timm.create_model("eva02_tiny_patch14_224", img_size=28, num_classes=1000)
    save_file(net.state_dict(), tmp_path / "eva.safetensors")
    weights = str(tmp_path / "eva.safetensors")
    model = OBJECTIVE().task(job(digits, model=TINY, image_size=28, weights=weights)).model
    state = model.get_submodule("net").state_dict()
    given = net.state_dict()
    assert {name for name in given if not torch.equal(state[name], given[name])} == {"head.weight", "head.bias"}
    with pytest.raises(DataError, match=r"of another shape \(pos_embed"):
        OBJECTIVE().task(job(digits, model=TINY, image_size=56, weights=weights))
