"""ONNX: one file, named inputs and outputs, the batch dimension open. Runs without PyTorch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.errors import ExportFailed
from hpo.export.formats import Arrays, Predict, Subject

packages = ("onnxruntime",)
is_eager = False
FILE = "model.onnx"


def write(subject: Subject, folder: Path) -> None:
    """Export with ``torch.onnx`` (dynamo), weights and buffers inside, and check the file.

    Raises:
        ExportFailed: the file's inputs or outputs are not the task's, or a batch is fixed.
        Exception: whatever torch.onnx or onnx.checker says of a model they cannot take.
    """
    import onnx
    import torch

    from hpo.export.forward import NamedOutputs

    # A named Dim, unlike Dim.AUTO, makes the export fail where the model fixes the batch.
    # The one-element tuple outside is for the ``*inputs`` of NamedOutputs.forward.
    batch = torch.export.Dim("batch")
    shapes = (tuple({0: batch} for _ in subject.example),)
    path = folder / FILE
    with _quiet():
        torch.onnx.export(
            NamedOutputs(subject.model, subject.outputs),
            subject.example,
            str(path),
            input_names=list(subject.inputs),
            output_names=list(subject.outputs),
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(str(path))
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    _check_signature(model, subject)
    onnx.save(model, str(path))


def load(folder: Path) -> Predict:
    """An onnxruntime session on one thread; dtypes and shapes as in the bundle's example."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
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
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if not dims or not dims[0].dim_param:
            raise ExportFailed(f"ONNX: the batch dimension of input {value.name!r} must be open; it is fixed.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress to stdout, where our data goes, and warns about itself and torchvision."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
