"""The arrays of an .npz some rows at a time, so that a file may be larger than memory. Never pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hpo.errors import DataError

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Stored:
    """What the header of an array says; ``by_column``: in Fortran's order, which cannot be read row by row."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool


class Archive:
    """``arrays``: what is in the file by name, from the headers alone."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self._file = path, file
        members = [name for name in file.namelist() if name.endswith(".npy")]
        self.arrays: Mapping[str, Stored] = {name.removesuffix(".npy"): self._header(name) for name in members}

    def rows(self, names: Sequence[str], size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """The arrays called ``names``, ``size`` rows at a time, the last part shorter.

        Raises:
            DataError: an array is no numbers and no text, has no rows, or is not as long as the others; the file
                is damaged.
        """
        for name in names:
            self._check(name)
        lengths = {name: self.arrays[name].shape[0] for name in names}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.path}: all arrays must have the same number of rows; got {lengths}.")
        with _told(self.path):
            parts = {name: self._parts(name, size) for name in names}
            for found in zip(*parts.values(), strict=True):
                yield dict(zip(parts, found, strict=True))

    def _check(self, name: str) -> None:
        stored = self.arrays[name]
        if stored.dtype.hasobject:
            raise DataError(
                f"{self.path}: the array {name!r} holds Python objects, which would need pickle, and that runs code. "
                "Save numbers, or texts as NumPy strings."
            )
        if not stored.shape:
            raise DataError(f"{self.path}: the array {name!r} must have a row for each sample; it is a single value.")

    def _header(self, member: str) -> Stored:
        with self._file.open(member) as stream:
            return _header(stream)

    def _parts(self, name: str, size: int) -> Iterator[NDArray[Any]]:
        stored = self.arrays[name]
        count, rest = stored.shape[0], stored.shape[1:]
        with self._file.open(f"{name}.npy") as stream:
            if stored.by_column:
                whole = npy.read_array(stream, allow_pickle=False)
                yield from (whole[start : start + size] for start in range(0, count, size))
                return
            _header(stream)
            row_bytes = stored.dtype.itemsize * int(np.prod(rest, dtype=np.int64))
            for start in range(0, count, size):
                rows = min(size, count - start)
                data = bytearray(stream.read(rows * row_bytes))
                if len(data) < rows * row_bytes:
                    raise EOFError(f"{name!r} ends after row {start}")
                yield np.frombuffer(data, stored.dtype, count=rows * int(np.prod(rest))).reshape(rows, *rest)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive at ``path``.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    with _told(path):
        file = zipfile.ZipFile(path)
    with file:
        with _told(path):
            archive = Archive(path, file)
        yield archive


def _header(stream: IO[bytes]) -> Stored:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"arrays of version {version} are not known")
    shape, by_column, dtype = _HEADERS[version](stream)
    return Stored(shape, dtype, by_column and len(shape) > 1)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an .npz of NumPy: {error}") from error
