"""TorchScript by trace: what the forward decides in Python is decided once and for all.

The check at several batch sizes and lengths finds what should have stayed open; a forward that decides
by the values of a tensor, which no stored row need show, is refused.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from hpo.errors import ExportFailed
from hpo.export.formats import Subject
from hpo.export.formats._program import is_decided_by_values
from hpo.export.formats._torchscript import load, save, usage

__all__ = ["is_eager", "is_program", "largest_error", "load", "packages", "unverified", "usage", "write"]

packages = ("torch",)
is_eager = False
is_program = True
largest_error = None
unverified = None


def write(subject: Subject, folder: Path) -> None:
    """Trace and save.

    Raises:
        ExportFailed: the forward decides by the values of a tensor; a trace keeps one way only.
        OSError: the file cannot be written.
        Exception: whatever torch.jit says of a model it cannot trace.
    """
    import torch

    from hpo.export.forward import NamedOutputs

    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        model = NamedOutputs(subject.model, subject.outputs)
        traced = torch.jit.trace(model, subject.example, check_trace=False)
    # The tracer warns of sizes, too, which it keeps; torch.export can tell them from values.
    is_suspect = any(issubclass(one.category, torch.jit.TracerWarning) for one in said)
    if is_suspect and is_decided_by_values(subject):
        raise ExportFailed(
            "A trace keeps one way through the forward, and this one decides by the values of a tensor. "
            "Ship torchscript_script, which keeps both."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        save(traced, subject, folder)
