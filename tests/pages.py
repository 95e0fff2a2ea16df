"""Reading the pages of the guide: sections, and the tables in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next of the same or a higher level."""
    level = len(heading.split()[0])
    begins = page.index(f"\n{heading}\n") + len(heading) + 2
    rest = page[begins:]
    end = re.search(rf"^#{{1,{level}}} ", rest, flags=re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> dict[str, list[str]]:
    """Every table row that begins with a name in backticks: the name, and its further cells."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    found = {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert len(found) == len(lines), "a name stands there twice"
    return found
