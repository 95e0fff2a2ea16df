"""PyTorch's side of an export: loading weights, real rows, and one call by names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from hpo.errors import ExportFailed
from hpo.export.formats import Arrays, Predict
from hpo.training.task import Split


class NamedOutputs(nn.Module):
    """A model whose tensor, tuple or dict of outputs comes as one tuple in the order of ``names``."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return in_order(self.model(*inputs), self.names)


def in_order(value: Any, names: Sequence[str]) -> tuple[Tensor, ...]:
    """A model's outputs as a tuple; half-precision ones as float32.

    Raises:
        ExportFailed: they are not one tensor per name.
    """
    if isinstance(value, Tensor):
        found: tuple[Any, ...] = (value,)
    elif isinstance(value, Mapping):
        if not set(names) <= set(value):
            raise ExportFailed(
                f"Task.outputs must be among what the model returns, {sorted(map(str, value))}; it says {list(names)}."
            )
        found = tuple(value[name] for name in names)
    elif isinstance(value, tuple | list):
        found = tuple(value)
    else:
        found = ()
    if len(found) != len(names) or not all(isinstance(v, Tensor) for v in found):
        kinds = [type(v).__name__ for v in found] or type(value).__name__
        raise ExportFailed(
            f"The model must return one tensor for each of Task.outputs, {list(names)}; it returns {kinds}. "
            "Return a tensor, a tuple or a dict of tensors, and name them all."
        )
    return tuple(v.float() if v.dtype in (torch.bfloat16, torch.float16) else v for v in found)


def predictor(model: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[str]) -> Predict:
    """The model as a function from arrays by name to arrays by name."""

    @torch.inference_mode()
    def predict(arrays: Mapping[str, Any]) -> Arrays:
        values = in_order(model(*(torch.from_numpy(arrays[name]) for name in inputs)), outputs)
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}

    return predict


def load_weights_strictly(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make ``model`` fp32, in eval mode, on the CPU, with exactly ``weights``; in place.

    It becomes fp32 first, so that fp32 weights of a model trained in bf16 keep their digits.

    Raises:
        ExportFailed: names or shapes differ; the message lists which.
    """
    model.to("cpu").float().eval()
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unknown = sorted(weights.keys() - own.keys())
    other = [
        f"{name} {tuple(weights[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and isinstance(value, Tensor) and weights[name].shape != value.shape
    ]
    if missing or unknown or other:
        parts = [
            f"{what}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
            for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other))
            if names
        ]
        raise ExportFailed(
            f"The weights must be those of this very model; {'; '.join(parts)}. "
            "Build the model with the parameters of the trial that left the weights."
        )
    model.load_state_dict(dict(weights), strict=True)


def first_rows(split: Split, count: int, inputs: Sequence[str]) -> tuple[Tensor, ...]:
    """The inputs of the first ``count`` rows, one tensor (count, ...) per name; floats as float32.

    A shorter split is gone through again from its start, so that the batch is always full.

    Raises:
        ExportFailed: the split is empty, or its rows have another number of inputs.
    """
    if len(split) == 0:
        raise ExportFailed("An export stores real validation rows; the validation split is empty.")
    places = [i % len(split) for i in range(count)]
    if isinstance(split.data, tuple):
        columns = [column[places] for column in split.data[:-1]]
    else:
        collate = split.collate or default_collate
        columns = list(collate([split.data[i] for i in places]))[:-1]
    if len(columns) != len(inputs):
        raise ExportFailed(
            f"Task.inputs must name every input of a row; a validation row has {len(columns)}, "
            f"the names are {list(inputs)}."
        )
    return tuple((c.float() if c.is_floating_point() else c).cpu().contiguous() for c in columns)
