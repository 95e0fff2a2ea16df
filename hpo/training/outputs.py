"""What a model gives for a batch: one tensor, or several by name, each with one row a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Output = Tensor | Mapping[str, Tensor]


def each(output: Output, change: Callable[[Tensor], Tensor]) -> Output:
    """``output`` with ``change`` made to its tensor, or to all of them."""
    if isinstance(output, Mapping):
        return {name: change(value) for name, value in output.items()}
    return change(output)


def shapes(output: Any) -> str:
    """``(4, 10)``, or ``logits (4, 10), cube (4, 3)``."""
    if isinstance(output, Mapping):
        return ", ".join(f"{name} {shapes(value)}" for name, value in output.items())
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


def check(output: Any, rows: int) -> None:
    """Refuse what is not one row a sample.

    Raises:
        TypeError: it is neither a tensor nor tensors by name.
        ValueError: a tensor has another number of rows than ``rows``.
    """
    tensors = output.values() if isinstance(output, Mapping) else [output]
    wrong = next((value for value in tensors if not isinstance(value, Tensor)), None)
    if wrong is not None or (isinstance(output, Mapping) and not output):
        raise TypeError(
            "the model must return one tensor, or a mapping of names to tensors, "
            f"not {type(output).__name__}{'' if wrong is output or wrong is None else f' of {type(wrong).__name__}'}"
        )
    for value in tensors:
        if value.ndim == 0 or len(value) != rows:
            raise ValueError(f"there must be one output per sample, {rows} of them")
