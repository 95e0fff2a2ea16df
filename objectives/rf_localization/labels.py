"""Label tables: read from Parquet, CSV or a database, as columns of checked values. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from objectives.given import unreadable
from objectives.offenders import offenders

TEXTS = ("file", "receiver_id", "session_id", "time")
NUMBERS = ("latitude", "longitude", "freq_mhz", "snr_db")
SITE_TEXTS, SITE_NUMBERS = ("receiver_id",), ("latitude", "longitude")


@dataclass(frozen=True)
class Rows:
    """Columns of a table that every value has been checked of; ``where`` is what messages call it."""

    where: str
    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def refuse(self, bad: np.ndarray, rule: str, shown: str) -> None:
        """Raise if any row is ``bad``, (n,) bool; the column ``shown`` stands beside the first ones.

        Raises:
            DataError: with the rule, how many rows break it, and the first five.
        """
        refuse(self.where, bad, rule, self.columns[shown])


def refuse(where: str, bad: np.ndarray, rule: str, values: Any) -> None:
    """See ``Rows.refuse``; rows count from 1, a header not among them."""
    if bad.any():
        first = offenders(bad, lambda row: f"row {row + 1}: {values[row]!s}")
        raise DataError(f"{where}: {rule}; {int(bad.sum())} of {len(bad)} rows break that: {first}.")


def from_file(path: Path, texts: tuple[str, ...] = TEXTS, numbers: tuple[str, ...] = NUMBERS) -> Rows:
    """The rows of a Parquet or CSV file.

    Raises:
        DataError: no such file, not of its form, a column missing, a value missing or of another type.
    """
    import pyarrow.csv
    import pyarrow.parquet

    names = [*texts, *numbers]
    try:
        is_csv = path.suffix.lower() == ".csv"
        path.open("rb").close()  # the system's own words on what cannot be opened
        # By name, never as Python's file: a thread of Arrow's that still holds one aborts the process as it ends
        # (github.com/apache/arrow/issues/34314).
        table = pyarrow.csv.read_csv(str(path)) if is_csv else pyarrow.parquet.ParquetFile(str(path)).read()
    except OSError as error:
        raise unreadable(path, error, "rf_localization", "FOLDER") from error
    except Exception as error:  # pyarrow has a dozen ways to say it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as a {'CSV' if is_csv else 'Parquet'} file: {reason}") from error
    _require_columns(str(path), names, table.column_names)
    return _checked(str(path), {name: table.column(name).to_pylist() for name in names}, texts, numbers)


def from_database(url: str, table: str) -> Rows:
    """The rows of a table in which ``approved`` is true.

    Raises:
        DataError: it cannot be reached, has no such table, or a column or value is not as it must be.
    """
    import sqlalchemy as sa

    names = [*TEXTS, *NUMBERS]
    try:
        engine = sa.create_engine(url)
        where = f"table {table} of {engine.url.render_as_string(hide_password=True)}"
        try:
            with engine.connect() as connection:
                found = sa.Table(table, sa.MetaData(), autoload_with=connection)
                _require_columns(where, [*names, "approved"], list(found.columns.keys()))
                chosen = sa.select(*(found.c[name] for name in names)).where(found.c.approved == sa.true())
                rows = connection.execute(chosen.order_by(found.c.file)).all()
        finally:
            engine.dispose()
    except (sa.exc.NoSuchTableError, sa.exc.ArgumentError, sa.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise DataError(f"data: labels: {type(error).__name__}: {reason} (table {table!r}).") from error
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return _checked(where, columns, TEXTS, NUMBERS)


def _require_columns(where: str, wanted: list[str], found: list[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{where}: missing {', '.join(missing)}; a row has {', '.join(wanted)}.")


def _checked(where: str, columns: dict[str, list[Any]], texts: tuple[str, ...], numbers: tuple[str, ...]) -> Rows:
    if not next(iter(columns.values())):
        raise DataError(f"{where} has no rows.")
    arrays: dict[str, np.ndarray] = {}
    for name in texts:
        empty = np.array([value is None or value == "" for value in columns[name]])
        refuse(where, empty, f"{name} must not be empty", columns[name])
        arrays[name] = np.array([_text(value) for value in columns[name]], dtype=np.str_)
    for name in numbers:
        try:
            arrays[name] = np.array(columns[name], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: {name} must hold numbers: {error}.") from error
        refuse(where, ~np.isfinite(arrays[name]), f"{name} must be a finite number", columns[name])
    rows = Rows(where, arrays)
    for name, most in (("latitude", 90), ("longitude", 180)):
        if name in arrays:
            rows.refuse(np.abs(rows[name]) > most, f"{name} must be in [-{most}, {most}] degrees", name)
    return rows


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
