"""What commands print of predictions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.masking import printable
from hpo.printing.tables import print_json, show

if TYPE_CHECKING:
    from hpo.prediction.running import Answer
    from hpo.service import Predictions

_SHOWN = 20  # rows, where nobody says how many
_WIDEST = 60  # characters of a cell


def show_predictions(predictions: Predictions, as_json: bool, limit: int | None) -> None:
    """The first rows as a table, or all as JSON lines."""
    from hpo.prediction.writing import cells, json_line

    records = predictions.records()
    if as_json:
        for record in records:
            print(json_line(record))
        return
    most = limit or _SHOWN
    found = list(islice(records, most + 1))
    show([{name: _short(value) for name, value in cells(record).items()} for record in found[:most]])
    if len(found) > most:
        print(f"The first {most} rows. All of them: --json, or --out FILE.")


@contextmanager
def counted(predictions: Predictions) -> Iterator[Predictions]:
    """The same predictions; a terminal sees how many rows are done, from the second second on."""
    from tqdm import tqdm

    with tqdm(unit="row", file=sys.stderr, disable=None, delay=1) as bar:

        def answers() -> Iterator[Answer]:
            for answer in predictions.answers:
                yield answer
                bar.update(len(answer.rows.ids))

        yield replace(predictions, answers=answers())


def show_saved(out: Path, rows: int, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(out), "rows": rows})
    else:
        print(f"Predictions of {rows} {'row' if rows == 1 else 'rows'}: {out}")


def _short(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"{shown[:_WIDEST]}…" if len(shown) > _WIDEST else shown
