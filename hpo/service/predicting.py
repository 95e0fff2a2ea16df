"""The use case behind ``hpo predict``: a bundle or published version, a file of new inputs, what the model says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hpo.errors import DataError, UserError
from hpo.export.bundle import ASSETS, ModelBundle
from hpo.export.own_code import not_from
from hpo.prediction import arrays, running, writing
from hpo.prediction.arrays import RawArrays
from hpo.prediction.running import Answer, Tell
from hpo.service.registry.reading import opened
from objectives import registry
from objectives.base import TrainingObjective
from objectives.prediction import Preparation

BATCH = 32


@dataclass(frozen=True)
class Predictions:
    """What a model says, batch by batch as it is asked for; to be read once.

    ``format`` is the one that runs; ``folder`` the bundle's.
    """

    folder: Path
    format: str
    answers: Iterator[Answer]

    def records(self) -> Iterator[dict[str, Any]]:
        """A JSON object for each row, with its ``id``."""
        return chain.from_iterable(map(writing.records, self.answers))

    def save(self, out: Path, *, overwrite: bool = False) -> int:
        """As ``writing.save``; how many rows. Raises UserError, too, where ``out`` lies in the bundle."""
        if out.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{out} lies in the bundle, whose files never change. Name another place.")
        return writing.save(self.answers, out, overwrite=overwrite)


@contextmanager
def predicting(
    storage: str,
    reference: str,
    source: Path,
    *,
    form: str | None = None,
    batch: int = BATCH,
    limit: int | None = None,
    threads: int = 1,
    import_from: Path | None = None,
    run_programs: bool = False,
) -> Iterator[Predictions]:
    """Run the model that ``reference`` names over a file or folder.

    An .npz with the model's inputs by name needs no code of the objective; its outputs are told in the
    objective's words all the same where it is a built-in one, or ``import_from`` is given. That is where an
    objective named ``package.module:Class`` is looked for; None looks in no folder.

    Args:
        form: a format of the bundle by name; None: ``onnx``, or another that onnxruntime runs alone. One that is a
            program needs ``run_programs``, too.
        limit: only the first rows.

    Raises:
        UnknownName, BundleError: there is no such model or format, or it is damaged. UserError: the objective
            reads no files. DataError: the file cannot be read, or is not what the model takes; while reading, too.
    """
    with ExitStack() as stack:
        bundle = stack.enter_context(opened(storage, reference))
        folder = _trusted(import_from, bundle)
        stack.enter_context(not_from(bundle.folder))
        preparation = _preparation(bundle, source, folder)
        name = running.chosen_format(bundle, form, run_programs=run_programs)
        batches = running.limited(preparation.read(source, batch), limit)
        first = next(batches, None)
        if first is None:
            raise DataError(f"{source}: there is nothing in it to predict.")
        predict = running.loaded(bundle, name, threads)
        answers = running.answers(predict, bundle.manifest, chain([first], batches), preparation.tell)
        yield Predictions(bundle.folder, name, answers)


def _preparation(bundle: ModelBundle, source: Path, import_from: str | None) -> Preparation:
    """What reads ``source``: the objective, or arrays by name."""
    _check_readable(source)
    inputs, name = bundle.manifest.inputs, source.name.lower()
    is_npz = source.is_file() and name.endswith(arrays.SUFFIX)
    if is_npz and arrays.means_inputs(source, inputs):
        return RawArrays(inputs, _words(bundle, import_from))
    try:
        found = _of_objective(bundle, import_from)
    except UserError:
        if is_npz:
            return RawArrays(inputs)  # which says what is missing in it
        raise
    if source.is_dir() or name.endswith(found.suffixes):
        return found
    if is_npz:
        return RawArrays(inputs)
    known = ", ".join(dict.fromkeys([*found.suffixes, arrays.SUFFIX]))
    raise DataError(
        f"{source}: a model of {bundle.manifest.objective} reads files that end in {known} ({found.accepts}; or "
        f"{arrays.ACCEPTS}); this one ends in {source.suffix or 'nothing'}."
    )


def _words(bundle: ModelBundle, import_from: str | None) -> Tell | None:
    """How the objective tells outputs; None where it does not, or is code that nobody has vouched for."""
    if ":" in bundle.manifest.objective and import_from is None:
        return None
    try:
        return _of_objective(bundle, import_from).tell
    except UserError:
        return None


def _of_objective(bundle: ModelBundle, import_from: str | None) -> Preparation:
    manifest = bundle.manifest
    try:
        objective = registry.find(manifest.objective, import_from)
    except UserError as error:
        if ":" in manifest.objective and import_from is None:
            raise UserError(f"{error} Give --import-from the folder of its module, if you trust it.") from error
        raise
    if not isinstance(objective, TrainingObjective):
        raise UserError(f"{manifest.objective} trains no model, so it reads no files for one.")
    return objective.preparation(dict(manifest.params), manifest.facts, bundle.folder / ASSETS)


def _trusted(import_from: Path | None, bundle: ModelBundle) -> str | None:
    bundle.refuse_inside(import_from)
    return None if import_from is None else str(import_from.resolve())


def _check_readable(source: Path) -> None:
    try:
        if source.is_dir():
            os.scandir(source).close()
            return
        with source.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}.") from error
    if is_empty:
        raise DataError(f"{source} is empty; there is nothing in it to predict.")
