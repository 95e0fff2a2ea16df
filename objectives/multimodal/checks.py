"""Refusing rows with their count and the first offenders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.errors import DataError
from objectives.offenders import offenders


@dataclass(frozen=True)
class Rows:
    """The rows of a file, by the ids (n,) that people know them by."""

    path: Path
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def refuse(self, bad: np.ndarray, rule: str, values: np.ndarray | None = None, *, what: str = "planet") -> None:
        """Raise if any row is ``bad``, (n,) bool; ``values`` are shown beside the rows."""
        if not bad.any():
            return
        first = offenders(
            bad, lambda i: f"row {i} ({what} {self.ids[i]})" + (f": {values[i]}" if values is not None else "")
        )
        raise DataError(
            f"{self.path}: {rule}; {int(bad.sum())} of {len(bad)} rows break that: {first}. Mend or drop them."
        )
