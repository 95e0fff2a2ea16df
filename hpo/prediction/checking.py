"""Rows held against the manifest before a model runs: names, shapes, numbers, types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataError
from hpo.export.manifest import TensorFacts
from hpo.export.shapes import BATCH
from objectives.offenders import offenders
from objectives.prediction import Rows

Array = NDArray[Any]


def checked(rows: Rows, inputs: Sequence[TensorFacts]) -> Rows:
    """``rows`` with the dtypes of the manifest, where they are what it asks for.

    Numbers change their type where none is lost: whole ones into a type that holds each of them, floating
    ones into a narrower one that they do not overflow.

    Raises:
        DataError: an input is missing; a shape or type is another; a number is NaN, infinite or too large.
    """
    lengths: dict[str, int] = {BATCH: len(rows.ids)}
    found = {}
    for tensor in inputs:
        if tensor.name not in rows.inputs:
            names = ", ".join(map(repr, rows.inputs))
            raise DataError(f"The model's input {tensor.name!r} is missing; there are {names or 'none'}.")
        value = rows.inputs[tensor.name]
        _check_shape(tensor, value, lengths)
        found[tensor.name] = _as_asked(tensor, value, rows.ids)
    return replace(rows, inputs=found)


def _check_shape(tensor: TensorFacts, value: Array, lengths: dict[str, int]) -> None:
    """``lengths``: what the open axes are in these rows, by name; those that ``tensor`` is first to have are added."""
    wanted = ", ".join(map(str, tensor.shape))
    if value.ndim != len(tensor.shape):
        raise DataError(f"The input {tensor.name!r} must have the shape ({wanted}); got {value.shape}.")
    for axis, size in enumerate(tensor.shape):
        length = lengths.setdefault(size, value.shape[axis]) if isinstance(size, str) else size
        if value.shape[axis] != length:
            named = f" ({size} is {length} here)" if isinstance(size, str) else ""
            raise DataError(f"The input {tensor.name!r} must have the shape ({wanted}){named}; got {value.shape}.")


def _as_asked(tensor: TensorFacts, value: Array, ids: Sequence[str]) -> Array:
    wanted = np.dtype(tensor.dtype)
    if value.dtype.kind == "f":
        _refuse(tensor, ~np.isfinite(value), value, ids, "be finite")
    if value.dtype == wanted:
        return value
    if value.dtype.kind == wanted.kind == "f":
        with np.errstate(over="ignore"):
            cast = value.astype(wanted)
        _refuse(tensor, ~np.isfinite(cast), value, ids, f"fit into {wanted}")
        return cast
    if value.dtype.kind in "biu" and wanted.kind in "iuf":
        low, high = _whole_numbers(wanted)
        outside = (value < low) | (value > high)
        _refuse(tensor, outside, value, ids, f"be from {low} to {high}, to become {wanted} without loss")
        return value.astype(wanted)
    raise DataError(
        f"The input {tensor.name!r} must be {wanted}; got {value.dtype}, which cannot become that without loss. "
        "Convert it yourself, if that is what you mean."
    )


def _whole_numbers(dtype: np.dtype[Any]) -> tuple[int, int]:
    """From and to which whole number a type holds every one."""
    if dtype.kind == "f":
        most = 2 ** (np.finfo(dtype).nmant + 1)
        return -most, most
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _refuse(tensor: TensorFacts, bad: Array, values: Array, ids: Sequence[str], rule: str) -> None:
    """Raise if any place of ``bad``, shaped as ``values``, is true."""
    if not bad.any():
        return

    def tell(row: int) -> str:
        place = np.argwhere(bad[row])[0].tolist()
        value = values[(row, *place)]
        return f"row {ids[row]}{f' at {place}' if place else ''} is {value}"

    rows = np.asarray(bad.reshape(len(bad), -1).any(1))
    broken = f"{int(bad.sum())} of {bad.size} values, in {int(rows.sum())} of {len(ids)} rows"
    raise DataError(f"The input {tensor.name!r} must {rule}; {broken}, break that: {offenders(rows, tell)}.")
