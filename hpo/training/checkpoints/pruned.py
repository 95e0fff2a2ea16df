"""Word in a trial's folder of checkpoints that were deleted on purpose, for who looks for them later."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PRUNED = "pruned.txt"  # which checkpoints were deleted, and by what


def note_pruned(folder: Path, names: Sequence[str], why: str) -> None:
    """Leave word in a trial's folder that checkpoints were deleted on purpose."""
    with suppress(OSError), (folder / PRUNED).open("a", encoding="utf-8") as file:
        file.write(f"{', '.join(names)}: deleted by {why}\n")


def why_pruned(path: Path) -> str | None:
    """What ``note_pruned`` was told of a checkpoint that is gone; None where nobody deleted it so."""
    try:
        lines = (path.parent / PRUNED).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    words = (line.partition(": ") for line in reversed(lines))
    return next((why for names, _, why in words if path.name in names.split(", ")), None)
