"""TorchScript by script: the forward's code itself, branches and loops included, in TorchScript's part of Python."""

from __future__ import annotations

import contextlib
import re
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import ExportFailed
from hpo.export.formats import Subject
from hpo.export.formats._torchscript import load, save, usage

if TYPE_CHECKING:
    from torch import nn

__all__ = ["is_eager", "is_program", "largest_error", "load", "packages", "unverified", "usage", "write"]

packages = ("torch",)
is_eager = False
is_program = True
largest_error = None
unverified = None


def write(subject: Subject, folder: Path) -> None:
    """Compile and save; the file returns what the model does: a tensor, a tuple or a dict of tensors.

    Raises:
        ExportFailed: the forward uses Python that TorchScript does not have; the message says what and where.
        OSError: the file cannot be written.
    """
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        try:
            with _annotated(subject.model):
                scripted = torch.jit.script(subject.model)
        except Exception as error:  # errors of its own kinds, and whatever a class of the model throws while it is read
            raise ExportFailed(
                f"The forward must be within TorchScript's part of Python; {_sentence(error)}. "
                "Ship torchscript or torch_export, which run the forward instead of reading it."
            ) from error
        save(scripted, subject, folder)


@contextlib.contextmanager
def _annotated(model: nn.Module) -> Iterator[None]:
    """Annotations of attributes as types: TorchScript does not understand the text that __future__ makes of them."""
    told = []
    for module in model.modules():
        with contextlib.suppress(Exception):  # a name that is only there for type checkers: TorchScript will say so
            if hints := typing.get_type_hints(type(module)):
                module.__annotations__ = hints
                told.append(module)
    try:
        yield
    finally:
        for module in told:
            del module.__annotations__


def _sentence(error: Exception) -> str:
    """The first line that TorchScript says, and the line of code it points at."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    first = lines[0].strip().rstrip(".:").removesuffix(" at") if lines else type(error).__name__
    marked = next((i for i, line in enumerate(lines) if "~" in line and "HERE" in line), 0)
    first = re.sub(r" at 0x[0-9a-f]+", "", first)
    return f"{first}, at: {lines[marked - 1].strip()}" if marked else first
