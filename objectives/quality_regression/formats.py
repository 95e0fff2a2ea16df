"""Reading the columns of a Parquet or npz file, and refusing rows with their count and names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from objectives.offenders import offenders

Columns = dict[str, Any]  # npz: numpy arrays; Parquet: pyarrow arrays
COLUMNS = ("logo_id", "features", "settings", "ssim", "logo_type")


def read(path: Path) -> tuple[Columns, str]:
    """The columns by name, and the kind of features that the file says it holds.

    Raises:
        DataError: neither Parquet nor npz, or damaged.
    """
    try:
        return _npz(path) if path.suffix.lower() == ".npz" else _parquet(path)
    except DataError:
        raise
    except Exception as error:  # pyarrow, zipfile and numpy each have a dozen ways to say it
        kind = "an npz" if path.suffix.lower() == ".npz" else "a Parquet"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as {kind} file: {reason}") from error


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
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: all columns must be equally long; got {lengths}.")
    return columns, feature_kind(note)


def feature_kind(note: bytes | str | None) -> str:
    """What the maker wrote about its descriptor, or ``unknown`` for a file from elsewhere."""
    try:
        return str(json.loads(note or "{}").get("features", "unknown"))
    except (ValueError, AttributeError):
        return "unknown"


@dataclass(frozen=True)
class Rows:
    """Turns columns into arrays; every refusal names the file, the count and the first offenders."""

    path: Path
    logo_ids: Any

    def refuse(self, bad: np.ndarray, rule: str, values: np.ndarray | None = None) -> None:
        """Raise if any row is ``bad``, (n,) bool; ``values`` are shown beside the rows."""
        if not bad.any():
            return
        first = offenders(
            bad, lambda i: f"row {i} (logo {self.logo_ids[i]})" + (f": {values[i]}" if values is not None else "")
        )
        raise DataError(
            f"{self.path}: {rule}; {int(bad.sum())} of {len(bad)} records break that: {first}. Mend or drop them."
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
            return np.array(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.path}: {name} must hold numbers; it holds {values.dtype}.") from error
