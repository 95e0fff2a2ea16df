"""Refusing rows with their count and the first offenders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.errors import DataError

SHOWN = 5


@dataclass(frozen=True)
class Rows:
    """The rows of a file, by the ids (n,) that people know them by."""

    path: Path
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def refuse(self, bad: np.ndarray, rule: str, values: np.ndarray | None = None, *, what: str = "planet") -> None:
        """Raise if any row is ``bad``, (n,) bool; ``values`` are shown beside the rows."""
        rows = np.flatnonzero(bad)
        if not len(rows):
            return
        names = [
            f"row {i} ({what} {self.ids[i]})" + (f": {values[i]}" if values is not None else "")
            for i in rows[:SHOWN].tolist()
        ]
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        raise DataError(
            f"{self.path}: {rule}; {len(rows)} of {len(bad)} rows break that: {', '.join(names)}{more}. "
            "Mend or drop them."
        )
