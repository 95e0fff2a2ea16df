"""Rows of an .npz some at a time are those that NumPy reads whole; what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.errors import DataError
from objectives import npz

ARRAYS: dict[str, Any] = {
    "floats": np.arange(21.0).reshape(7, 3),
    "by_column": np.asfortranarray(np.arange(28).reshape(7, 4)),
    "big_endian": np.arange(7, dtype=">i4"),
    "texts": np.array([f"text {i}" for i in range(7)]),
    "none": np.zeros((7, 0)),
    "booleans": np.arange(7) % 2 == 0,
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_rows_are_those_of_numpy(save: Callable[..., None], size: int, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    with npz.opened(tmp_path / "a.npz") as archive:
        assert set(archive.arrays) == set(ARRAYS)
        parts = list(archive.rows(list(ARRAYS), size))
    assert [len(part["floats"]) for part in parts] == [min(size, 7 - start) for start in range(0, 7, size)]
    for name, expected in ARRAYS.items():
        assert {part[name].dtype for part in parts} == {expected.dtype}
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), expected)


def read(path: Path, *names: str) -> None:
    with npz.opened(path) as archive:
        list(archive.rows(names, 2))


def test_what_is_no_rows_of_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, objects=np.array([{}, None]), one=np.float32(1), short=np.zeros(2), long=np.zeros(3))
    for names, said in (
        (["objects"], "'objects' holds Python objects, which would need pickle"),
        (["one"], "'one' must have a row for each sample"),
        (["short", "long"], "same number of rows; got {'short': 2, 'long': 3}"),
    ):
        with pytest.raises(DataError, match=said):
            read(path, *names)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="No such file"):
        read(path)
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="cannot be read as an .npz"):
        read(path)
    np.savez(path, x=np.arange(1000.0))
    whole = path.read_bytes()
    path.write_bytes(whole[:4000] + b"!" + whole[4001:])
    with pytest.raises(DataError, match="Bad CRC-32"):
        read(path, "x")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as an .npz"):
        read(path, "x")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00 \x00{'descr': '<f8', 'fortran")
    with pytest.raises(DataError, match="cannot be read as an .npz"):
        read(path, "x")
