"""A trial of the multimodal network: its loss and metrics by hand, its baselines, and what fusion is worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor

from hpo.errors import UnknownName
from hpo.spec import StudySpec
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Job
from objectives.multimodal import OBJECTIVE
from objectives.multimodal.presets import PARTS
from objectives.multimodal.task import Choices, choices_of, judge, keep, loss

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def planets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "planets"
    OBJECTIVE().make_data(path, seed=1, records=600, progress=False)
    return str(path)


def job(path: str, **changes: Any) -> Job:
    fields: dict[str, Any] = {"params": dict(OBJECTIVE.default_params), "data": {"path": path}, **changes}
    goal = Goal("val_cross_entropy")
    return Job(
        study="s", series="search", number=0, objective="multimodal", trainer=TrainerSettings(), goals=(goal,),
        monitor=goal, epochs=1, folder="nowhere", seed=3, data_seed=4, **fields,
    )  # fmt: skip


def outputs(rows: int = 3) -> dict[str, Tensor]:
    return {
        "logits": torch.zeros(rows, 4),
        "graph_reconstruction": torch.tensor([3.0, 0.0, 6.0]),
        "graph_kl": torch.tensor([30.0, 0.0, 60.0]),
        "cube_reconstruction": torch.tensor([0.0, 1.5, 1.5]),
    }


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    target = torch.tensor([0, 1, 2])
    expected = np.log(4) + 0.5 * (3 + 0.1 * 30) + 2 * 1
    assert loss(outputs(), target, Choices(w_graph=0.5, w_cube=2.0, beta=0.1)).item() == pytest.approx(expected)
    only = {"logits": outputs()["logits"]}
    assert loss(only, target, Choices()).item() == pytest.approx(np.log(4))


def test_the_loss_is_a_mean_over_planets_so_batches_can_be_cut() -> None:
    choices, target = Choices(w_graph=0.5, w_cube=2.0), torch.tensor([0, 1, 2])
    whole = loss(outputs(), target, choices)
    alone = [loss({n: v[i : i + 1] for n, v in outputs().items()}, target[i : i + 1], choices) for i in range(3)]
    torch.testing.assert_close(torch.stack(alone).mean(), whole)


def test_metrics_are_those_of_scikit_learn_and_parts_count_whom_they_belong_to() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = 60
    said = {
        "logits": torch.randn(rows, 4, generator=draw),
        "graph_reconstruction": torch.rand(rows, generator=draw),
        "graph_kl": torch.rand(rows, generator=draw),
        "cube_reconstruction": torch.rand(rows, generator=draw),
    }
    target = torch.randint(0, 4, (rows,), generator=draw)
    present = {part: np.ones(rows, dtype=bool) for part in PARTS}
    present["graph"][:20] = False
    present["cube"][:9] = False
    losses = ("graph_reconstruction", "graph_kl", "cube_reconstruction")
    kept, wanted = keep(said, target, losses)
    assert kept.shape == (rows, 7)
    found = judge(present, losses)(kept, wanted)
    called = said["logits"].argmax(1)
    assert found["val_accuracy"] == pytest.approx(accuracy_score(target, called))
    assert found["val_macro_f1"] == pytest.approx(f1_score(target, called, average="macro"))
    chances = said["logits"].double().softmax(1).numpy()
    assert found["val_cross_entropy"] == pytest.approx(log_loss(target, chances, labels=range(4)), rel=1e-5)
    assert found["val_graph_kl"] == pytest.approx(said["graph_kl"][20:].mean().item())
    assert found["val_cube_reconstruction"] == pytest.approx(said["cube_reconstruction"][9:].mean().item())
    assert found["val_accuracy_without_graph"] == pytest.approx(accuracy_score(target[:20], called[:20]))
    assert found["val_accuracy_complete"] == pytest.approx(accuracy_score(target[20:], called[20:]))
    assert "val_accuracy_without_cube" not in found, "nine planets are too few to say"
    assert set(found) <= set(OBJECTIVE.own_metrics)


def test_metrics_of_some_rows_know_their_own_gaps(planets: str) -> None:
    split = OBJECTIVE().task(job(planets)).validation
    rows = len(split)
    draw = torch.Generator().manual_seed(0)
    kept, target = torch.rand(rows, 7, generator=draw), torch.randint(0, 4, (rows,), generator=draw)
    assert split.metrics is not None and split.metrics_of_rows is not None
    order = np.random.default_rng(0).permutation(rows)
    whole, shuffled = split.metrics(kept, target), split.metrics_of_rows(kept[order], target[order], order)
    assert shuffled == pytest.approx(whole, rel=1e-5)
    assert {f"val_accuracy_without_{part}" for part in PARTS} <= set(whole) or rows < 200


def test_baselines_are_what_scikit_learn_says_and_all_beat_each(planets: str) -> None:
    data = {"path": planets}
    names = OBJECTIVE().baseline_names(data)
    assert names == ("majority", "logistic_text", "logistic_graph", "logistic_cube", "logistic_all")
    found = OBJECTIVE().baselines(data, 4, "test")
    assert tuple(found) == names
    assert found["majority"]["test_accuracy"] == pytest.approx(0.25, abs=0.01)
    assert found["majority"]["test_cross_entropy"] == pytest.approx(np.log(4), rel=1e-3)
    accuracy = {name: metrics["test_accuracy"] for name, metrics in found.items()}
    # One modality leaves two of four classes open: 0.5 at best, but for the luck of 120 planets.
    assert all(0.25 < accuracy[f"logistic_{part}"] < 0.62 for part in PARTS)
    assert accuracy["logistic_all"] > max(accuracy[f"logistic_{part}"] for part in PARTS) + 0.1
    alone = OBJECTIVE().baselines({**data, "modalities": ["text"]}, 4, "test", ["logistic_all"])
    assert alone["logistic_all"] == found["logistic_text"]


def test_the_outline_is_the_model_and_a_sample_of_it(planets: str) -> None:
    outline, task = OBJECTIVE().outline(job(planets)), OBJECTIVE().task(job(planets))
    assert all(tensor.is_meta for tensor in (*outline.model.parameters(), *outline.sample))
    assert [part.shape for part in outline.sample[:-1]] == [part.shape for part in task.example]
    assert len(outline.blocks) == len(task.blocks) == 2 + 2 + 2 + 1


def test_a_frozen_text_encoder_is_frozen_in_task_and_outline(planets: str) -> None:
    frozen = job(planets, data={"path": planets, "freeze": ["text"]})
    for model in (OBJECTIVE().task(frozen).model, OBJECTIVE().outline(frozen).model):
        trained = {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad}
        assert trained == {"graph", "cube", "fusion"}


def test_a_parameter_that_nobody_knows_is_refused() -> None:
    assert choices_of({"lr": 1e-3, "w_cube": 0.3, "patience": 4}) == Choices(w_cube=0.3)
    with pytest.raises(UnknownName, match="w_cubes"):
        choices_of({"w_cubes": 0.3})


def test_weights_from_a_file_are_those_that_the_trial_begins_with(planets: str, tmp_path: Path) -> None:
    net = OBJECTIVE().task(job(planets)).model
    text = {name: value + 1 for name, value in net.state_dict().items() if name.startswith("text.")}
    torch.save(text, tmp_path / "text.pt")
    given = {"path": planets, "weights": str(tmp_path / "text.pt")}
    found = OBJECTIVE().task(job(planets, data=given)).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in text.items())
    assert torch.equal(found["fusion.queries"], net.state_dict()["fusion.queries"])


def test_the_study_of_full_size_in_the_readme_is_a_study() -> None:
    text = (ROOT / "objectives" / "multimodal" / "README.md").read_text(encoding="utf-8")
    study = StudySpec.model_validate(YAML(typ="safe").load(text.split("```yaml")[1].split("```")[0]))
    TrainerSettings.layered(OBJECTIVE.default_trainer, study.trainer, {"lr": 1e-4})
    data = {**study.data, "weights": None}
    OBJECTIVE().space_for(data).check(dict(study.enqueue[0]))


@pytest.mark.slow
def test_fusion_tells_more_planets_right_than_the_best_modality_alone(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from multimodal_fusion import compare
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    found = compare(tmp_path, records=1200, epochs=10, seed=7, data_seed=0)
    interval = found.gain
    assert interval.low > 0.1, f"fusion is better by {interval.low:.3f} to {interval.high:.3f}"
