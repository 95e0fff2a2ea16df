"""safetensors: every parameter and buffer, and in the header how to build the model for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import ExportFailed
from hpo.export.formats import Predict, Subject
from hpo.export.formats._disk import system_errors

if TYPE_CHECKING:
    from torch import nn

packages = ("torch", "safetensors")
is_eager = True
is_program = False
largest_error = None
unverified = None
FILE = "model.safetensors"
HEADER = "hpo"  # the key of our JSON in the file's own metadata


def write(subject: Subject, folder: Path) -> None:
    """Write the state dict as it is named in PyTorch.

    Raises:
        ExportFailed: the state holds something that is not a tensor.
        OSError: the file cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    state = subject.model.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ExportFailed(f"safetensors holds tensors only; {name!r} is a {type(value).__name__}.")
    header = {
        "objective": subject.objective,
        "params": dict(subject.params),
        "facts": dict(subject.facts),
        "inputs": subject.inputs,
        "outputs": subject.outputs,
        "shapes": {name: list(value.shape) for name, value in state.items()},
    }
    # Cloned one by one: the file format refuses tensors that share memory (tied weights).
    tensors = {name: value.detach().clone().contiguous() for name, value in state.items()}
    metadata = {"format": "pt", HEADER: json.dumps(header, allow_nan=False)}
    with system_errors(folder / FILE):
        save_file(tensors, str(folder / FILE), metadata=metadata)


def load(folder: Path, threads: int = 1) -> Predict:
    """The PyTorch model, built by its objective from parameters and facts: no data is needed.

    Raises:
        UserError: the objective is not installed here.
        ExportFailed: the objective cannot build its model, or builds another one.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    from hpo.export.forward import load_weights_strictly, predictor

    with safe_open(str(folder / FILE), framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    torch.set_num_threads(threads)
    model = _build(header["objective"], header["params"], header["facts"])
    load_weights_strictly(model, load_file(str(folder / FILE)))
    return predictor(model, header["inputs"], header["outputs"])


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"{name!r}: example[{'inputs.' + name!r}]" for name in inputs)
    return f"""\
from pathlib import Path
from hpo.export.formats import safetensors  # needs hpo and the objective that built the model

predict = safetensors.load(Path("{folder}"))
for name, value in predict({{{feed}}}).items():
    print(name, value.dtype, value.shape)
"""


def _build(name: str, params: dict[str, Any], facts: dict[str, Any]) -> nn.Module:
    from objectives.registry import find

    objective = find(name)
    build: Callable[..., nn.Module] | None = getattr(objective, "model", None)
    if build is None:
        raise ExportFailed(
            f"safetensors: the objective {name!r} must provide model(params, facts) to build its model "
            f"again; {type(objective).__name__} has none. Add it, or ship ONNX alone."
        )
    return build(params, facts)
