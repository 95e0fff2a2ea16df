"""A model's inputs by name out of an .npz: what works for every bundle, without the code of its objective."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.errors import DataError
from hpo.export.manifest import TensorFacts
from hpo.prediction.running import Tell
from objectives import npz
from objectives.prediction import Arrays, Rows

SUFFIX = ".npz"
PREFIX = "inputs."  # as in a bundle's example.npz
ACCEPTS = "an .npz with an array for each input of the model, by its name"
_NEAR = 0.8  # of difflib: a slip of the finger, not another word


class RawArrays:
    """The ``Preparation`` that needs no objective: inputs as they stand, and outputs as they come.

    ids are the numbers of the rows, from 0. ``words`` tell the outputs in another way.
    """

    suffixes: tuple[str, ...] = (SUFFIX,)
    accepts = ACCEPTS

    def __init__(self, inputs: Sequence[TensorFacts], words: Tell | None = None) -> None:
        self._inputs = [tensor.name for tensor in inputs]
        self._words = words or raw

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """
        Raises:
            DataError: an input is not in the file, or as ``objectives.npz``.
        """
        with npz.opened(path) as archive:
            stored = {name: _stored_name(name, archive) for name in self._inputs}
            first = 0
            for arrays in archive.rows(list(stored.values()), rows):
                inputs = {name: arrays[key] for name, key in stored.items()}
                count = len(next(iter(inputs.values())))
                yield Rows([str(first + i) for i in range(count)], inputs)
                first += count

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        return self._words(rows, outputs)


def means_inputs(path: Path, inputs: Sequence[TensorFacts]) -> bool:
    """Whether an .npz holds a model's inputs by name, or tries to: some objectives read an .npz of their own.

    Raises:
        DataError: it cannot be read.
    """
    with npz.opened(path) as archive:
        names = list(archive.arrays)
    return any(name.startswith(PREFIX) for name in names) or any(
        difflib.get_close_matches(tensor.name, names, n=1, cutoff=_NEAR) for tensor in inputs
    )


def raw(rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
    """The outputs of each row by name, a number where there is one alone.

    Raises:
        DataError: an output has not a row for each sample.
    """
    for name, value in outputs.items():
        if not value.shape or value.shape[0] != len(rows.ids):
            raise DataError(
                f"The output {name!r} has the shape {value.shape} for {len(rows.ids)} rows, so it cannot be told row "
                "by row; run the bundle's format yourself, as its README shows."
            )
    plain: Mapping[str, list[Any]] = {
        name: (value.reshape(len(value)) if value[:1].size == 1 else value).tolist() for name, value in outputs.items()
    }
    return [{name: values[i] for name, values in plain.items()} for i in range(len(rows.ids))]


def _stored_name(name: str, archive: npz.Archive) -> str:
    for key in (PREFIX + name, name):
        if key in archive.arrays:
            return key
    found = sorted(archive.arrays)
    near = difflib.get_close_matches(name, found, n=1)
    hint = f" Did you mean it by {near[0]!r}?" if near else ""
    listed = ", ".join(map(repr, found[:8])) + (", ..." if len(found) > 8 else "")
    raise DataError(f"{archive.path}: the model's input {name!r} is not in it; it has {listed or 'no arrays'}.{hint}")
