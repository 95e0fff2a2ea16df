"""What the source of a function says of itself, and the ranges that are guessed from it: all by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from hpo.adoption.guessing import complete, guess
from hpo.adoption.source import UNKNOWN, read
from hpo.errors import UserError
from objectives import registry
from objectives.function import FunctionObjective
from search_spaces import Choice, Float, Int

NUMBERS = itertools.count()


def objective(folder: Path, code: str) -> FunctionObjective:
    module = f"guessed_{next(NUMBERS)}"
    (folder / f"{module}.py").write_text(code)
    found = registry.find(f"{module}:train", str(folder))
    assert isinstance(found, FunctionObjective)
    return found


SCRIPT = """
import argparse
DEFAULTS = {"width": 64, "unused": 1}
EPOCHS = 12

def build(config):
    return config["width"], config.get("dropout", 0.1), config["other"]

def train(config, log):
    build(config)
    for epoch in range(1, EPOCHS + 1):
        config["seen"] = epoch
        log(epoch, train_loss=config["lr"], val_acc=0.5)
    log({"val_loss": 0.1})
    return {"size_mb": 3}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--batch-size", default=32)
"""


def test_a_script_is_read_as_a_person_would(tmp_path: Path) -> None:
    found = read(objective(tmp_path, SCRIPT).function)
    assert found.params == {"width": 64, "dropout": 0.1, "other": UNKNOWN, "lr": 0.05}
    assert found.reported == ("train_loss", "val_acc", "val_loss")
    assert found.returned == ("size_mb",)
    assert found.epochs == 12


@pytest.mark.parametrize(
    ("loop", "epochs"),
    [
        ("range(7)", 7),
        ("range(params['epochs'])", 9),
        ("range(3, 8)", 5),
        ("range(params.get('n'))", None),
        ("range(len([1]))", None),
    ],
)
def test_the_epochs_are_those_of_the_first_loop(loop: str, epochs: int | None, tmp_path: Path) -> None:
    code = (
        f"def train(params, report):\n    for i in {loop}:\n        report(i, loss=params['lr'])\n\n"
        "if __name__ == '__main__':\n    train({'lr': 0.1, 'epochs': 9}, print)\n"
    )
    assert read(objective(tmp_path, code).function).epochs == epochs


def test_what_the_file_itself_calls_it_with_are_its_parameters(tmp_path: Path) -> None:
    code = (
        "def train(params, report):\n    report(loss=sum(params.values()))\n\n"
        "if __name__ == '__main__':\n    train(dict(lr=0.1, layers=2), print)\n"
    )
    assert read(objective(tmp_path, code).function).params == {"lr": 0.1, "layers": 2}


@pytest.mark.parametrize(
    ("name", "default", "expected"),
    [
        ("lr", 0.05, Float(0.005, 0.5, log=True)),
        ("lr", UNKNOWN, Float(1e-5, 1e-1, log=True)),
        ("other", UNKNOWN, Float(0.0, 1.0)),
        ("width", 64, Int(16, 256, log=True)),
        ("layers", 2, Int(1, 8, log=True)),
        ("dropout", 0.1, Float(0.0, 0.55)),
        ("momentum", 0.9, Float(0.0, 0.95)),
        ("weight_decay", 0.0, Float(0.0, 1.0)),
        ("nesterov", True, Choice((False, True))),
        ("optimizer", "adamw", Choice(("adamw",))),
        ("num_epochs", 20, Choice((20,))),
        ("shift", -2, Int(-2, 1)),
        ("weights", [1, 2], Choice(("[1, 2]",))),
    ],
)
def test_a_range_is_guessed_around_a_default(name: str, default: Any, expected: Any) -> None:
    assert guess(name, default) == expected


@pytest.mark.parametrize(
    ("reported", "goal"),
    [
        ("train_loss=1, val_loss=1", ("val_loss", "minimize")),
        ("loss=1, accuracy=1", ("loss", "minimize")),
        ("loss=1, val_accuracy=1", ("val_accuracy", "maximize")),
        ("f1=1", ("f1", "maximize")),
        ("val_mape=1", ("val_mape", "minimize")),
        ("val_brier_score=1", ("val_brier_score", "minimize")),
        ("eval_loss_map=1", ("eval_loss_map", "minimize")),
    ],
)
def test_the_goal_is_the_first_that_is_measured_on_validation_data(
    reported: str, goal: tuple[str, str], tmp_path: Path
) -> None:
    code = f"def train(params, report):\n    report(1, {reported}, x=params['lr'])\n"
    found = complete(objective(tmp_path, code)).objective
    assert [(name, str(found.metrics[name].direction)) for name in found.default_goals] == [goal]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("report(1, loss=1)", "reads no parameter such as"),
        ("report(1, **params)", "calls report with no name that can be read"),
    ],
)
def test_where_there_is_nothing_to_guess_from_it_says_so(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        complete(objective(tmp_path, f"def train(params, report):\n    {body}\n"))
