"""The stored inputs and what PyTorch made of them: the measure of every format. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hpo.errors import ExportFailed
from hpo.export.formats import Arrays, Predict

FILE = "example.npz"
ROWS = 64
FEW = 3  # one or two can hide a batch dimension that was fixed
OUTPUT_BYTES = 16 * 2**20  # more rows than FEW are stored only within it


@dataclass(frozen=True)
class Case:
    """What a format is asked and what PyTorch answered; ``lengths`` are those of the axes that are cut."""

    inputs: Arrays
    outputs: Arrays
    rows: int
    lengths: Mapping[str, int]

    @property
    def label(self) -> str:
        return ", ".join([f"batch {self.rows}", *(f"{name} {length}" for name, length in self.lengths.items())])


@dataclass(frozen=True)
class StoredExample:
    """``inputs``: name -> (rows, ...). ``outputs``: batch size -> name -> what PyTorch gave for so many rows.

    Outputs are kept for each batch size, not cut from the largest, because a model may
    look at its whole batch. ``cuts`` are a few rows again with one open axis half as long.
    """

    inputs: Arrays
    outputs: dict[int, Arrays]
    cuts: tuple[Case, ...] = ()

    @classmethod
    def of(cls, predict: Predict, inputs: Arrays, axes: Mapping[str, Mapping[int, str]] | None = None) -> StoredExample:
        """Run PyTorch (``predict``) over the rows at every batch size, and over cut ones.

        ``axes``: input -> axis -> the name of a length that is free. Large outputs, such as
        logits over a vocabulary, are kept for fewer rows.

        Raises:
            ExportFailed: an output is NaN, so there is nothing to compare with, or the model
                does not take a length that is said to be free.
        """
        outputs = {size: _numbers(predict(_first(inputs, size))) for size in (1, FEW)}
        row_bytes = sum(value.nbytes for value in outputs[FEW].values()) / FEW
        most = min(ROWS, int(OUTPUT_BYTES / max(row_bytes, 1)))
        if most > FEW:
            outputs[most] = _numbers(predict(_first(inputs, most)))
        cuts = []
        for name, length in lengths(inputs, axes or {}).items():
            if length > 1:
                cut = _cut(_first(inputs, FEW), axes or {}, name, length // 2)
                cuts.append(Case(cut, _numbers(_at_length(predict, cut, name, length // 2)), FEW, {name: length // 2}))
        return cls(_first(inputs, max(outputs)), outputs, tuple(cuts))

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Every batch size at full length, then the cut ones."""
        whole = [Case(self.rows(size), outputs, size, {}) for size, outputs in self.outputs.items()]
        return (*whole, *self.cuts)

    @property
    def most(self) -> Case:
        """The case of the largest batch."""
        return max(self.cases, key=lambda case: case.rows)

    def rows(self, size: int) -> Arrays:
        """The inputs of the first ``size`` rows."""
        return _first(self.inputs, size)

    def save(self, folder: Path) -> None:
        arrays = {f"inputs.{name}": value for name, value in self.inputs.items()}
        for size, outputs in self.outputs.items():
            arrays |= {f"outputs.{size}.{name}": value for name, value in outputs.items()}
        for case in self.cuts:
            ((axis, length),) = case.lengths.items()
            arrays |= {f"cut.{axis}={length}.inputs.{name}": value for name, value in case.inputs.items()}
            arrays |= {f"cut.{axis}={length}.outputs.{name}": value for name, value in case.outputs.items()}
        np.savez(folder / FILE, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> StoredExample:
        inputs: Arrays = {}
        outputs: dict[int, Arrays] = {}
        cuts: dict[str, dict[str, Arrays]] = {}
        with np.load(folder / FILE, allow_pickle=False) as file:
            for key in file.files:
                kind, _, rest = key.partition(".")
                if kind == "inputs":
                    inputs[rest] = file[key]
                elif kind == "outputs":
                    size, _, name = rest.partition(".")
                    outputs.setdefault(int(size), {})[name] = file[key]
                else:
                    cut, side, name = rest.split(".", 2)
                    cuts.setdefault(cut, {"inputs": {}, "outputs": {}})[side][name] = file[key]
        return cls(inputs, outputs, tuple(_stored_cut(cut, **sides) for cut, sides in cuts.items()))


def lengths(inputs: Arrays, axes: Mapping[str, Mapping[int, str]]) -> dict[str, int]:
    """How long each named axis is in these inputs."""
    return {name: inputs[key].shape[axis] for key, own in axes.items() for axis, name in own.items()}


def _stored_cut(cut: str, inputs: Arrays, outputs: Arrays) -> Case:
    name, _, length = cut.partition("=")
    return Case(inputs, outputs, FEW, {name: int(length)})


def _cut(inputs: Arrays, axes: Mapping[str, Mapping[int, str]], name: str, length: int) -> Arrays:
    """Real rows up to ``length`` along every axis called ``name``."""
    found = dict(inputs)
    for key, own in axes.items():
        for axis, called in own.items():
            if called == name:
                found[key] = np.ascontiguousarray(found[key].take(range(length), axis))
    return found


def _at_length(predict: Predict, inputs: Arrays, name: str, length: int) -> Arrays:
    try:
        return predict(inputs)
    except Exception as error:  # whatever the model says of it
        raise ExportFailed(
            f"Task.open_axes says that any length of {name!r} will do; the model fails at {length}: {error}"
        ) from error


def _numbers(outputs: Arrays) -> Arrays:
    for name, value in outputs.items():
        if value.dtype.kind == "f" and np.isnan(value).any():
            raise ExportFailed(
                f"A model that ships must give numbers; its output {name!r} is NaN on validation rows. "
                "Choose another seed or trial."
            )
    return outputs


def _first(arrays: Arrays, size: int) -> Arrays:
    return {name: value[:size] for name, value in arrays.items()}
