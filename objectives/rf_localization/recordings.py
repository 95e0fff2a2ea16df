"""IQ recordings: ``.npy`` files in a folder or in S3, looked at by their heads and read one by one. No torch."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from hpo import places
from hpo.errors import DataError, UserError
from objectives.rf_localization.labels import refuse

DTYPES = (np.dtype(np.complex64), np.dtype(np.complex128))
_HEAD_BYTES = 4_096  # the header and some 500 samples: no two recordings have the same noise
_READERS = 16  # at once: S3 answers slowly, but many


@dataclass(frozen=True)
class Head:
    """What the beginning of a recording says; ``fault`` is what is wrong with it, or empty."""

    samples: int
    digest: bytes
    fault: str = ""


def place_of(text: str) -> places.Place:
    """A folder, or a bucket of S3.

    Raises:
        DataError: the address is none.
    """
    try:
        return places.parse(text) if "://" in text else places.Folder(Path(text))
    except UserError as error:
        raise DataError(f"data: recordings: {error}; got {text!r}.") from error


def heads(place: places.Place, names: Sequence[str], least: int) -> list[Head]:
    """The heads of all recordings; samples themselves are not read.

    Raises:
        DataError: one is missing, cannot be read, is no complex array of one axis, cut off, shorter
            than ``least`` samples, or not as long as most; with their count and the first five.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        starts = list(pool.map(functools.partial(_start, place), names))
    # Outside the pool: NumPy parses a header with ast, which Python 3.11 cannot do in two threads at once
    # (github.com/python/cpython/issues/106905).
    found = [start if isinstance(start, Head) else _head(*start) for start in starts]
    faults = [head.fault for head in found]
    told = [f"{name} ({fault})" for name, fault in zip(names, faults, strict=True)]
    rule = "every recording must be a whole .npy of complex64 or complex128, shape (n_samples,)"
    refuse(str(place), np.array([bool(fault) for fault in faults]), rule, told)
    lengths = np.array([head.samples for head in found])
    told = [f"{name} ({samples} samples)" for name, samples in zip(names, lengths.tolist(), strict=True)]
    refuse(str(place), lengths < least, f"a recording must have at least {least} samples", told)
    values, counts = np.unique(lengths, return_counts=True)
    usual = values[counts.argmax()]
    refuse(str(place), lengths != usual, f"all recordings must be equally long (most have {usual} samples)", told)
    return found


def _start(place: places.Place, name: str) -> tuple[bytes, int] | Head:
    """A file's first bytes and its size in bytes; a head with the fault if it cannot be read."""
    try:
        with place.open(name) as stream:
            return stream.read(_HEAD_BYTES), stream.seek(0, io.SEEK_END)
    except OSError as error:
        return Head(0, b"", error.strerror or str(error).splitlines()[0])


def _head(start: bytes, size: int) -> Head:
    try:
        shape, dtype, offset = _header(start)
    except ValueError as error:
        return Head(0, b"", "empty" if not start else str(error).splitlines()[0])
    if dtype not in DTYPES or len(shape) != 1:
        return Head(0, b"", f"{dtype}, shape {shape}")
    wanted = offset + shape[0] * dtype.itemsize
    if size != wanted:
        return Head(0, b"", f"{size} bytes instead of {wanted}")
    return Head(shape[0], hashlib.sha256(start + size.to_bytes(8, "big")).digest())


def _header(start: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    stream = io.BytesIO(start)
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype, stream.tell()


def refuse_not_finite(place: places.Place, names: Sequence[str]) -> None:
    """Read every recording, one after the other.

    Raises:
        DataError: some hold NaN or infinity, with their count and the first five; or one cannot be read.
    """
    wrong = [int((~np.isfinite(_samples(place, name))).sum()) for name in names]
    told = [f"{name} ({count} samples)" for name, count in zip(names, wrong, strict=True)]
    refuse(str(place), np.array(wrong) > 0, "samples of a recording must be finite, not NaN or infinity", told)


def read(place: places.Place, name: str) -> np.ndarray:
    """One recording, (n_samples,) complex64.

    Raises:
        DataError: it cannot be read, or holds NaN or infinity.
    """
    iq = _samples(place, name)
    bad = np.flatnonzero(~np.isfinite(iq))
    if len(bad):
        raise DataError(
            f"{place}: {name} holds NaN or infinity in {len(bad)} of {len(iq)} samples, first at {bad[0]}. "
            "Mend it, or take its row out of the labels."
        )
    return np.asarray(iq, dtype=np.complex64)


def _samples(place: places.Place, name: str) -> np.ndarray:
    try:
        with place.open(name) as stream:
            return np.asarray(np.load(io.BytesIO(stream.read()), allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: {name} cannot be read: {error}") from error
