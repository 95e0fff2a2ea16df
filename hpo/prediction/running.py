"""A bundle's model, run over rows in batches: onnxruntime alone, unless another format is asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.errors import BundleError, DataError, HpoError, UnknownName
from hpo.export import formats
from hpo.export.bundle import ModelBundle
from hpo.export.formats import Predict
from hpo.export.manifest import FormatEntry, Manifest
from hpo.export.verify import UNASKED
from hpo.prediction.checking import checked
from objectives.prediction import Arrays, Rows

_RUNTIME = "onnxruntime"
_FIRST = "onnx"
Tell = Callable[[Rows, Arrays], list[dict[str, Any]]]


@dataclass(frozen=True)
class Answer:
    """What the model said of some rows: as arrays, and as a JSON object for each."""

    rows: Rows
    outputs: Arrays
    told: Sequence[dict[str, Any]]


def chosen_format(bundle: ModelBundle, name: str | None = None, *, run_programs: bool = False) -> str:
    """The format to run: ``name``, else ``onnx``, else another one that needs onnxruntime alone.

    Raises:
        UnknownName: the bundle knows no such format. BundleError: it did not ship, is a program without
            ``run_programs``, or none runs on onnxruntime.
    """
    entries = bundle.manifest.formats
    shipped = {name: entry for name, entry in entries.items() if entry.released}
    if name is not None:
        if name not in entries:
            raise UnknownName("format of this bundle", name, shipped)
        if name not in shipped:
            raise BundleError(f"Bundle {bundle.folder}: {name} did not ship. {entries[name].reason or ''}".rstrip())
        if formats.find(name).is_program and not run_programs:
            raise BundleError(f"{name} is not loaded. {UNASKED}")
        return name
    light = [name for name, entry in shipped.items() if _is_light(entry)]
    if not light:
        held = ", ".join(shipped) or "none"
        raise BundleError(
            f"Bundle {bundle.folder} has no format that onnxruntime runs; it has {held}. Name one with --format, which "
            "loads what that needs, such as torch."
        )
    return _FIRST if _FIRST in light else light[0]


def _is_light(entry: FormatEntry) -> bool:
    return set(entry.packages) == {_RUNTIME} and entry.unverified is None


def loaded(bundle: ModelBundle, name: str, threads: int = 1) -> Predict:
    """The model in the format ``name``, on so many CPU threads.

    Raises:
        BundleError: it cannot be loaded on this machine.
    """
    try:
        return formats.find(name).load(bundle.folder / "formats" / name, threads)
    except ModuleNotFoundError as error:
        raise BundleError(f"The format {name} needs the package {error.name}: pip install {error.name}") from error
    except HpoError:
        raise
    except Exception as error:  # onnxruntime and torch have exceptions of their own for files they cannot read
        raise BundleError(f"Bundle {bundle.folder}: {name} cannot be loaded here: {_first_line(error)}") from error


def answers(predict: Predict, manifest: Manifest, batches: Iterator[Rows], tell: Tell) -> Iterator[Answer]:
    """What the model says of each batch.

    Raises:
        DataError: rows are not what the manifest asks for, or the model cannot run them (a token that it does not
            know, a sequence longer than it takes); or what ``batches`` and ``tell`` raise.
    """
    names = [tensor.name for tensor in manifest.outputs]
    for batch in batches:
        rows = checked(batch, manifest.inputs)
        try:
            said = predict(rows.inputs)
        except Exception as error:  # as above: each runtime has its own
            raise DataError(
                f"The model could not run the rows {rows.ids[0]} to {rows.ids[-1]}: {_first_line(error)}"
            ) from error
        outputs = {name: said[name] for name in names}
        yield Answer(rows, outputs, tell(rows, outputs))


def limited(batches: Iterator[Rows], limit: int | None) -> Iterator[Rows]:
    """The first ``limit`` rows; None: all."""
    left = limit
    for batch in batches:
        if left is not None and len(batch.ids) >= left:
            if left:
                yield Rows(batch.ids[:left], _first(batch.inputs, left), _first(batch.beside, left))
            return
        left = None if left is None else left - len(batch.ids)
        yield batch


def _first(arrays: Arrays, rows: int) -> Arrays:
    return {name: value[:rows] for name, value in arrays.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
