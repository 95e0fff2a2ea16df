"""Narrowed spaces worked out on paper, and the study file that ``hpo narrow`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import UnknownName, UserError
from hpo.printing import top_share
from hpo.spec import StudySpec
from hpo.strategies.narrowing import narrowed
from search_spaces import SearchSpace
from tests.studies import launch

CASES: list[tuple[dict[str, Any], list[Any], dict[str, Any]]] = [
    # The margin is a twentieth of the old range: 0.5 of 10.
    ({"type": "float", "low": 0.0, "high": 10.0}, [4.0, 6.0], {"low": 3.5, "high": 6.5}),
    ({"type": "float", "low": 0.0, "high": 10.0}, [0.1, 9.9], {"low": 0.0, "high": 10.0}),
    ({"type": "float", "low": 0.0, "high": 10.0}, [5.0], {"low": 4.5, "high": 5.5}),
    # A twentieth of four decades is 10 ** 0.2 = 1.585: 1e-3 / 1.585 = 6.31e-4 (below: 6.30), 1.585e-3 (above: 1.59).
    ({"type": "float", "low": 1e-5, "high": 0.1, "log": True}, [1e-3], {"low": 6.30e-4, "high": 1.59e-3, "log": True}),
    # Margin 0.05: one step outwards.
    ({"type": "float", "low": 0.0, "high": 1.0, "step": 0.25}, [0.5], {"low": 0.25, "high": 0.75, "step": 0.25}),
    # Margin 0.35: one more on both sides.
    ({"type": "int", "low": 1, "high": 8}, [3, 5], {"low": 2, "high": 6}),
    # Margin 3: from 29 to 35, on the steps 16, 32, 48.
    ({"type": "int", "low": 0, "high": 64, "step": 16}, [32], {"low": 16, "high": 48, "step": 16}),
    ({"type": "int", "low": 1, "high": 8}, [8], {"low": 7, "high": 8}),
    ({"type": "categorical", "choices": ["a", "b", "c"]}, ["c", "a", "c"], {"choices": ["a", "c"]}),
    ({"type": "categorical", "choices": [1, True, 0]}, [True], {"choices": [True]}),
]


@pytest.mark.parametrize(("old", "values", "new"), CASES)
def test_a_parameter_keeps_where_the_best_values_lie(old: dict[str, Any], values: list[Any], new: Any) -> None:
    found = narrowed(SearchSpace.from_dict({"p": old}), [{"p": value} for value in values])
    assert found.to_dict()["p"] == {"type": old["type"], **new}
    for value in values:
        found.check({"p": value})


def test_conditions_stay_true() -> None:
    space = SearchSpace.from_dict(
        {
            "optimizer": {"type": "categorical", "choices": ["adamw", "sgd", "rmsprop"]},
            "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": ["sgd", "rmsprop"]}},
            "nesterov": {"type": "categorical", "choices": [True, False], "when": {"optimizer": "rmsprop"}},
        }
    )
    found = narrowed(space, [{"optimizer": "sgd", "momentum": 0.5}, {"optimizer": "adamw"}])
    assert found.to_dict() == {
        "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "momentum": {"type": "float", "low": 0.45, "high": 0.55, "when": {"optimizer": ["sgd"]}},
    }
    only_adamw = narrowed(space, [{"optimizer": "adamw"}])
    assert list(only_adamw) == ["optimizer"]


def test_the_file_is_the_stored_one_with_a_narrowed_space_and_can_be_launched(tmp_path: Path, sqlite_url: str) -> None:
    earlier = launch(tmp_path, sqlite_url).snapshot.trials
    best = sorted(earlier, key=lambda t: t.values or ())[:2]  # a quarter of eight
    text = service.narrow(sqlite_url, "branin", 0.25)
    path = tmp_path / "finer.yaml"
    path.write_text(text)
    spec = StudySpec.parse(text)
    old = StudySpec.load(tmp_path / "branin.yaml")[0]
    assert spec.name == "branin-finer"
    assert spec.enqueue == [t.params for t in best]
    changed = {"name", "search_space", "enqueue"}
    assert spec.model_dump(exclude=changed) == old.model_dump(exclude=changed)
    plan = service.check(path)
    for trial in best:
        plan.space.check(trial.params)
    found = service.launch(path, storage=sqlite_url, runs=tmp_path / "runs", skip_preflight=True)
    assert [t.params for t in found.snapshot.trials[:2]] == spec.enqueue
    # And once more: a narrowed study can be narrowed.
    assert StudySpec.parse(service.narrow(sqlite_url, "branin-finer", 3)).name == "branin-finer-finer"


def test_comments_stay_and_the_warm_start_goes(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    path = tmp_path / "second.yaml"
    path.write_text(
        "name: second\nobjective: analytic  # of the guide\ndata: {function: branin}\n"
        "warm_start: {study: branin}\nbudget: {trials: 3, epochs: 1}\n"
    )
    service.launch(path, storage=sqlite_url, runs=tmp_path / "runs", skip_preflight=True)
    text = service.narrow(sqlite_url, "second", 1)
    assert "# of the guide" in text and "warm_start" not in text


def test_a_study_without_a_completed_feasible_trial_cannot_be_narrowed(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, constraints=["f1 <= -1"])
    with pytest.raises(UserError, match="no completed, feasible trial"):
        service.narrow(sqlite_url, "branin")
    with pytest.raises(UnknownName):
        service.narrow(sqlite_url, "brannin")


@pytest.mark.parametrize(("text", "share"), [("25%", 0.25), ("100%", 1.0), ("10", 10), (" 0.5% ", 0.005)])
def test_top_is_a_share_or_a_number(text: str, share: float) -> None:
    assert top_share(text) == share and type(top_share(text)) is type(share)


@pytest.mark.parametrize("text", ["0%", "101%", "-5%", "nan%", "0", "2.5", "a quarter", "", "5%%"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--top"):
        top_share(text)
