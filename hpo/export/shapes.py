"""Which lengths of a model's tensors are free: of its inputs by the task's word, of its outputs by observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.errors import ExportFailed
from hpo.export.example import Case, StoredExample, lengths
from hpo.export.formats import Arrays
from hpo.export.manifest import TensorFacts

BATCH = "batch"
Axes = Mapping[int, str]


def open_axes(inputs: Arrays, task_axes: Sequence[Axes]) -> dict[str, Axes]:
    """``Task.open_axes`` by the name of the input; nothing is open where the task names none.

    Raises:
        ExportFailed: there is not one entry for each input, an axis is not there or is the batch,
            or a name is no identifier or stands for two lengths in these rows.
    """
    if not task_axes:
        return {name: {} for name in inputs}
    if len(task_axes) != len(inputs):
        raise ExportFailed(
            f"Task.open_axes must have an entry for each of the {len(inputs)} inputs, {{}} where none is open; "
            f"it has {len(task_axes)}."
        )
    axes = dict(zip(inputs, task_axes, strict=True))
    for key, own in axes.items():
        for axis, name in own.items():
            _check_axis(key, inputs[key].ndim, axis, name)
    found = lengths(inputs, axes)
    for key, own in axes.items():
        for axis, name in own.items():
            if inputs[key].shape[axis] != found[name]:
                raise ExportFailed(
                    f"Axes of one name in Task.open_axes must be of one length; {name!r} is {inputs[key].shape[axis]} "
                    f"in {key!r} and {found[name]} in another input. Give them names of their own."
                )
    return axes


def _check_axis(key: str, ndim: int, axis: int, name: str) -> None:
    if not 1 <= axis < ndim:
        raise ExportFailed(
            f"Task.open_axes counts axes from 1, beside the batch; input {key!r} has axes up to {ndim - 1}, got {axis}."
        )
    if not name.isidentifier() or name == BATCH:
        raise ExportFailed(f"A name in Task.open_axes must be an identifier other than {BATCH!r}; got {name!r}.")


def input_facts(example: StoredExample, axes: Mapping[str, Axes]) -> tuple[TensorFacts, ...]:
    """Each input with the names of its open axes in place of their lengths."""
    found = []
    for key, value in example.inputs.items():
        named = {0: BATCH, **axes[key]}
        shape = tuple(named.get(axis, size) for axis, size in enumerate(value.shape))
        found.append(TensorFacts(name=key, dtype=str(value.dtype), shape=shape))
    return tuple(found)


def output_facts(example: StoredExample, axes: Mapping[str, Axes]) -> tuple[TensorFacts, ...]:
    """Each output; a length that follows a cut input, or the number of rows, has that name in its place."""
    full = example.most
    few = min(example.cases, key=lambda case: case.rows)
    whole = lengths(example.inputs, axes)
    found = []
    for key, value in full.outputs.items():
        shape: list[int | str] = list(value.shape)
        for case in example.cuts:
            ((name, length),) = case.lengths.items()
            beside = _same_rows(example, case).outputs[key].shape
            for axis, cut in enumerate(case.outputs[key].shape):
                if cut != beside[axis]:
                    shape[axis] = name if (beside[axis], cut) == (whole[name], length) else f"by {name}"
        if shape and few.outputs[key].shape[0] != value.shape[0] == full.rows:
            shape[0] = BATCH
        found.append(TensorFacts(name=key, dtype=str(value.dtype), shape=tuple(shape)))
    return tuple(found)


def _same_rows(example: StoredExample, cut: Case) -> Case:
    return next(case for case in example.cases if case.rows == cut.rows and not case.lengths)
