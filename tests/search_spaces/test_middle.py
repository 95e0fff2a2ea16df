"""A point in the middle: legal, geometric on a log scale, and only what its conditions allow."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces import Choice, Float, Int, SearchSpace
from search_spaces.middle import complete, middle


@pytest.mark.parametrize(
    ("parameter", "wanted"),
    [
        (Float(0.0, 1.0), 0.5),
        (Float(-3.0, 1.0), -1.0),
        (Float(1e-4, 1e-2, log=True), 1e-3),
        (Float(0.0, 1.0, step=0.25), 0.5),
        (Float(0.0, 0.3, step=0.1), 0.1),
        (Int(1, 9), 5),
        (Int(1, 4), 2),
        (Int(0, 100, step=30), 30),
        (Int(16, 256, log=True), 64),
        (Choice(("a", "b", "c")), "b"),
        (Choice((32, 64)), 32),
    ],
)
def test_the_middle_of_each_kind_of_parameter(parameter: Any, wanted: Any) -> None:
    assert middle(parameter) == pytest.approx(wanted) if isinstance(wanted, float) else middle(parameter) == wanted
    assert parameter.contains(middle(parameter))


def test_a_range_beyond_the_square_of_what_a_float_holds_has_a_middle() -> None:
    assert middle(Float(1e-300, 1e300, log=True)) == pytest.approx(1.0)


SPACE = SearchSpace(
    {
        "optimizer": Choice(("adamw", "sgd", "nadam")),
        "momentum": Float(0.0, 0.8, when={"optimizer": "sgd"}),
        "beta1": Float(0.5, 0.9, when={"optimizer": ["adamw", "nadam"]}),
        "lr": Float(1e-4, 1e-2, log=True),
    }
)


def test_a_condition_decides_what_the_point_has() -> None:
    point = complete(SPACE)
    SPACE.check(point)
    assert point == {"optimizer": "sgd", "momentum": 0.4, "lr": pytest.approx(1e-3)}


def test_given_values_come_first_and_those_outside_the_space_not_at_all() -> None:
    point = complete(SPACE, {"optimizer": "adamw"}, {"lr": 5.0, "beta1": 0.6, "momentum": 0.1, "width": 3})
    SPACE.check(point)
    assert point == {"optimizer": "adamw", "beta1": 0.6, "lr": pytest.approx(1e-3)}
