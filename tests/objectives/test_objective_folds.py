"""Folds: train and validation rows dealt out anew, whole groups, alike strata, never a test row."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpo.errors import DataError
from hpo.training.settings import TrainerSettings
from hpo.training.task import prediction_kind
from hpo.trial import Goal, Job
from objectives import registry
from objectives.base import TrainingObjective
from objectives.quality_regression import OBJECTIVE, QualityRegression
from objectives.quality_regression.data import TYPES, Parts, Records, load, split

EXAMPLES = str(Path(__file__).parents[2] / "examples")
FOLDS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """900 records of 300 logos, types in shares of 4 : 3 : 2 : 1; the first feature is the row's number."""
    rng = np.random.default_rng(0)
    logo = np.arange(900) // 3
    features = rng.random((900, 2048), dtype=np.float32)
    features[:, 0] = np.arange(900)
    path = tmp_path_factory.mktemp("data") / "logos.npz"
    np.savez(
        path,
        logo_id=logo.astype(str),
        features=features,
        settings=rng.random((900, 8), dtype=np.float32),
        ssim=rng.random(900, dtype=np.float32),
        logo_type=np.array([TYPES[i] for i in (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)])[logo % 10],
    )
    return {"path": str(path), "min_records": 100}


def job(objective: str, data: dict[str, Any], fold: tuple[int, int] | None, **changes: Any) -> Job:
    goal = Goal("val_loss")
    params = dict(QualityRegression.default_params) if objective == "quality_regression" else changes.pop("params")
    return Job(
        "study", "folds", 0, objective, params, data, TrainerSettings(), (goal,), goal, 1, 2, 3, "nowhere",
        fold=fold, **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def records(data: dict[str, Any]) -> Records:
    return load(data)


def folds_of(records: Records, seed: int = 2) -> list[Parts]:
    return [split(records, seed, (index, FOLDS)) for index in range(FOLDS)]


def test_every_row_that_is_not_held_out_is_validated_exactly_once(records: Records) -> None:
    usual = split(records, 2)
    rest = sorted([*usual.train, *usual.validation])
    assert sorted(np.concatenate([parts.validation for parts in folds_of(records)])) == rest
    for parts in folds_of(records):
        assert sorted([*parts.train, *parts.validation]) == rest
        assert parts.test.tolist() == usual.test.tolist()
        assert not {*parts.train, *parts.validation} & {*usual.test}


def test_no_logo_stands_on_two_sides(records: Records) -> None:
    for parts in folds_of(records):
        sides = [set(records.logo_ids[rows]) for rows in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, sides)) == 300 == len(set.union(*sides))


def test_every_fold_has_its_share_of_every_type(records: Records) -> None:
    for parts in folds_of(records):
        for kind, share in zip(TYPES, (0.4, 0.3, 0.2, 0.1), strict=True):
            assert np.sum(records.logo_types[parts.validation] == kind) == pytest.approx(share * 765 / FOLDS, abs=4)


def test_a_fold_is_the_same_whenever_and_wherever_it_is_asked_for(records: Records) -> None:
    first = folds_of(records)
    for index in (4, 0, 3):
        again = split(records, 2, (index, FOLDS))
        assert all(np.array_equal(vars(again)[name], rows) for name, rows in vars(first[index]).items())
    assert not np.array_equal(split(records, 3, (0, FOLDS)).validation, first[0].validation)


def test_a_folds_task_learns_from_its_training_rows_alone(data: dict[str, Any], records: Records) -> None:
    parts = folds_of(records)[1]
    task = OBJECTIVE().task(job("quality_regression", data, (1, FOLDS)))
    assert task.train.data[0][:, 0].tolist() == parts.train.tolist()  # type: ignore[index]
    assert task.validation.data[0][:, 0].tolist() == parts.validation.tolist()  # type: ignore[index]
    assert task.test is None
    inputs = records.inputs(parts.train).astype(np.float64)
    np.testing.assert_allclose(task.model.input_mean.numpy(), inputs.mean(0), rtol=1e-5)  # type: ignore[operator,union-attr]
    assert float(task.model.target_mean) == pytest.approx(records.ssim[parts.train].mean(), rel=1e-6)  # type: ignore[arg-type]
    assert task.facts["rows"] == {"train": 612, "validation": 153, "test": 135}


def test_a_folds_metrics_are_those_of_its_own_rows_and_groups(data: dict[str, Any], records: Records) -> None:
    parts = folds_of(records)[2]
    validation = OBJECTIVE().task(job("quality_regression", data, (2, FOLDS))).validation
    targets = validation.data[1]  # type: ignore[index]
    off = torch.from_numpy(np.where(records.logo_types[parts.validation] == "text", 0.2, 0.0))[:, None]
    assert validation.metrics is not None and validation.metrics_of_rows is not None
    found = validation.metrics(targets + off, targets)
    assert found["val_mae_text"] == pytest.approx(0.2) and found["val_mae_simple"] == 0
    some = np.flatnonzero(records.logo_types[parts.validation] == "text")
    only_text = validation.metrics_of_rows((targets + off)[some], targets[some], some)
    assert only_text["val_mae"] == pytest.approx(0.2) and "val_mae_simple" not in only_text
    assert validation.clusters is not None
    assert validation.clusters.tolist() == records.logo_ids[parts.validation].tolist()


def test_folds_that_there_are_not_are_refused(data: dict[str, Any]) -> None:
    refused = {(5, 5): "the last 4; got 5", (0, 1): "at least 2 folds", (0, 400): "too few different groups"}
    for fold, message in refused.items():
        with pytest.raises(DataError, match=message):
            OBJECTIVE().task(job("quality_regression", data, fold))


def test_only_objectives_that_say_so_have_folds() -> None:
    class Plain(TrainingObjective):
        def task(self, job: Job) -> Any: ...

    assert not Plain.folds and QualityRegression.folds
    assert registry.find("my_digits:Digits", EXAMPLES).folds  # type: ignore[attr-defined]


def test_the_example_deals_out_its_digits_alike() -> None:
    objective = registry.find("my_digits:Digits", EXAMPLES)
    rows, digits = sys.modules["my_digits"].rows, sys.modules["my_digits"].DIGITS
    train, validation, test = rows(2)
    folds = [rows(2, (index, FOLDS)) for index in range(FOLDS)]
    assert sorted(np.concatenate([fold[1] for fold in folds])) == sorted([*train, *validation])
    counts = np.bincount(digits[np.concatenate([train, validation])])
    for inner, outer, held_out in folds:
        assert sorted([*inner, *outer, *held_out]) == list(range(1797))
        assert held_out.tolist() == test.tolist()
        assert np.bincount(digits[outer]) == pytest.approx(counts / FOLDS, abs=1.5)
    task = objective.task(job("my_digits:Digits", {}, (0, FOLDS), params={"width": 16, "dropout": 0.0}))  # type: ignore[attr-defined]
    assert len(task.train) + len(task.validation) == 1450
    assert torch.equal(task.validation.data[1], torch.tensor(digits[folds[0][1]]))


def test_what_a_task_predicts_is_said_or_follows_from_its_targets(data: dict[str, Any]) -> None:
    values = OBJECTIVE().task(job("quality_regression", data, None))
    assert values.predicts == "value"
    digits = registry.find("my_digits:Digits", EXAMPLES)
    classes = digits.task(job("my_digits:Digits", {}, None, params={"width": 16, "dropout": 0.0}))  # type: ignore[attr-defined]
    assert prediction_kind(classes, classes.train.data[-1]) == "class"
    assert prediction_kind(values, torch.zeros(1, dtype=torch.long)) == "value"
    assert prediction_kind(classes, torch.zeros(1)) == "value"
