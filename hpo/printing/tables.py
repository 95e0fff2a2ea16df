"""Rows and cells: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv as csv_module
import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hpo.masking import printable

Row = dict[str, Any]
_NARROWEST = 30  # characters in which prose can be read


def show(rows: Sequence[Row], as_json: bool = False, as_csv: bool = False) -> None:
    """Print rows of equal keys: as a table, or as JSON or CSV on request."""
    if as_json:
        print_json(list(rows))
    elif as_csv:
        writer = csv_module.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif not rows:
        print("Nothing there yet.")
    else:
        _table(rows)


def print_json(data: Any) -> None:
    """Strict JSON on stdout; NaN and infinities become null."""
    print(json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def params_text(params: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={cell(value)}" for name, value in params.items())


def cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(first_line(str(value)))


def interval_text(low: float | None, high: float | None) -> str | None:
    """Both ends; None where an end is no number, as of the figures of a single recording."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    return f"{low:.4g} to {high:.4g}"


def first_line(text: str) -> str:
    """What of a long reason fits a table; JSON keeps all of it."""
    return next(iter(text.splitlines()), "")


def _table(rows: Sequence[Row]) -> None:
    """A plain table as wide as it needs to be; on a terminal prose in the last column is wrapped under itself."""
    names = list(rows[0])
    cells = [[cell(row[name]) for name in names] for row in rows]
    numeric = [all(isinstance(row[name], (int, float, type(None))) for row in rows) for name in names]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    left = shutil.get_terminal_size().columns - indent if sys.stdout.isatty() and not numeric[-1] else 0
    if left >= _NARROWEST:
        widths[-1] = min(widths[-1], left)
    for line in [names, ["-" * width for width in widths], *cells]:
        prose = textwrap.wrap(line[-1], widths[-1], break_on_hyphens=False) if left >= _NARROWEST else []
        shown = [*line[:-1], prose[0] if prose else line[-1]]
        parts = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(shown, widths, numeric, strict=True)]
        print("  ".join(parts).rstrip())
        for more in prose[1:]:
            print(" " * indent + more)


def _plain(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if hasattr(data, "__dataclass_fields__"):
        return {name: _plain(getattr(data, name)) for name in data.__dataclass_fields__}
    if data is None or isinstance(data, (str, int, bool)):
        return data
    return str(data)
