"""``torch.export``: one file of PyTorch's own operators with open lengths, for PyTorch without the model's code.

``torch.export.load`` of PyTorch 2.13 unpickles, compiles and evaluates what a file asks for
(torch/export/pt2_archive/_package.py). What is written here has no pickled part, but a file from
elsewhere may, so the format counts as a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpo.export.formats import Predict, Subject
from hpo.export.formats._program import exported, load_names, save

packages = ("torch",)
is_eager = False
is_program = True
largest_error = None
unverified = None
FILE = "model.pt2"


def write(subject: Subject, folder: Path) -> None:
    """Save the captured program without its example.

    Raises:
        ExportFailed: what ``exported`` says.
        OSError: the file cannot be written.
    """
    save(exported(subject), folder / FILE, subject)


def load(folder: Path, threads: int = 1) -> Predict:
    """The program as a function of arrays by name."""
    import torch

    from hpo.export.forward import predictor

    torch.set_num_threads(threads)
    inputs, outputs = load_names(folder / FILE)
    return predictor(torch.export.load(folder / FILE).module(check_guards=False), inputs, outputs)


def usage(folder: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    feed = ", ".join(f"torch.from_numpy(example[{'inputs.' + name!r}])" for name in inputs)
    return f"""\
import torch

model = torch.export.load("{folder}/{FILE}").module()
with torch.inference_mode():
    results = model({feed})
for name, value in zip({list(outputs)!r}, results):
    print(name, value.numpy().dtype, tuple(value.shape))
"""
