"""Markdown (CommonMark with tables) from text that anybody may have written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_CODE = re.compile(r"(`[^`]+`)")
_MARKS = re.compile(r"[\\`*<>~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is no mark
_BLOCK = re.compile(r"^(?:([-+]|#{1,6})(?=\s)|(\d+)([.)])(?=\s)|([-=])(?=[-=]*$))")  # would begin a list, a title, ...


def text(value: Any) -> str:
    """``value`` as it is written, on one line: nothing in it is taken for markup but code in backticks."""
    parts = _CODE.split(" ".join(str(value).split()))
    parts[::2] = (_MARKS.sub(r"\\\g<0>", part.replace("&", "&amp;")) for part in parts[::2])
    return _BLOCK.sub(lambda found: f"{found[2]}\\{found[3]}" if found[2] else f"\\{found[0]}", "".join(parts))


def code(value: Any) -> str:
    """``value`` in a code span, in a table or outside of one."""
    line = " ".join(str(value).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence, gap = "`" * (longest + 1), " " if "`" in line else ""
    return f"{fence}{gap}{line}{gap}{fence}" if line else ""


def cell(value: str) -> str:
    return value.replace("|", r"\|") or " "


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """A table of cells that are Markdown already; the last ``numbers`` columns stand to the right."""
    left = len(header) - numbers
    lines = [header, ["---"] * left + ["---:"] * numbers, *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """A list of lines that are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)


def number(value: Any) -> str:
    """Four significant digits; a dash for nothing, and for what is not finite (null in JSON)."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def count(n: int, one: str) -> str:
    return f"{n:,} {one}{'' if n == 1 else 's'}"
