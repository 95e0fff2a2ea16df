"""The stored inputs and what PyTorch made of them: the measure of every format. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.errors import ExportFailed
from hpo.export.formats import Arrays, Predict

FILE = "example.npz"
ROWS = 64
BATCH_SIZES = (1, 3, ROWS)  # three, because one or two can hide a batch dimension that was fixed


@dataclass(frozen=True)
class StoredExample:
    """``inputs``: name -> (64, ...). ``outputs``: batch size -> name -> what PyTorch gave for so many rows.

    Outputs are kept for each batch size, not cut from the largest, because a model may
    look at its whole batch.
    """

    inputs: Arrays
    outputs: dict[int, Arrays]

    @classmethod
    def of(cls, predict: Predict, inputs: Arrays) -> StoredExample:
        """Run PyTorch (``predict``) over the rows at every batch size.

        Raises:
            ExportFailed: an output is NaN, so there is nothing to compare with.
        """
        outputs = {}
        for size in BATCH_SIZES:
            outputs[size] = predict(_first(inputs, size))
            for name, value in outputs[size].items():
                if value.dtype.kind == "f" and np.isnan(value).any():
                    raise ExportFailed(
                        f"A model that ships must give numbers; its output {name!r} is NaN on validation rows. "
                        "Choose another seed or trial."
                    )
        return cls(inputs, outputs)

    def rows(self, size: int) -> Arrays:
        """The inputs of the first ``size`` rows."""
        return _first(self.inputs, size)

    def save(self, folder: Path) -> None:
        arrays = {f"inputs.{name}": value for name, value in self.inputs.items()}
        for size, outputs in self.outputs.items():
            arrays |= {f"outputs.{size}.{name}": value for name, value in outputs.items()}
        np.savez(folder / FILE, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> StoredExample:
        inputs: Arrays = {}
        outputs: dict[int, Arrays] = {}
        with np.load(folder / FILE, allow_pickle=False) as file:
            for key in file.files:
                kind, _, rest = key.partition(".")
                if kind == "inputs":
                    inputs[rest] = file[key]
                else:
                    size, _, name = rest.partition(".")
                    outputs.setdefault(int(size), {})[name] = file[key]
        return cls(inputs, outputs)


def _first(arrays: Arrays, size: int) -> Arrays:
    return {name: value[:size] for name, value in arrays.items()}
