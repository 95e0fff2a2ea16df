"""What stands between people's files and a shipped model: reading inputs, and saying what its outputs mean.

For a machine that predicts and does nothing else: NumPy and the readers of file formats, never torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Rows:
    """Some samples on their way into a model: their ids, and its inputs by name, each (rows, ...).

    ``beside`` is what ``tell`` needs and the model does not take, (rows, ...); empty where inputs are given as arrays.
    """

    ids: Sequence[str]
    inputs: Arrays
    beside: Arrays = field(default_factory=dict)


class Preparation(Protocol):
    """One objective's way from a file, or a folder of files, to predictions."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The files that it reads, such as ``(".parquet", ".csv")``, in lower case."""

    @property
    def accepts(self) -> str:
        """What must stand in them, for people."""

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """The samples of a file or folder in its own order, at most ``rows`` at a time.

        They are prepared exactly as in training, by what ships with the model alone. Columns that hold
        targets are not needed, and passed over where they are there.

        Raises:
            DataError: the file cannot be read, or a sample cannot be used; file, row or column, and rule.
        """

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        """What the model said of ``rows``, a JSON object each: names with units (``distance_m``), classes by name.

        Every object has the same names in it; under each a number, a text, or a list or mapping of such.
        """
