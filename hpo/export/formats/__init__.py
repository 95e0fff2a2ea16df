"""The formats a model is shipped in, one file each: the listing of this folder is the list, ``_`` aside.

Adding a format is adding a module here with the members of ``Format``; nothing else is
edited. Formats know neither the bundle nor each other, and import what they need where
they use it, so that a process that loads one format loads nothing of the others.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from hpo.errors import UnknownName

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT = ("onnx", "safetensors")  # what is made where nobody names formats

Arrays = dict[str, NDArray[np.generic]]
Predict = Callable[[Mapping[str, NDArray[np.generic]]], Arrays]  # inputs by name -> outputs by name


@dataclass(frozen=True)
class Subject:
    """A model on its way out: fp32, in eval mode, on the CPU, with all it takes to rebuild it.

    ``example`` is a batch of two rows per input. Two, because with a batch of one
    ``torch.export`` takes the 1 for a constant. ``axes`` has for each input the names of its
    open axes, the batch among them. ``facts`` are JSON values. ``shared`` is where formats of
    one family leave what is slow to make again.
    """

    model: nn.Module
    objective: str
    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]
    axes: tuple[Mapping[int, str], ...]
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


class Format(Protocol):
    """What each module in this folder offers.

    ``packages`` are the distributions needed to load it; their versions are kept with the
    bundle. ``is_eager`` says that what is loaded back is the PyTorch model itself, which
    the other formats' speed is then measured beside. ``is_program`` says that loading runs
    what lies in the files, with every right of the process: such a format is loaded where it
    was made, and elsewhere only when somebody asks for it. ``largest_error`` is None for a format
    that must equal PyTorch within the tolerances of the bundle; one that rounds the model says how
    large its relative error may be (``RelativeError``). ``unverified`` is None, or why what
    ``write`` leaves cannot be run by any process here.
    """

    packages: tuple[str, ...]
    is_eager: bool
    is_program: bool
    largest_error: float | None
    unverified: str | None

    def write(self, subject: Subject, folder: Path) -> None:
        """Put the model into ``folder`` (it exists and is empty); all that lies there is shipped.

        Raises:
            ExportFailed: this model cannot be had in this format. Any other exception
                counts as the same.
        """

    def load(self, folder: Path, threads: int = 1) -> Predict:
        """The model that ``write`` left in ``folder``, on so many CPU threads.

        Raises:
            ExportFailed: it cannot be loaded here; the message says what is needed.
        """

    def usage(self, folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
        """Python lines that run the model from the bundle's own folder, for its README.

        They may use ``example``, the opened ``example.npz``; ``folder`` is relative.
        """


def known() -> list[str]:
    """The names of the formats, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(name: str) -> Format:
    """The format called ``name``.

    Raises:
        UnknownName: there is no such file in this folder.
    """
    if name not in known():
        raise UnknownName("export format", name, known())
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))
