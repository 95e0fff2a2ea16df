"""What the formats of ONNX share: the graph, a session that runs it, and the lines that do so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.errors import ExportFailed
from hpo.export.formats import Arrays, Predict, Subject
from hpo.export.formats._program import exported, quiet

FILE = "model.onnx"


def write_graph(subject: Subject, folder: Path) -> Path:
    """Export the captured program with ``torch.onnx``, weights and buffers inside, and check the file.

    Raises:
        ExportFailed: torch.export or torch.onnx cannot take the model, the file's inputs or outputs
            are not the task's, or an axis that must be open is fixed.
        Exception: whatever onnx.checker says of the file.
    """
    import onnx

    path = folder / FILE
    if FILE not in subject.shared:
        _export(subject, path)
        model = onnx.load(str(path))
        _strip(model)
        onnx.checker.check_model(model, full_check=True)
        _check_signature(model, subject)
        subject.shared[FILE] = model
    onnx.save(subject.shared[FILE], str(path))
    return path


def _export(subject: Subject, path: Path) -> None:
    import torch

    program = exported(subject)
    # The one-element tuple outside is for the ``*inputs`` of NamedOutputs.forward.
    names = (tuple(dict(axes) for axes in subject.axes),)
    try:
        with quiet():
            torch.onnx.export(
                program,
                (),
                str(path),
                input_names=list(subject.inputs),
                output_names=list(subject.outputs),
                dynamic_shapes=names,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportFailed(f"ONNX: {_summary(error)}") from error


def load(folder: Path, threads: int = 1) -> Predict:
    """An onnxruntime session; dtypes and shapes as in the bundle's example."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def predict(inputs: Mapping[str, Any]) -> Arrays:
        return {name: np.asarray(value) for name, value in zip(names, session.run(names, dict(inputs)), strict=True)}

    return predict


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"{name!r}: example[{'inputs.' + name!r}]" for name in inputs)
    return f"""\
import onnxruntime as ort

session = ort.InferenceSession("{folder}/{FILE}", providers=["CPUExecutionProvider"])
names = {list(outputs)!r}
results = session.run(names, {{{feed}}})
for name, value in zip(names, results):
    print(name, value.dtype, value.shape)
"""


def _strip(model: Any) -> None:
    """Drop the exporter's notes: they hold source lines and paths of the machine it ran on."""
    for thing in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info, *model.functions):
        del thing.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


def _check_signature(model: Any, subject: Subject) -> None:
    found = tuple(i.name for i in model.graph.input), tuple(o.name for o in model.graph.output)
    if found != (subject.inputs, subject.outputs):
        raise ExportFailed(
            f"ONNX: the file's inputs and outputs must be the task's, {subject.inputs} -> {subject.outputs}; "
            f"they are {found[0]} -> {found[1]}. Name in Task.inputs what the model really reads."
        )
    for value, axes in zip(model.graph.input, subject.axes, strict=True):
        dims = value.type.tensor_type.shape.dim
        for axis, name in axes.items():
            if axis >= len(dims) or dims[axis].dim_param != name:
                raise ExportFailed(
                    f"ONNX: the {name} axis of input {value.name!r} (axis {axis}) must be open; the model fixes it. "
                    "Let its forward take the length from the tensor it gets."
                )


def _summary(error: Exception) -> str:
    """What went wrong, without the exporter's advice around it."""
    text = str(error).partition("## Exception summary")[2] or str(error)
    return text.partition("(Refer to the full")[0].strip()
