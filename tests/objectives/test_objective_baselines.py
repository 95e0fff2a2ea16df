"""What every objective must say about simpler methods; and what ours say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from small import DIGITS, SMALL, Data, find

from hpo.errors import UnknownName
from objectives import registry
from objectives.analytic.functions import FUNCTIONS
from objectives.base import Objective, TrainingObjective


@pytest.fixture(scope="module", params=SMALL)
def case(
    request: pytest.FixtureRequest, small_data: Callable[[str], Data]
) -> Iterator[tuple[Objective, Mapping[str, Any]]]:
    """An objective, and data that it can use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("objectives.quality_regression.baselines.TREES", 3)
        objective = find(request.param)
        yield objective, {**objective.default_data, **small_data(request.param)}


def test_every_built_in_objective_is_tried() -> None:
    assert set(registry.names()) - {"recorded"} == set(SMALL) - {DIGITS}


def test_there_are_two_or_more_and_all_are_judged(case: tuple[Objective, Mapping[str, Any]]) -> None:
    objective, data = case
    names = objective.baseline_names(data)
    assert len(set(names)) == len(names) >= 2
    assert tuple(objective.baselines(data, 3, "validation")) == names


@pytest.mark.parametrize("part", ["validation", "test"])
def test_figures_are_the_objectives_own_metrics(case: tuple[Objective, Mapping[str, Any]], part: str) -> None:
    objective, data = case
    known = set(objective.metrics_for(data))
    if part == "test" and isinstance(objective, TrainingObjective):
        known = {f"test_{name.removeprefix('val_')}" for name in known if name.startswith("val_")}
    all_figures = objective.baselines(data, 3, part).values()
    assert len({tuple(figures) for figures in all_figures}) == 1  # side by side in one table
    for figures in all_figures:
        assert set(figures) <= known
        assert not any(math.isinf(value) for value in figures.values())
        first = objective.default_goals[0].replace("val_", "test_" if part == "test" else "val_")
        assert math.isfinite(figures[first])


def test_chosen_ones_are_those_and_the_seed_decides(case: tuple[Objective, Mapping[str, Any]]) -> None:
    objective, data = case
    names = objective.baseline_names(data)[::-1]
    chosen = objective.baselines(data, 3, "test", names)
    assert tuple(chosen) == names
    alone = objective.baselines(data, 3, "test", names[:1])
    np.testing.assert_equal(dict(alone), {names[0]: chosen[names[0]]})
    assert objective.baselines(data, 4, "test", names[:1])[names[0]] != chosen[names[0]]
    assert objective.baselines(data, 3, "test", ()) == {}


def test_a_name_or_part_that_there_is_not_is_refused(case: tuple[Objective, Mapping[str, Any]]) -> None:
    objective, data = case
    with pytest.raises(UnknownName, match="baseline 'magic'"):
        objective.baselines(data, 3, "test", ["magic"])
    with pytest.raises(UnknownName, match="part 'train'"):
        objective.baselines(data, 3, "train")


def test_an_objective_without_baselines_has_none() -> None:
    class Bare(type(registry.find("analytic"))):  # type: ignore[misc]
        baseline_names, baselines = Objective.baseline_names, Objective.baselines

    assert Bare().baselines({}, 0, "test") == {}
    with pytest.raises(UnknownName, match="Known: none"):
        Bare().baselines({}, 0, "test", ["mean"])


def test_the_mean_of_random_points_is_that_of_the_function() -> None:
    found = registry.find("analytic").baselines({"function": "sphere"}, 1, "test")
    # Three times the mean of x² on [-5, 5], which is 25/3; one point's spread is 3^½ · 7.45.
    assert found["random_mean"]["f1"] == pytest.approx(25, abs=4 * math.sqrt(3) * 7.454 / math.sqrt(1000))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_best_of_twenty_is_no_worse_than_a_point_at_random(function: str) -> None:
    for seed in range(5):
        found = registry.find("analytic").baselines({"function": function}, seed, "test")
        best, mean = found["best_of_20"], found["random_mean"]
        assert any(best[name] < mean[name] for name in best)
        assert set(best) == {f"f{i}" for i in range(1, FUNCTIONS[function].goals + 1)}


def test_the_majority_class_reads_as_many_digits_as_there_are_of_it() -> None:
    found = find(DIGITS).baselines({}, 0, "validation")
    digits = load_digits().target
    assert found["majority"]["val_accuracy"] <= np.bincount(digits).max() / 350
    assert found["majority"]["val_loss"] == pytest.approx(math.log(10), abs=0.02)
    assert found["logistic_regression"]["val_accuracy"] > 0.9
