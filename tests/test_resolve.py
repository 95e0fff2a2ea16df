"""What a study file may not ask of the shared trainer, told before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import StudyFileError
from hpo.resolve import resolve
from hpo.spec import StudySpec
from hpo.training import extras
from tests.test_bad_input import nothing_written, refuses

MODULE = """
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace

class Objective(TrainingObjective):
    summary = "trains"
    default_trainer = {"warmup_epochs": 3}
    space = SearchSpace({"lr": Float(1e-4, 1e-2)})

    def task(self, job):
        raise NotImplementedError
"""
EPOCHS = {"type": "float", "low": 0.0, "high": 5.0}
THREE = {"warmup_epochs": 3}
STEPS = {"type": "int", "low": 0, "high": 50}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "warm_up_study.py").write_text(MODULE)
    return tmp_path


def study(trainer: dict[str, Any], space: dict[str, Any] | None = None, **fields: Any) -> str:
    spec = {
        "name": "s",
        "objective": "warm_up_study:Objective",
        "budget": {"trials": 1, "epochs": 5},
        "trainer": trainer,
        **({"search_space": space} if space else {}),
        **fields,
    }
    return json.dumps(spec)


REFUSED: list[tuple[str, str, str]] = [
    ("its own", study({"warmup_epochs": 5}), r"trainer: warmup_epochs must be below budget.epochs, which is 5; got 5"),
    ("retrain", study(THREE, retrain={"epochs": 2}), "trainer: .*below retrain.epochs, which is 2; got 3.*share"),
    ("folds", study(THREE, validation={"epochs": 1}), "trainer: .*below validation.epochs, which is 1; got 3"),
    ("range", study({}, {"warmup_epochs": EPOCHS}), "search_space: warmup_epochs must be below .* is 5; got 5"),
    (
        "choices",
        study({}, {"warmup_epochs": {"type": "categorical", "choices": [1, 7, 2]}}),
        "search_space: warmup_epochs must be below .* is 5; got 7",
    ),
    ("two", study({}, {"warmup_epochs": EPOCHS, "warmup_steps": STEPS}), "one warm-up; keep one of warmup_epochs, "),
    ("both ways", study({"warmup_epochs": 1, "warmup_share": 0.1}), "a warm-up is given once, by epochs, steps"),
    (
        "schedule",
        study({"schedule": "cosin"}),
        "trainer.schedule: should be 'constant', .* 'one_cycle'; got 'cosin'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_wrong_warm_up_or_schedule_is_one_message_and_nothing_is_written(
    folder: Path, text: str, message: str
) -> None:
    import re

    (folder / "study.yaml").write_text(text)
    error = refuses(folder, "check", "study.yaml")
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert nothing_written(folder, "study.yaml", "warm_up_study.py")


@pytest.mark.parametrize(
    "text",
    [
        study({}),
        study({"warmup_epochs": None}, budget={"trials": 1, "epochs": 1}),
        study({"warmup_share": 0.5}, budget={"trials": 1, "epochs": 1}),
        study({}, {"warmup_steps": STEPS}, budget={"trials": 1, "epochs": 1}),
        study({}, {"warmup_epochs": {**EPOCHS, "high": 4.9}}),
    ],
)
def test_a_warm_up_that_is_short_enough_or_not_in_epochs_is_fine(folder: Path, text: str) -> None:
    resolve(StudySpec.parse(text), import_from=str(folder))


def test_a_condition_leaves_the_trainers_own_warm_up_in_force(folder: Path) -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
        "warmup_steps": {**STEPS, "when": {"optimizer": "sgd"}},
    }
    with pytest.raises(StudyFileError, match="below budget.epochs, which is 2; got 3"):
        resolve(StudySpec.parse(study(THREE, space, budget={"trials": 1, "epochs": 2})), import_from=str(folder))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (study({"optimizer": "adamw8bit"}), "trainer"),
        (study({}, {"optimizer": {"type": "categorical", "choices": ["adamw", "adamw8bit"]}}), "search_space"),
    ],
)
def test_an_optimiser_whose_package_is_absent_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, where: str
) -> None:
    resolve(StudySpec.parse(text), import_from=str(folder))
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    (folder / "study.yaml").write_text(text)
    error = refuses(folder, "check", "study.yaml")
    assert f"{where}: optimizer adamw8bit needs the package bitsandbytes" in error
    assert "pip install 'hpo[8bit]'" in error


@pytest.mark.parametrize(
    ("fields", "warm_up"),
    [
        ({}, (3, None)),
        ({"budget": {"trials": 1, "epochs": 3}}, (None, 0.1)),
        ({"retrain": {"epochs": 2}}, (None, 0.1)),
        ({"validation": {"epochs": 1}}, (None, 0.1)),
    ],
)
def test_an_objectives_own_warm_up_gives_way_to_a_short_training(
    folder: Path, fields: dict[str, Any], warm_up: tuple[float | None, float | None]
) -> None:
    plan = resolve(StudySpec.parse(study({}, **fields)), "study.yaml", str(folder))
    assert (plan.trainer.warmup_epochs, plan.trainer.warmup_share) == warm_up


def test_no_warm_up_can_be_asked_for_in_a_short_training_too(folder: Path) -> None:
    text = study({"warmup_epochs": None}, budget={"trials": 1, "epochs": 2})
    plan = resolve(StudySpec.parse(text), "study.yaml", str(folder))
    assert (plan.trainer.warmup_epochs, plan.trainer.warmup_share) == (None, None)
