"""The program that ``torch.export`` captures of a model: made once, and shared by the formats that start from it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import ExportFailed
from hpo.export.formats import Subject

if TYPE_CHECKING:
    from torch.export import ExportedProgram

SHARED = "exported program"  # its key in Subject.shared
NAMES = "hpo.json"  # an extra file inside a saved program
NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def exported(subject: Subject) -> ExportedProgram:
    """The model captured with its open axes; its notes on source lines and paths of this machine are dropped.

    Raises:
        ExportFailed: torch.export cannot follow the forward, or an axis that must be open is fixed.
            The same for every format that asks.
    """
    if SHARED not in subject.shared:
        try:
            subject.shared[SHARED] = _capture(subject)
        except Exception as error:  # whatever the model's own forward throws
            subject.shared[SHARED] = ExportFailed(_sentence(error))
    found = subject.shared[SHARED]
    if isinstance(found, ExportFailed):
        raise found
    return found


def save(program: ExportedProgram, path: Path, subject: Subject, *, example: bool = False) -> None:
    """Write the program with the names of inputs and outputs; with its ``example``, which is a pickle, only if asked.

    Raises:
        OSError: the file cannot be written.
    """
    import torch

    program.example_inputs = (subject.example, {}) if example else None
    buffer = io.BytesIO()  # the library reports a full disk as errors of its own
    with quiet():
        torch.export.save(program, buffer, extra_files={NAMES: json.dumps([subject.inputs, subject.outputs])})
    path.write_bytes(buffer.getvalue())


def load_names(path: Path) -> tuple[list[str], list[str]]:
    """The names of inputs and outputs in a saved program."""
    with zipfile.ZipFile(path) as archive:
        part = next(name for name in archive.namelist() if name.endswith(f"/{NAMES}"))
        inputs, outputs = json.loads(archive.read(part))
    return inputs, outputs


def is_decided_by_values(subject: Subject) -> bool:
    """Whether the forward takes one way or another by what stands in a tensor, which a capture cannot keep."""
    try:
        exported(subject)
    except ExportFailed as error:
        return str(error) == DECIDED
    return False


def _capture(subject: Subject) -> ExportedProgram:
    import torch
    from torch.export import Dim

    from hpo.export.forward import NamedOutputs

    model = NamedOutputs(subject.model, subject.outputs)
    # The one-element tuple outside is for the ``*inputs`` of NamedOutputs.forward. DYNAMIC, unlike a named
    # Dim, allows a length that the model bounds, as by its table of positions.
    shapes = (tuple(dict.fromkeys(axes, Dim.DYNAMIC) for axes in subject.axes),)
    with quiet(), _plain_attention():
        try:
            program = torch.export.export(model, subject.example, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            try:  # Python's bytecode read instead of run: it keeps an int(x.shape[1]) open
                program = torch.export.export(model, subject.example, dynamic_shapes=shapes, strict=True)
            except Exception:  # the first way is the usual one, and its words are of the model's own lines
                raise error from None
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for note in NOTES:
                node.meta.pop(note, None)
    return program


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Encoder layers as the operators they stand for: of the one fused operator only PyTorch itself knows."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


DECIDED = (
    "torch.export cannot follow a forward that decides by the values of a tensor. Write it with torch.where or "
    "torch.cond, or ship torchscript_script."
)


def _sentence(error: Exception) -> str:
    """What went wrong, without the advice and the program around it."""
    text = str(error)
    if re.search(r"GuardOnDataDependent|data-dependent", f"{type(error).__name__} {text}"):
        return DECIDED
    fixed = re.search(r"marked (.+?) as dynamic but your code specialized it to be a constant \((\d+)\)", text)
    if fixed:
        return (
            f"torch.export: an axis that must be open, {fixed[1]}, is fixed to {fixed[2]} by the model. "
            "Let its forward take the length from the tensor it gets."
        )
    return f"torch.export: {text.strip()}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters print progress, whole programs and advice, and warn about themselves and others."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    dropped = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(dropped), contextlib.redirect_stderr(dropped), warnings.catch_warnings(),
        ):  # fmt: skip
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
