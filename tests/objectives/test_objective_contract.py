"""What every training objective must keep, ours and the README's example: one class of tests over all of them."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import DIGITS, SMALL, Data, find

from hpo.errors import DataError, UserError
from hpo.export.forward import first_rows, in_order, load_weights_strictly
from hpo.training.checks.preflight import Extent, preflight
from hpo.training.settings import WARM_UPS, TrainerSettings
from hpo.training.task import Task
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Goal, Job, Point, TrialContext
from objectives.base import TRAINER_METRICS, TrainingObjective, facts_of
from objectives.prediction import Preparation, Rows

EXTENT = Extent(epochs=1, trials=1)
TENSORS_OF_OTHER_DATA = {"language_modeling": {"decoder_input_ids"}}  # an encoder and decoder takes them


@dataclass
class Case:
    """A training objective with data that it can use."""

    name: str
    objective: TrainingObjective
    data: Mapping[str, Any]

    def job(self, folder: Path | str = "nowhere", **changes: Any) -> Job:
        goal = Goal(self.objective.default_goals[0])
        fields = {"seed": 5, "data_seed": 2, "deterministic": True, **changes}
        params = {name: value for name, value in self.params.items() if name not in WARM_UPS}  # there is one epoch
        return Job(
            study="study", series="search", number=0, objective=self.name, params=params, data=dict(self.data),
            trainer=self.settings, goals=(goal,), monitor=goal, epochs=1, folder=str(folder), **fields,
        )  # fmt: skip

    @property
    def params(self) -> dict[str, Any]:
        """What people pick by hand; of an example that says nothing, the lowest and the first."""
        space = self.objective.space_for(self.data)
        lowest = {name: p.choices[0] if hasattr(p, "choices") else p.low for name, p in space.items()}
        return {**lowest, **self.objective.default_params}

    @property
    def settings(self) -> TrainerSettings:
        given = {name: value for name, value in self.objective.default_trainer.items() if name not in WARM_UPS}
        return TrainerSettings.layered(given, {"threads": 1, "checkpoint_every": 1, "accumulation": 1})

    def task(self, **changes: Any) -> Task:
        return self.objective.task(self.job(**changes))

    def trial(self, folder: Path, **changes: Any) -> tuple[dict[str, float], Task]:
        """One epoch; the metrics it reported together with those of the outcome, and the trained task."""
        folder.mkdir()
        points: list[Point] = []
        job = self.job(folder, **changes)
        task = self.objective.task(job)

        def send(point: Point) -> Any:
            points.append(point)
            return GO_ON

        outcome = Trainer(job.trainer.with_params(job.params)).fit(task, TrialContext(job, send))
        return {**points[-1].metrics, **outcome.metrics}, task


@pytest.fixture(scope="module", params=[name for name in SMALL if isinstance(find(name), TrainingObjective)])
def case(request: pytest.FixtureRequest, small_data: Callable[[str], Data]) -> Case:
    objective = find(request.param)
    assert isinstance(objective, TrainingObjective)
    return Case(request.param, objective, small_data(request.param))


@pytest.fixture(scope="module")
def trained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], Task]:
    return case.trial(tmp_path_factory.mktemp("trial") / "it", use_test=True)


@pytest.fixture(scope="module")
def again(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], Task]:
    """The same trial, as it stands in a search."""
    return case.trial(tmp_path_factory.mktemp("trial") / "it")


def test_the_data_has_a_fingerprint_and_counts(case: Case) -> None:
    facts = case.objective.check_data(case.data)
    assert facts == case.objective.check_data(dict(case.data))
    assert len(facts.fingerprint) >= 16
    if case.name != DIGITS:
        assert facts.counts and all(isinstance(count, int) and count >= 0 for count in facts.counts.values())


def test_a_field_that_the_data_does_not_have_is_refused_by_name(case: Case) -> None:
    if case.name == DIGITS:
        pytest.skip("takes no data")
    with pytest.raises(UserError, match="colour"):
        case.objective.check_data({**case.data, "colour": "red"})


@pytest.mark.parametrize("name", ["nothing-here", "nothing-here" * 30])
def test_a_path_where_nothing_can_be_is_one_clear_error_that_names_it(case: Case, tmp_path: Path, name: str) -> None:
    if "path" not in case.objective.default_data:
        pytest.skip("reads no file")
    with pytest.raises(DataError, match="nothing-here"):
        facts_of(case.objective, {**case.data, "path": str(tmp_path / name)})


def test_an_option_that_the_maker_does_not_have_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="colour|makes no data"):
        case.objective.make_data(tmp_path / "out", seed=1, colour="red")
    assert not list(tmp_path.iterdir())


def test_the_hand_picked_point_is_whole_and_lies_in_the_space(case: Case) -> None:
    case.objective.space_for(case.data).check(case.params)


def test_no_id_stands_in_two_parts_and_the_seed_decides(case: Case) -> None:
    parts = case.objective.split_ids(case.data, 2)
    if not parts and case.name == DIGITS:
        pytest.skip("keeps no split")
    assert set(parts) == {"train", "validation", "test"}
    everyone = [one for ids in parts.values() for one in ids]
    assert len(everyone) == len(set(everyone))
    assert all(ids for ids in parts.values())
    assert parts == case.objective.split_ids(case.data, 2)
    assert parts != case.objective.split_ids(case.data, 3)


def test_the_seed_alone_decides_the_weights(case: Case) -> None:
    first, same, other = (case.task(seed=seed).model.state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_the_pre_flight_finds_nothing_wrong(case: Case) -> None:
    job = case.job()
    found = preflight(
        lambda: case.objective.task(job), job.trainer.with_params(job.params), EXTENT,
        outline=lambda: case.objective.outline(job),
    )  # fmt: skip
    assert [one.line for one in found.failed] == []


def test_an_outline_is_the_model_without_its_memory(case: Case) -> None:
    outline = case.objective.outline(case.job())
    if outline is None:
        pytest.skip("small enough to be built")
    assert all(parameter.is_meta for parameter in outline.model.parameters())
    assert _shapes(outline.model) == _shapes(case.task().model)


def _shapes(model: torch.nn.Module) -> dict[str, tuple[tuple[int, ...], bool]]:
    return {name: (tuple(value.shape), value.requires_grad) for name, value in model.named_parameters()}


def test_what_a_trial_reports_is_what_the_objective_says(case: Case, trained: tuple[dict[str, float], Task]) -> None:
    reported, _ = trained
    known = set(case.objective.metrics_for(case.data))
    tested = {f"test_{name.removeprefix('val_')}" for name in known if name.startswith("val_")}
    assert set(reported) <= known | tested
    own = {name for name in case.objective.default_goals if not TRAINER_METRICS.get(name, None)}
    assert {*own, "val_loss", "train_loss", "test_loss"} <= set(reported)
    assert math.isfinite(reported["val_loss"]) and math.isfinite(reported["train_loss"])


def test_the_test_set_is_read_by_retraining_alone(again: tuple[dict[str, float], Task]) -> None:
    reported, _ = again
    assert not [name for name in reported if name.startswith("test_")]


def test_the_same_seed_trains_the_same_bits(
    trained: tuple[dict[str, float], Task], again: tuple[dict[str, float], Task]
) -> None:
    _, first = trained
    _, second = again
    weights = second.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.model.state_dict().items())


def test_the_model_is_built_again_from_its_facts_without_data(
    case: Case, trained: tuple[dict[str, float], Task]
) -> None:
    _, task = trained
    rebuilt = case.objective.model(case.params, json.loads(json.dumps(dict(task.facts))))
    load_weights_strictly(rebuilt, task.model.state_dict())
    task.model.eval()
    inputs = first_rows(task.validation, 3, task.inputs)
    with torch.no_grad():
        said, again = (in_order(model(*inputs), task.outputs) for model in (task.model, rebuilt))
    for one, other in zip(said, again, strict=True):
        torch.testing.assert_close(one, other)
        assert len(one) == 3


def test_a_sample_alone_is_what_it_is_among_others(case: Case, trained: tuple[dict[str, float], Task]) -> None:
    """Neither batch norm in training mode nor padding may leak from one sample into another."""
    _, task = trained
    task.model.eval()
    inputs = first_rows(task.validation, 4, task.inputs)
    with torch.no_grad():
        (together, *_) = in_order(task.model(*inputs), task.outputs)
        (alone, *_) = in_order(task.model(*(part[2:3] for part in inputs)), task.outputs)
    np.testing.assert_allclose(together[2].numpy(), alone[0].numpy(), atol=2e-5, rtol=1e-4)


def test_meanings_are_told_of_exactly_the_tensors_that_ship(case: Case, trained: tuple[dict[str, float], Task]) -> None:
    _, task = trained
    if case.name == DIGITS:
        pytest.skip("says nothing of its tensors")
    shipped = {*task.inputs, *task.outputs, *TENSORS_OF_OTHER_DATA.get(case.name, ())}
    assert set(case.objective.meanings) == shipped
    assert all(case.objective.meanings.values())
    assert 2 <= len(case.objective.limits) <= 4
    assert all(limit.endswith(".") for limit in case.objective.limits)


@dataclass
class Shipped:
    """What of a trained task a bundle has for preparing: its facts as JSON, and a folder."""

    task: Task
    facts: Mapping[str, Any]
    assets: Path
    preparation: Preparation

    def said(self, rows: Rows) -> dict[str, np.ndarray]:
        self.task.model.eval()
        with torch.no_grad():
            said = self.task.model(*(torch.from_numpy(rows.inputs[name]) for name in self.task.inputs))
        return {
            name: one.numpy() for name, one in zip(self.task.outputs, in_order(said, self.task.outputs), strict=True)
        }


@pytest.fixture(scope="module")
def shipped(case: Case, trained: tuple[dict[str, float], Task], tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    _, task = trained
    if case.name == DIGITS:
        pytest.skip("reads no files")
    assets = tmp_path_factory.mktemp("bundle") / "assets"
    if task.assets is not None:
        assets.mkdir()
        task.assets(assets)
    facts = json.loads(json.dumps(dict(task.facts)))
    return Shipped(task, facts, assets, case.objective.preparation(case.params, facts, assets))


def test_an_objective_that_reads_no_files_says_what_always_works(case: Case, tmp_path: Path) -> None:
    if case.name != DIGITS:
        pytest.skip("reads files")
    with pytest.raises(UserError, match=r"Digits reads no files.*\.npz"):
        case.objective.preparation(case.params, {}, tmp_path)


def test_files_become_what_the_model_takes_and_its_outputs_words(case: Case, shipped: Shipped) -> None:
    task, parts = shipped.task, list(shipped.preparation.read(Path(case.data["path"]), 7))
    assert parts and all(len(part.ids) <= 7 for part in parts)
    assert shipped.preparation.suffixes and shipped.preparation.accepts
    for part in parts[:2]:
        assert set(part.inputs) == set(task.inputs)
        for i, name in enumerate(task.inputs):
            array, example = part.inputs[name], task.example[i].numpy()
            free = {0, *(task.open_axes[i] if task.open_axes else ())}
            assert array.dtype == example.dtype and array.ndim == example.ndim and len(array) == len(part.ids)
            assert all(array.shape[axis] == example.shape[axis] for axis in range(array.ndim) if axis not in free)
        told = shipped.preparation.tell(part, shipped.said(part))
        assert len(told) == len(part.ids) and len({tuple(one) for one in told}) == 1
        assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_held_out_sample_is_prepared_bit_for_bit_as_it_was_judged(case: Case, shipped: Shipped) -> None:
    if case.name == "language_modeling":
        pytest.skip("is padded by batch")
    prepared: Counter[str] = Counter()
    for part in shipped.preparation.read(Path(case.data["path"]), 16):
        columns = [part.inputs[name] for name in shipped.task.inputs]
        prepared.update(_digest([column[i] for column in columns]) for i in range(len(part.ids)))
    assert shipped.task.test is not None
    test = shipped.task.test()
    rows = zip(*test.data, strict=True) if isinstance(test.data, tuple) else iter(test.data)
    judged = Counter(_digest([one.numpy() for one in row[:-1]]) for row in rows)
    assert judged.total() == len(test) > 5
    assert not judged - prepared


def _digest(sample: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in sample)).hexdigest()


WITHOUT_TORCH = """
import json, sys
from pathlib import Path
import numpy as np
from objectives import registry
name, params, facts, assets, data, outputs = json.loads(sys.argv[1])
preparation = registry.find(name).preparation(params, facts, Path(assets))
rows = next(iter(preparation.read(Path(data), 3)))
told = preparation.tell(rows, dict(np.load(outputs)))
print(json.dumps([told, sorted({"torch", "transformers", "ray", "sklearn"} & set(sys.modules))]))
"""


def test_preparing_and_telling_load_no_torch(case: Case, shipped: Shipped, tmp_path: Path) -> None:
    rows = next(iter(shipped.preparation.read(Path(case.data["path"]), 3)))
    outputs = shipped.said(rows)
    np.savez(tmp_path / "outputs.npz", **outputs)  # type: ignore[arg-type]
    places = [str(shipped.assets), case.data["path"], str(tmp_path / "outputs.npz")]
    given = json.dumps([case.name, case.params, shipped.facts, *places])
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, given], capture_output=True, text=True, check=True)
    told, loaded = json.loads(done.stdout)
    assert loaded == []
    assert told == json.loads(json.dumps(shipped.preparation.tell(rows, outputs)))
