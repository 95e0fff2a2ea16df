"""The folder of ``save_pretrained``: what every tool around ``transformers`` reads, tokenizer included.

For models that offer ``save_pretrained(folder)`` themselves; a wrapper passes the call on. The
inputs of the task are then arguments of that model's ``forward``, its outputs fields of what it returns.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.errors import ExportFailed
from hpo.export.formats import Arrays, Predict, Subject
from hpo.export.formats._disk import system_errors

packages = ("torch", "transformers")
is_eager = True
is_program = False
largest_error = None
unverified = None
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
OUTPUTS = "outputs.json"  # ours: which of what the model returns are the task's outputs


def write(subject: Subject, folder: Path) -> None:
    """Let the model leave its folder, and see that it has what ``load`` needs.

    Raises:
        ExportFailed: the model has no ``save_pretrained``, or leaves no config or no safetensors file.
        OSError: a file cannot be written.
    """
    save = getattr(subject.model, "save_pretrained", None)
    if save is None:
        raise ExportFailed(
            "The model must offer save_pretrained(folder), as those of transformers do; "
            f"{type(subject.model).__name__} does not. Ship another format."
        )
    with system_errors(folder), contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar
        save(str(folder))
    if not _architectures(folder):
        raise ExportFailed(f"save_pretrained must leave a {CONFIG} that names its architectures.")
    if not list(folder.glob("*.safetensors")):
        raise ExportFailed(f"save_pretrained must leave its weights as safetensors, such as {WEIGHTS}.")
    (folder / OUTPUTS).write_text(json.dumps(subject.outputs), "utf-8")


def load(folder: Path, threads: int = 1) -> Predict:
    """The model of the class that the config names; from these files alone.

    Raises:
        ExportFailed: transformers is not installed, or does not know the class.
        Exception: whatever transformers says of files that it cannot read.
    """
    import torch

    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ExportFailed("It is read by transformers: pip install 'hpo[language]'.") from error
    torch.set_num_threads(threads)
    name = _architectures(folder)[0]
    if not hasattr(transformers, name):
        raise ExportFailed(f"transformers {transformers.__version__} has no model {name}.")
    kind = getattr(transformers, name)
    safely = {"local_files_only": True, "trust_remote_code": False}  # else it asks to run the folder's code
    model = kind.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32, **safely).eval()
    if (folder / "tokenizer_config.json").is_file():
        transformers.AutoTokenizer.from_pretrained(str(folder), **safely)  # a folder must be usable whole
    outputs = json.loads((folder / OUTPUTS).read_text("utf-8"))

    @torch.inference_mode()
    def predict(arrays: Mapping[str, Any]) -> Arrays:
        said = model(**{name: torch.from_numpy(array) for name, array in arrays.items()})
        return {name: said[name].numpy() for name in outputs}

    return predict


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"{name}=torch.from_numpy(example[{'inputs.' + name!r}])" for name in inputs)
    return f"""\
import torch, transformers

config = transformers.AutoConfig.from_pretrained("{folder}")
model = getattr(transformers, config.architectures[0]).from_pretrained("{folder}").eval()
with torch.inference_mode():
    results = model({feed})
for name in {list(outputs)!r}:
    print(name, results[name].numpy().dtype, tuple(results[name].shape))
"""


def _architectures(folder: Path) -> list[str]:
    file = folder / CONFIG
    return json.loads(file.read_text("utf-8")).get("architectures") or [] if file.is_file() else []
