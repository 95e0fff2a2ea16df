"""TorchScript: one file that PyTorch runs from Python or C++ without the code of the model.

The model is traced, so what its forward decides in Python is decided once and for all; the check at
several batch sizes and lengths finds what should have stayed open.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.export.formats import Arrays, Predict, Subject

packages = ("torch",)
is_eager = False
largest_error = None
FILE = "model.pt"
NAMES = "hpo.json"  # an extra file inside model.pt


def write(subject: Subject, folder: Path) -> None:
    """Trace and save, with the names of inputs and outputs inside.

    Raises:
        OSError: the file cannot be written.
        Exception: whatever torch.jit says of a model it cannot trace.
    """
    import torch

    from hpo.export.forward import NamedOutputs

    names = {"inputs": subject.inputs, "outputs": subject.outputs}
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and every shape that is read is warned about
        traced = torch.jit.trace(NamedOutputs(subject.model, subject.outputs), subject.example, check_trace=False)
        torch.jit.save(traced, buffer, _extra_files={NAMES: json.dumps(names)})
    _save_stripped(buffer, folder / FILE)


def load(folder: Path) -> Predict:
    """The traced model on one thread, as a function of arrays by name."""
    import torch

    torch.set_num_threads(1)
    extra: dict[str, Any] = {NAMES: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(str(folder / FILE), map_location="cpu", _extra_files=extra)
    names = json.loads(extra[NAMES])

    @torch.inference_mode()
    def predict(arrays: Mapping[str, Any]) -> Arrays:
        values = model(*(torch.from_numpy(arrays[name]) for name in names["inputs"]))
        return {name: value.numpy() for name, value in zip(names["outputs"], values, strict=True)}

    return predict


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"torch.from_numpy(example[{'inputs.' + name!r}])" for name in inputs)
    return f"""\
import torch

model = torch.jit.load("{folder}/{FILE}")
with torch.inference_mode():
    results = model({feed})
for name, value in zip({list(outputs)!r}, results):
    print(name, value.numpy().dtype, tuple(value.shape))
"""


def _save_stripped(archive: io.BytesIO, path: Path) -> None:
    """Without the tracer's notes: they hold source lines and paths of the machine it ran on."""
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as stripped:
        for name in whole.namelist():
            if not name.endswith(".debug_pkl"):
                stripped.writestr(zipfile.ZipInfo(name), whole.read(name))
