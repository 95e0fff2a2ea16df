"""What goes wrong with somebody's own objective is one message that names the class."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.errors import UserError
from objectives import registry

WHOLE = """
from hpo.trial import Metric, Outcome, StopKind, StopReason
from objectives.base import Objective
from search_spaces import Float, SearchSpace

class Mine(Objective):
    summary = "mine"
    metrics = {"loss": Metric(help="a loss")}
    default_goals = ("loss",)

    @property
    def space(self):
        return SearchSpace({"x": Float(0.0, 1.0)})

    def run(self, job, context):
        return Outcome(StopReason(StopKind.FINISHED, "done"))
"""
NUMBERS = itertools.count()


def found(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = f"somebodys_{next(NUMBERS)}"
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    return registry.find(f"{module}:Mine", str(folder))


def test_a_whole_objective_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(tmp_path, WHOLE, monkeypatch).summary == "mine"


@pytest.mark.parametrize("name", registry.names())
def test_every_built_in_objective_is_whole(name: str) -> None:
    assert registry.find(name).summary


SPACE = "return SearchSpace"
MISTAKES = [
    ("def run(", "def walk(", "the class Mine does not define run"),
    ("def space(", "def room(", "the class Mine does not define space"),
    ('summary = "mine"', "pass", "the class Mine does not define summary"),
    ("metrics = {", "numbers = {", "the class Mine does not define metrics"),
    ("default_goals =", "goals =", "the class Mine does not define default_goals"),
    ('Metric(help="a loss")', '"a loss"', "Mine must define metrics as {name: Metric"),
    ('("loss",)', '("los",)', "does not report. Unknown metric 'los'. Known: loss. Did you mean 'loss'"),
    ('("loss",)', '("loss")', "default_goals as a tuple of its metrics; got 'loss'"),
    ('("loss",)', "()", r"default_goals as a tuple of its metrics; got \(\)"),
    (SPACE, "return dict", "Mine must give its space as a SearchSpace; got dict"),
    (SPACE, "1 / 0\n        return SearchSpace", r"Mine.space failed: ZeroDivisionError"),
    (SPACE, "self.room\n        return SearchSpace", r"Mine.space failed: AttributeError\(.*no attribute 'room'"),
    ("    def run(", "    def __init__(self, n):\n        pass\n\n    def run(", r"making a Mine failed: TypeError"),
    ("    def run(", "    def __init__(self):\n        raise OSError('no')\n\n    def run(", "failed: OSError"),
    ("class Mine", "import sys\nsys.exit(3)\n\nclass Mine", r"importing somebodys_\d+ failed: SystemExit\(3\)"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_what_is_missing_is_named_with_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    assert old in WHOLE
    with pytest.raises(UserError, match=message):
        found(tmp_path, WHOLE.replace(old, new, 1), monkeypatch)


@pytest.mark.parametrize("error", [SystemExit(1), ImportError("broken"), ModuleNotFoundError("No module named 'x'")])
def test_an_entry_point_that_cannot_be_loaded_is_one_message(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def load() -> object:
        raise error

    point = SimpleNamespace(name="theirs", value="their.module:Thing", load=load)
    monkeypatch.setattr(registry, "_installed", lambda: (point,))
    with pytest.raises(UserError, match=r"'theirs': importing their.module:Thing failed: "):
        registry.find("theirs")
