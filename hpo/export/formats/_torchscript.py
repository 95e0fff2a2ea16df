"""What tracing and scripting share: one file that PyTorch runs from Python or C++ without the code of the model."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.export.formats import Predict, Subject

FILE = "model.pt"
NAMES = "hpo.json"  # an extra file inside model.pt


def save(model: Any, subject: Subject, folder: Path) -> None:
    """Save a ``torch.jit.ScriptModule``, with the names of inputs and outputs inside.

    Raises:
        OSError: the file cannot be written.
    """
    import torch

    names = {"inputs": subject.inputs, "outputs": subject.outputs}
    buffer = io.BytesIO()
    torch.jit.save(model, buffer, _extra_files={NAMES: json.dumps(names)})
    # Without PyTorch's notes: they hold source lines and paths of the machine it ran on.
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(folder / FILE, "w", zipfile.ZIP_STORED) as stripped:
        for name in whole.namelist():
            if not name.endswith(".debug_pkl"):
                stripped.writestr(zipfile.ZipInfo(name), whole.read(name))


def load(folder: Path, threads: int = 1) -> Predict:
    """The saved model as a function of arrays by name."""
    import torch

    from hpo.export.forward import predictor

    torch.set_num_threads(threads)
    extra: dict[str, Any] = {NAMES: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(str(folder / FILE), map_location="cpu", _extra_files=extra)
    names = json.loads(extra[NAMES])
    return predictor(model, names["inputs"], names["outputs"])


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"torch.from_numpy(example[{'inputs.' + name!r}])" for name in inputs)
    return f"""\
import torch

model = torch.jit.load("{folder}/{FILE}")
with torch.inference_mode():
    results = model({feed})
names = {list(outputs)!r}
if isinstance(results, dict):
    results = [results[name] for name in names]
for name, value in zip(names, [results] if torch.is_tensor(results) else results):
    print(name, value.numpy().dtype, tuple(value.shape))
"""
