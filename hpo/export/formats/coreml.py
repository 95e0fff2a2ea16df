"""Core ML: a ``.mlpackage`` for Apple's systems, fp32. It is converted here; only macOS and iOS can run it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.errors import ExportFailed
from hpo.export.formats import Predict, Subject
from hpo.export.formats._program import exported, quiet

packages = ("coremltools",)
is_eager = False
is_program = False
largest_error = None
unverified = "Core ML runs on Apple's systems only; the model was converted, and nobody has run it or compared it."
FILE = "model.mlpackage"


def write(subject: Subject, folder: Path) -> None:
    """Convert the captured program; whole numbers go in and come out as int32, of which Core ML is made.

    Raises:
        ExportFailed: coremltools is not installed, or cannot convert the model; or what ``exported`` says.
        OSError: the package cannot be written.
    """
    if importlib.util.find_spec("coremltools") is None:
        raise ExportFailed("Converting needs coremltools: pip install 'hpo[coreml]'.")
    program = exported(subject)
    try:
        with quiet():
            model = _converted(program, subject)
    except Exception as error:  # coremltools throws whatever its passes stumble over
        raise ExportFailed(f"coremltools cannot convert the model: {type(error).__name__}: {error}") from error
    model.save(str(folder / FILE))


def _converted(program: Any, subject: Subject) -> Any:
    import coremltools as ct

    passes = ct.PassPipeline.DEFAULT
    passes.remove_passes({"common::fuse_linear_bias"})  # coremltools 9: an IndexError where a layer has one output
    model = ct.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,  # fp16 by default, which would be another model
        pass_pipeline=passes,
        skip_model_load=True,
    )
    description = model.get_spec()
    for features, names in (
        (description.description.input, subject.inputs), (description.description.output, subject.outputs),
    ):  # fmt: skip
        for feature, name in zip(list(features), names, strict=True):
            ct.utils.rename_feature(description, feature.name, name)
    for feature, axes in zip(description.description.input, subject.axes, strict=True):
        for axis in axes:  # torch.export takes open lengths to be 2 at least; a batch of one is as good
            feature.type.multiArrayType.shapeRange.sizeRanges[axis].lowerBound = 1
    return ct.models.MLModel(description, weights_dir=model.weights_dir, skip_model_load=True)


def load(folder: Path, threads: int = 1) -> Predict:
    """Raises ExportFailed: nothing here runs it."""
    raise ExportFailed(unverified)


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"{name!r}: example[{'inputs.' + name!r}]" for name in inputs)
    return f"""\
import coremltools as ct  # predicting works on macOS only

model = ct.models.MLModel("{folder}/{FILE}")
results = model.predict({{name: value.astype("int32") if value.dtype == "int64" else value
                         for name, value in {{{feed}}}.items()}})
for name in {list(outputs)!r}:
    print(name, results[name].dtype, results[name].shape)
"""
