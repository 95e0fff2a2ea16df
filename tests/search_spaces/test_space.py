"""What a search space refuses, and how many values a parameter has."""

from __future__ import annotations

import pytest

from hpo.errors import SpaceError
from search_spaces import Choice, Float, Int, SearchSpace


@pytest.mark.parametrize(
    ("parameter", "count"),
    [
        (Int(1, 1_000_000_000), 1_000_000_000),
        (Int(0, 10, step=3), 4),  # 0, 3, 6, 9
        (Float(0.0, 1.0, step=0.1), 11),
        (Float(0.0, 1.0, step=0.3), 4),  # 0, 0.3, 0.6, 0.9
        (Float(0.0, 1.0), None),
        (Choice(("a", None, 3)), 3),
    ],
)
def test_a_parameter_counts_its_values_without_listing_them(parameter: Int | Float | Choice, count: int | None) -> None:
    assert parameter.count() == count
    if count is not None and count < 100:
        assert len(parameter.grid() or ()) == count


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 201, "at most 200 characters; got 201"),
        ("a\nb", r"no control characters; got 'a\\nb'"),
        ("a\x00", r"no control characters; got 'a\\x00'"),
        ("a\x1b[2J", "no control characters"),
        ("a\udc80", "no control characters"),
        ("", "name is text"),
    ],
)
def test_a_name_that_no_table_could_show_is_refused(name: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace({name: Float(0.0, 1.0)})


def test_a_long_name_in_any_script_is_taken() -> None:
    names = ["x" * 200, "Lernrate (größte)", "学習率"]
    assert list(SearchSpace({name: Float(0.0, 1.0) for name in names})) == names


def test_a_choice_too_long_for_a_column_is_refused() -> None:
    Choice(("a" * 500, "b"))
    with pytest.raises(SpaceError, match="at most 500 characters; got 501, beginning 'aaaa"):
        Choice(("a" * 501, "b"))
