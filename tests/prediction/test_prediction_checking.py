"""Inputs held against the manifest: which casts are made, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpo.errors import DataError
from hpo.export.manifest import TensorFacts
from hpo.prediction.checking import checked
from objectives.prediction import Rows


def one(value: NDArray[Any], dtype: str = "float32", shape: tuple[int | str, ...] = ("batch", 3)) -> NDArray[Any]:
    rows = Rows([str(i) for i in range(len(value))], {"x": value})
    return checked(rows, [TensorFacts(name="x", dtype=dtype, shape=shape)]).inputs["x"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float64", "float32"), (">f4", "float32"), ("float16", "float32"), ("int32", "int64"), ("int64", "int32"),
        ("uint8", "float32"), ("bool", "int64"), ("int64", "float32"), ("uint64", "int64"), ("int64", "uint8"),
    ],
)  # fmt: skip
def test_numbers_that_the_wanted_type_holds_are_cast(given: str, wanted: str) -> None:
    found = one(np.array([[0, 1, 1]], dtype=given), wanted)
    assert found.dtype == wanted and found.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("value", "wanted", "said"),
    [
        (np.array([[1, 2, 2**31]]), "int32", r"from -2147483648 to 2147483647.* row 0 at \[2\] is 2147483648"),
        (
            np.array([[1, -1, 2]]),
            "uint8",
            r"be from 0 to 255, to become uint8 without loss; 1 of 3 values, in 1 of 1 rows,",
        ),
        (np.array([[1, 2, 2**24 + 1]]), "float32", r"to 16777216, to become float32 without loss"),
        (np.array([[1, 2, 2**63]], np.uint64), "int64", "to become int64 without loss"),
        (np.array([[1.0, 2.0, 1e39]]), "float32", r"must fit into float32; .* row 0 at \[2\] is 1e\+39"),
        (np.array([[1.5, 2.0, 3.0]]), "int64", "must be int64; got float64, which cannot become that without loss"),
        (np.array([["1", "2", "3"]]), "float32", "must be float32; got <U1"),
        (np.array([[0, 1, 2]]), "bool", "must be bool; got int64"),
    ],
)
def test_what_would_lose_something_is_refused(value: NDArray[Any], wanted: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        one(value, wanted)


def test_what_is_not_finite_is_refused_with_rows_columns_and_counts() -> None:
    value = np.zeros((4, 3))
    value[1, 2], value[3, 0], value[3, 1] = np.nan, np.inf, -np.inf
    said = (
        r"'x' must be finite; 3 of 12 values, in 2 of 4 rows, break that: row 1 at \[2\] is nan, row 3 at \[0\] is inf"
    )
    with pytest.raises(DataError, match=said):
        one(value)


@pytest.mark.parametrize("shape", [(2, 4), (2,), (2, 3, 1)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"'x' must have the shape \(batch, 3\); got "):
        one(np.zeros(shape))


def test_an_open_length_is_the_same_wherever_it_has_its_name() -> None:
    facts = [TensorFacts(name=name, dtype="int64", shape=("batch", "sequence")) for name in ("a", "b")]
    both = {"a": np.zeros((2, 5), int), "b": np.zeros((2, 5), int)}
    assert checked(Rows(["0", "1"], both), facts).inputs["b"].shape == (2, 5)
    with pytest.raises(
        DataError, match=r"'b' must have the shape \(batch, sequence\) \(sequence is 5 here\); got \(2, 4\)"
    ):
        checked(Rows(["0", "1"], both | {"b": np.zeros((2, 4), int)}), facts)
    with pytest.raises(DataError, match=r"\(batch is 2 here\)"):
        checked(Rows(["0", "1"], both | {"b": np.zeros((3, 5), int)}), facts)
    with pytest.raises(DataError, match="input 'b' is missing; there are 'a'"):
        checked(Rows(["0", "1"], {"a": both["a"]}), facts)
