"""Where trials come from: which form a source has, and the study in it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from hpo.errors import DataError
from storage import urls
from storage.exchange import files, journal
from storage.exchange.optuna_database import OptunaDatabase
from storage.exchange.portable import PortableStudy

_SQLITE = b"SQLite format 3\x00"  # how such a file begins


def read(source: str, study: str | None = None, maximize: tuple[str, ...] = ()) -> PortableStudy:
    """The study of a database URL, a SQLite file, a journal of Optuna's, a CSV or a JSON lines file.

    Args:
        study: which one, where there are several.
        maximize: goals for which more is better, where the source does not say.

    Raises:
        DataError: there is no such file, or its content is not usable.
        StorageError: the database cannot be read. UnknownName: it has no such study.
    """
    if "://" in source:
        file = urls.sqlite_file(urls.parse(source))
        if file is None or file.exists():
            return _of_database(source, study, maximize)
        source = str(file)
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"There is no file {source}. A source is a database URL, a SQLite file, "
            "a journal file of Optuna's, CSV (.csv) or JSON lines."
        )
    try:
        with path.open("rb") as stream:
            head = stream.readline()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if head.startswith(_SQLITE):
        return _of_database(f"sqlite:///{path}", study, maximize)
    first = _object(head)
    if first is not None and "op_code" in first:
        _refuse_directions(maximize)
        return journal.read(path, study)
    if study is not None:
        raise DataError(f"--study chooses among several studies; {path} holds one. Name it with --as.")
    return files.from_json_lines(path, maximize) if first is not None else files.from_csv(path, maximize)


def _of_database(url: str, study: str | None, maximize: tuple[str, ...]) -> PortableStudy:
    _refuse_directions(maximize)
    with closing(OptunaDatabase(url)) as database:
        return database.read_study(study)


def _refuse_directions(maximize: tuple[str, ...]) -> None:
    if maximize:
        raise DataError("--maximize: a study of Optuna's says itself which way each goal is better; leave it out.")


def _object(line: bytes) -> dict[str, object] | None:
    """The JSON object on a line; None where there is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
