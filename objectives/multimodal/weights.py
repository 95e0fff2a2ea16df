"""Pretrained weights: the tensors of whole parts, from a file, into the model."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from hpo.errors import DataError
from hpo.training.weights import load_weights, read_weights


def load_parts(model: nn.Module, path: str) -> None:
    """Put the tensors of a file into ``model``, in place; parts that it has none of stay as they are.

    Names are those of the model (``text.tokens.weight``); of a part either all or none may
    be there. The fusion is one more part.

    Raises:
        DataError: the file cannot be read, or a name is unknown or missing, or a shape is another.
    """
    weights = read_weights(Path(path))
    if not weights:
        raise DataError(f"data: weights: {path} is empty; it must hold whole parts: text, graph, cube or fusion.")
    given = {name.partition(".")[0] for name in weights}
    others = {name for name in model.state_dict() if name.partition(".")[0] not in given}
    remedy = "Choose the preset and the modalities that they belong to."
    load_weights(model, weights, path, own=others, remedy=remedy)
