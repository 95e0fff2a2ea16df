"""ONNX: one file, named inputs and outputs, the batch and all of ``Task.open_axes`` open. Runs without PyTorch."""

from __future__ import annotations

from pathlib import Path

from hpo.export.formats import Subject
from hpo.export.formats._onnx import load, usage, write_graph

__all__ = ["is_eager", "is_program", "largest_error", "load", "packages", "unverified", "usage", "write"]

packages = ("onnxruntime",)
is_eager = False
is_program = False
largest_error = None
unverified = None


def write(subject: Subject, folder: Path) -> None:
    """One ``model.onnx`` in fp32; it raises what ``write_graph`` raises."""
    write_graph(subject, folder)
