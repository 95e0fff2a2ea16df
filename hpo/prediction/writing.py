"""Predictions as a file: whole or not at all, and never more than a batch of them in memory."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hpo import durable
from hpo.errors import DataError, UserError
from hpo.export.plain import to_plain
from hpo.prediction.running import Answer

ID, IDS = "id", "ids"  # in rows, and in an .npz
Record = dict[str, Any]
Write = Callable[[Iterator[Answer], Path], int]


def records(answer: Answer) -> list[Record]:
    """The rows of an answer as JSON objects, each with its id first."""
    return [
        {ID: str(id), **to_plain(told, "prediction")} for id, told in zip(answer.rows.ids, answer.told, strict=True)
    ]


def json_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def cells(record: Record) -> Record:
    """A record for a table: lists and mappings as JSON text."""
    return {name: json_line(value) if isinstance(value, list | dict) else value for name, value in record.items()}


def save(answers: Iterator[Answer], out: Path, *, overwrite: bool = False) -> int:
    """Write all answers to ``out``, in the form of its suffix; how many rows.

    ``.csv``, ``.parquet`` and ``.jsonl`` hold what was told, ``.npz`` the model's own outputs by
    name, and ``ids``. What was there stays as it was until the new file is whole.

    Raises:
        UserError: the suffix is none of these; there is a file and ``overwrite`` is not set; or it cannot be written.
        DataError: rows differ in a way that the form cannot hold; or what ``answers`` raises.
    """
    write = WRITERS.get(out.suffix.lower())
    if write is None:
        raise UserError(f"Predictions are written as {', '.join(WRITERS)}; got {str(out)!r}.")
    rows = 0

    def fill(temporary: Path) -> None:
        nonlocal rows
        rows = write(answers, temporary)

    try:
        if out.is_dir():
            raise UserError(f"{out} is a folder; name a file in it.")
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists; use --overwrite or name another file.")
        durable.write(out, fill)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror or error}. What was there is as it was; free space or name "
            "another place."
        ) from error
    return rows


def _jsonl(answers: Iterator[Answer], path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for answer in answers:
            for record in records(answer):
                file.write(json_line(record) + "\n")
                rows += 1
    return rows


def _csv(answers: Iterator[Answer], path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for names, found in _tables(answers):
            if writer is None:
                writer = csv.DictWriter(file, names, lineterminator="\n")
                writer.writeheader()
            writer.writerows(found)
            rows += len(found)
    return rows


def _parquet(answers: Iterator[Answer], path: Path) -> int:
    """The first batch says of which type a column is."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    with ExitStack() as stack:
        writer = None
        for _, found in _tables(answers):
            try:
                table = pa.Table.from_pylist(found, schema=None if writer is None else writer.schema)
            except pa.ArrowException as error:
                raise DataError(
                    f"Parquet needs one type for each column; from row {rows} on: {error}. Take .jsonl instead."
                ) from error
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)
            rows += len(found)
    return rows


def _tables(answers: Iterator[Answer]) -> Iterator[tuple[Sequence[str], list[Record]]]:
    """The columns that all records have, and those of each answer as cells."""
    names: list[str] | None = None
    for answer in answers:
        found = [cells(record) for record in records(answer)]
        for record in found:
            names = names or list(record)
            if list(record) != names:
                raise DataError(
                    f"A table needs the same columns in every row; {record[ID]} has {', '.join(record)} and the first "
                    f"{', '.join(names)}. Take .jsonl instead."
                )
        yield names or [], found


def _npz(answers: Iterator[Answer], path: Path) -> int:
    """Arrays wait in files of their own, without a name, until the number of their rows is known."""
    ids: list[str] = []
    with ExitStack() as stack:
        growing: dict[str, _Growing] = {}
        for answer in answers:
            ids += map(str, answer.rows.ids)
            for name, value in answer.outputs.items():
                if name not in growing:
                    growing[name] = _Growing(name, value, stack.enter_context(TemporaryFile(dir=path.parent)))
                growing[name].add(value)
        if IDS in growing:
            raise DataError(f"An output of this model is called {IDS!r}, as the ids are. Take .jsonl instead.")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, array in growing.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    array.copy(member)
            with archive.open(f"{IDS}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.array(ids, dtype=np.str_), allow_pickle=False)
    return len(ids)


class _Growing:
    """An array that gets more rows, in a file."""

    def __init__(self, name: str, first: NDArray[Any], file: IO[bytes]) -> None:
        self._name, self._file, self._rows = name, file, 0
        self._shape, self._dtype = first.shape[1:], first.dtype

    def add(self, value: NDArray[Any]) -> None:
        """
        Raises:
            DataError: its rows are shaped in another way than the first.
        """
        if value.shape[1:] != self._shape:
            raise DataError(
                f"An .npz holds arrays of one shape; the output {self._name!r} is {value.shape[1:]} in row "
                f"{self._rows} and {self._shape} in the first. Take .jsonl, or a larger --batch."
            )
        self._file.write(np.ascontiguousarray(value).tobytes())
        self._rows += len(value)

    def copy(self, out: IO[bytes]) -> None:
        header = {
            "descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._rows, *self._shape),
        }  # fmt: skip
        npy.write_array_header_2_0(out, header)
        self._file.seek(0)
        shutil.copyfileobj(self._file, out)


WRITERS: Mapping[str, Write] = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".npz": _npz}
