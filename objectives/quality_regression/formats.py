"""Reading the columns of a Parquet, npz or CSV file, and refusing rows with their count and names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from objectives import npz
from objectives.offenders import listed, offenders

Columns = dict[str, Any]  # npz and CSV: numpy arrays; Parquet: pyarrow arrays
COLUMNS = ("logo_id", "features", "settings", "ssim", "logo_type")
UNKNOWN = "unknown"  # what computed the features


def read(path: Path) -> tuple[Columns, str]:
    """The columns by name, and the kind of features that the file says it holds.

    Raises:
        DataError: neither Parquet nor npz, or damaged.
    """
    if path.suffix.lower() == ".csv":
        raise DataError(f"{path}: records to learn from are a Parquet or npz file; a CSV is for `hpo predict` alone.")
    with _explained(path):
        return _npz(path) if path.suffix.lower() == ".npz" else _parquet(path)


def kind_of(path: Path) -> str:
    """The kind of features that a file says it holds; a CSV says nothing.

    Raises:
        DataError: as ``read``.
    """
    import pyarrow.parquet as pq

    with _explained(path):
        if path.suffix.lower() == ".csv":
            return UNKNOWN
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return feature_kind(str(file["hpo"]) if "hpo" in file else None)
        return feature_kind((pq.read_schema(path).metadata or {}).get(b"hpo"))


def parts(path: Path, lengths: Mapping[str, int], size: int) -> Iterator[Columns]:
    """The columns of a file that may be larger than memory, at most ``size`` rows at a time.

    ``lengths``: how many numbers each column has in a row, 0 for a text. In a CSV, which holds no lists, the numbers
    stand in columns of their own: ``settings_0`` to ``settings_7``. A text that is not there is left out.

    Raises:
        DataError: as ``read``, or a column of numbers is missing.
    """
    readers = {".csv": _csv_parts, ".npz": _npz_parts}
    with _explained(path):
        yield from readers.get(path.suffix.lower(), _parquet_parts)(path, lengths, size)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pyarrow, zipfile and numpy each have a dozen ways to say it
        kind = {".npz": "an npz", ".csv": "a CSV"}.get(path.suffix.lower(), "a Parquet")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as {kind} file: {reason}") from error


def _parquet_parts(path: Path, lengths: Mapping[str, int], size: int) -> Iterator[Columns]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = _there(path, lengths, file.schema_arrow.names)
        for batch in file.iter_batches(size, columns=names):
            yield {name: batch.column(name) for name in names}


def _npz_parts(path: Path, lengths: Mapping[str, int], size: int) -> Iterator[Columns]:
    with npz.opened(path) as archive:
        yield from archive.rows(_there(path, lengths, list(archive.arrays)), size)


def _csv_parts(path: Path, lengths: Mapping[str, int], size: int) -> Iterator[Columns]:
    import pyarrow as pa
    from pyarrow import csv

    with csv.open_csv(path) as file:
        there = file.schema.names
    if len(there) == 1:
        raise DataError(f"{path}: its header is a single column; in a CSV commas stand between the columns.")
    wide = {name: [f"{name}_{i}" for i in range(length)] or [name] for name, length in lengths.items()}
    names = _there(path, {one: lengths[name] for name, group in wide.items() for one in group}, there)
    types = {one: pa.float32() if lengths[name] else pa.string() for name, group in wide.items() for one in group}
    with csv.open_csv(path, convert_options=csv.ConvertOptions(include_columns=names, column_types=types)) as file:
        for block in file:
            for start in range(0, block.num_rows, size):
                part = block.slice(start, size)
                yield {
                    name: part.column(name) if not lengths[name] else np.stack([part.column(one) for one in group], 1)
                    for name, group in wide.items()
                    if group[0] in names
                }


def _there(path: Path, lengths: Mapping[str, int], there: Sequence[str]) -> list[str]:
    """The columns that are to be read."""
    found = Counter(there)
    missing = [name for name, length in lengths.items() if length and name not in found]
    if missing:
        raise DataError(f"{path}: missing {listed(missing)}.")
    twice = [name for name in lengths if found[name] > 1]
    if twice:
        raise DataError(f"{path}: more than one column is called {listed(twice)}; which is meant cannot be known.")
    return [name for name in lengths if name in there]


def _parquet(path: Path) -> tuple[Columns, str]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = [name for name in COLUMNS if name in file.schema_arrow.names]
    table = file.read(columns=names).combine_chunks()
    columns = {name: table.column(name).combine_chunks() for name in names}
    return columns, feature_kind((file.schema_arrow.metadata or {}).get(b"hpo"))


def _npz(path: Path) -> tuple[Columns, str]:
    """Texts must be stored as NumPy strings: objects would need pickle, which runs code."""
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name] for name in COLUMNS if name in file}
        note = str(file["hpo"]) if "hpo" in file else None
    for name, column in columns.items():
        if column.ndim == 0:
            raise DataError(f"{path}: {name} must have a row for each record; it is a single value.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: all columns must be equally long; got {lengths}.")
    return columns, feature_kind(note)


def feature_kind(note: bytes | str | None) -> str:
    """What the maker wrote about its descriptor, or ``UNKNOWN`` for a file from elsewhere."""
    try:
        return str(json.loads(note or "{}").get("features", UNKNOWN))
    except (ValueError, AttributeError):
        return UNKNOWN


@dataclass(frozen=True)
class Rows:
    """Turns columns into arrays; every refusal names the file, the count and the first offenders.

    ``first`` is the number of the first of these rows in the file.
    """

    path: Path
    logo_ids: Any
    first: int = 0

    def refuse(self, bad: np.ndarray, rule: str, values: np.ndarray | None = None) -> None:
        """Raise if any row is ``bad``, (n,) bool; ``values`` are shown beside the rows."""
        if not bad.any():
            return

        def tell(i: int) -> str:
            shown = "" if values is None else f": {values[i]}"
            return f"row {self.first + i} (logo {self.logo_ids[i]}){shown}"

        raise DataError(
            f"{self.path}: {rule}; {int(bad.sum())} of {len(bad)} records break that: {offenders(bad, tell)}. "
            "Mend or drop them."
        )

    def text(self, name: str, column: Any) -> np.ndarray:
        """(n,) of str; numbers are written out."""
        values = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
        self.refuse(np.array([v is None or v == "" for v in values], dtype=bool), f"{name} must not be empty")
        return np.array([str(v) for v in values], dtype=np.str_)

    def numbers(self, name: str, column: Any) -> np.ndarray:
        """(n,) float32; a missing value becomes NaN, for the caller to refuse."""
        values = column if isinstance(column, np.ndarray) else column.to_numpy(zero_copy_only=False)
        if values.ndim != 1:
            raise DataError(f"{self.path}: {name} must be one number per record; got shape {values.shape}.")
        return self._float32(name, values)

    def vectors(self, name: str, column: Any, length: int) -> np.ndarray:
        """(n, length) float32.

        Raises:
            DataError: a vector has another length, or holds something else than numbers.
        """
        if isinstance(column, np.ndarray):
            if column.ndim != 2 or column.shape[1] != length:
                raise DataError(
                    f"{self.path}: {name} must have shape (records, {length}); got {column.shape}, "
                    f"so all {len(column)} records break that."
                )
            return self._float32(name, column)
        import pyarrow as pa
        import pyarrow.compute as pc

        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
                or pa.types.is_fixed_size_list(column.type)):  # fmt: skip
            raise DataError(f"{self.path}: {name} must be a list of {length} numbers; it is {column.type}.")
        lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
        self.refuse(lengths != length, f"{name} must have {length} values", lengths)
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return self._float32(name, flat).reshape(-1, length)

    def _float32(self, name: str, values: np.ndarray) -> np.ndarray:
        try:
            if values.dtype.kind == "c":
                raise TypeError(f"they are {values.dtype}")
            with np.errstate(over="ignore"):  # becomes an infinity, for the caller to refuse
                return np.array(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.path}: {name} must hold numbers: {error}.") from error
