"""Texts from files or from the Hugging Face hub, refused where they cannot be used. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import DataError
from objectives.given import unreadable
from objectives.language_modeling.fields import Fields
from objectives.offenders import MIN_PER_CLASS, listed, small_classes

KINDS = (".txt", ".md", ".csv", ".jsonl", ".json", ".parquet")
STREAMED_BELOW = 10_000  # of a hub's data set, samples asked for
FEWEST = 20
_ROWS = 1000  # of a table at a time
_ENCODING = "utf-8-sig"  # UTF-8, with the mark before it that some programs write, or without
_HALF = re.compile("[\ud800-\udfff]")  # JSON may hold one, of an emoji cut in two; UTF-8 cannot


@dataclass(frozen=True)
class Document:
    """A text with where it stands; ``label`` is a class, ``target`` the text to be written from it."""

    id: str
    text: str
    label: str | None = None
    target: str | None = None


def read(fields: Fields) -> list[Document]:
    """The first ``max_samples`` texts.

    Raises:
        DataError: a file is missing, empty or unreadable, lacks a column, or holds what is
            no text; with the file, the rows and their count. Or there are too few, one class,
            or a class with fewer than ``MIN_PER_CLASS`` different texts.
    """
    found = _from_hub(fields) if fields.dataset is not None else _from_files(Path(str(fields.path)), fields)
    if len(found) < FEWEST:
        where = fields.path or fields.dataset
        raise DataError(f"{where}: at least {FEWEST} texts are needed for three parts; there are {len(found)}.")
    if fields.goal == "classification":
        _check_classes(found, fields)
    return found


def near(text: str) -> str:
    """What near copies of a text have in common: they differ only in case, digits and spaces."""
    return hashlib.sha1(re.sub(r"[\d\s]+", " ", text.lower()).encode(), usedforsecurity=False).hexdigest()


def _check_classes(found: Sequence[Document], fields: Fields) -> None:
    labels = [str(document.label) for document in found]
    classes = sorted(set(labels))
    column = f"{fields.path or fields.dataset}: the column {fields.label_column!r}"
    if len(classes) < 2:
        raise DataError(f"{column} must have two classes or more; all {len(found)} texts have {classes[0]!r}.")
    few = small_classes(classes, labels, (near(document.text) for document in found))
    if few:
        raise DataError(
            f"{column} must have {MIN_PER_CLASS} different texts or more of every class; {len(few)} of {len(classes)} "
            f"classes have fewer: {listed(few)}. Add some, put classes together, or drop those rows."
        )


def _from_files(path: Path, fields: Fields) -> list[Document]:
    files = _files(path)
    documents: list[Document] = []
    for file in files:
        wanted = fields.max_samples - len(documents)
        if wanted > 0:
            columns = (fields.text_column, fields.label_column, fields.target_column)
            documents += _documents(file, _rows(file, fields.text_column, columns), fields, wanted)
    return documents


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            found = sorted(file for file in _below(path) if file.suffix.lower() in KINDS and file.is_file())
        else:
            path.stat()
            found = [path]
    except OSError as error:
        raise unreadable(Path(error.filename or path), error, "language_modeling", path) from error
    wrong = [file for file in found if file.suffix.lower() not in KINDS]
    if wrong or not found:
        what = f"it is {path.suffix or 'without an ending'}" if wrong else "the folder has none"
        raise DataError(f"{path}: texts are files that end in {', '.join(KINDS)}; {what}.")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Every file in it, however deep. ``Path.rglob`` would pass over a folder that may not be read without a word."""

    def refuse(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place) / name for name in names)


def stream(path: Path, text_column: str, target_column: str | None = None) -> Iterator[Document]:
    """The texts of a file or folder one after the other; with a ``target_column`` the targets of those that have one.

    Raises:
        DataError: a file is unreadable, lacks the column of texts, or holds what is no text; with file and row.
    """
    for file in _files(path):
        for place, row in _rows(file, text_column, (text_column, *_there(target_column))):
            if text_column not in row:
                raise DataError(
                    f"{file}: {place} has no column {text_column!r}, where the model's texts stood in training; it has "
                    f"{', '.join(map(repr, row))}. Name it so."
                )
            text, target = _text(row[text_column], "text"), _text(row.get(str(target_column)), "target")
            if text is None:
                raise DataError(
                    f"{file}: every row needs a text that is not empty in {text_column!r}; {place} has "
                    f"{_shown(row[text_column])}. Mend or drop it."
                )
            yield Document(_id(file, place, row), text, target=target if target_column else None)


def _there(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _id(file: Path, place: str, row: Mapping[str, Any]) -> str:
    return str(row.get("id", f"{file.name}:{place}"))


def _rows(file: Path, text_column: str, texts: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its place in the file; the columns ``texts`` of a CSV hold texts, whatever they look like."""
    kind = file.suffix.lower()
    try:
        if kind in (".txt", ".md"):
            blocks = file.read_text(encoding=_ENCODING).split("\n\n")
            yield from ((f"block {i}", {text_column: block}) for i, block in enumerate(blocks, 1) if block.strip())
        elif kind in (".jsonl", ".json"):
            yield from _json_rows(file)
        else:
            yield from _table_rows(file, kind, texts)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: must be UTF-8; the byte at {error.start} is not.") from error


def _json_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Lines one at a time; of an array all at once."""
    with file.open(encoding=_ENCODING) as lines:
        is_array = next((line for line in lines if line.strip()), "").lstrip().startswith("[")
        lines.seek(0)
        rows = (
            _json_array(file)
            if is_array
            else ((f"line {i}", _json_line(file, i, line)) for i, line in enumerate(lines, 1) if line.strip())
        )
        for place, row in rows:
            if not isinstance(row, Mapping):
                raise DataError(f"{file}: {place} must be an object with the columns as names; got {str(row)[:60]!r}.")
            yield place, row


def _json_array(file: Path) -> Iterator[tuple[str, Any]]:
    text = file.read_text(encoding=_ENCODING)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: line {error.lineno} is no JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond all bounds
        raise DataError(f"{file} cannot be read as JSON: {error}.") from error
    return ((f"row {i}", row) for i, row in enumerate(rows, 1))


def _json_line(file: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: line {number} is no JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: line {number} cannot be read as JSON: {error}.") from error


def _table_rows(file: Path, kind: str, texts: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Parquet some rows at a time, and of a CSV the columns as Arrow keeps them."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if kind == ".parquet":
            batches = parquet.ParquetFile(file).iter_batches(_ROWS)
        else:
            table = csv.read_csv(
                file,
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
            )
            batches = iter(table.to_batches(_ROWS))
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from ((f"row {i}", row) for i, row in enumerate(rows, 1))
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(f"{file} cannot be read as {kind[1:]}: {reason}.") from error


def _from_hub(fields: Fields) -> list[Document]:
    """Texts of a data set by name; streamed where few are wanted, so that nothing large is fetched."""
    from datasets import load_dataset

    given = dict(fields.dataset or {})
    name, config, split = given["name"], given.get("config"), given.get("split", "train")
    streaming = fields.max_samples < STREAMED_BELOW
    try:
        rows: Iterable[Any] = load_dataset(name, config, split=split, streaming=streaming)
        numbered = ((f"row {i}", row) for i, row in enumerate(rows, 1))
        return _documents(Path(name), numbered, fields, fields.max_samples)
    except DataError:
        raise
    except Exception as error:  # the hub, the network and the data set each fail in their own way
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"data: dataset {name!r} (config {config}, split {split}) cannot be had: {reason}") from error


def _documents(
    file: Path, rows: Iterable[tuple[str, Mapping[str, Any]]], fields: Fields, wanted: int
) -> list[Document]:
    columns = {"text": fields.text_column}
    if fields.goal == "classification":
        columns["label"] = fields.label_column
    if fields.goal == "encoder_decoder":
        columns["target"] = fields.target_column
    found: list[Document] = []
    bad: list[str] = []
    for place, row in rows:
        if len(found) + len(bad) >= wanted:
            break
        missing = [column for column in columns.values() if column not in row]
        if missing:
            raise DataError(
                f"{file}: {place} has no column {missing[0]!r}; it has {', '.join(map(repr, row))}. "
                f"Name the right one in the study's data ({', '.join(f'{name}_column' for name in columns)})."
            )
        values = {name: _text(row[column], name) for name, column in columns.items()}
        wrong = [name for name, value in values.items() if value is None]
        if wrong:
            bad.append(f"{place} ({columns[wrong[0]]}: {_shown(row[columns[wrong[0]]])})")
            continue
        found.append(Document(id=_id(file, place, row), **values))  # type: ignore[arg-type]
    if bad:
        also = " (a label may be a whole number)" if "label" in columns else ""
        raise DataError(
            f"{file}: every row needs a text that is not empty in {' and '.join(columns.values())}{also}; "
            f"{len(bad)} have none: {listed(bad)}. Mend or drop them."
        )
    if not found and wanted > 0:
        raise DataError(f"{file}: there is no text in it.")
    return found


def _text(value: Any, name: str) -> str | None:
    """``value`` as a text; None where it is none. A label may be a whole number."""
    if name == "label" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() and not _HALF.search(value) else None


def _shown(value: Any) -> str:
    half = _HALF.search(value) if isinstance(value, str) else None
    return f"half a character, {half.group()!r}" if half else f"{value!r:.40}"
