"""Pretrained weights from a file: tensors by name, nothing in it is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMATS = (".safetensors", ".pt", ".pth", ".bin")
_SHOWN = 5


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or plain PyTorch file by name.

    Raises:
        DataError: it is neither.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has a dozen ways to say it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"data: weights: {path} cannot be read as tensors by name: {reason}") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise DataError(f"data: weights: {path} must hold tensors by name (a state_dict).")
    return dict(found)


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], source: str, *, own: Collection[str] = (), remedy: str
) -> None:
    """Put ``weights`` into ``model``, in place.

    Args:
        own: names that the model may keep as they are, where the file has none of them or others.

    Raises:
        DataError: a name is missing or unknown, or a shape is another; with counts and the
            first ones, and ``remedy``.
    """
    state = model.state_dict()
    usable = {
        name: value
        for name, value in weights.items()
        if name not in own or (name in state and state[name].shape == value.shape)
    }
    wrong = {
        "missing": sorted(state.keys() - usable.keys() - set(own)),
        "unknown": sorted(usable.keys() - state.keys()),
        "of another shape": sorted(n for n, v in usable.items() if n in state and state[n].shape != v.shape),
    }
    told = [f"{len(names)} {what} ({', '.join(names[:_SHOWN])})" for what, names in wrong.items() if names]
    if told:
        raise DataError(f"data: weights: {source} must be those of this model; {'; '.join(told)}. {remedy}")
    model.load_state_dict(usable, strict=False)
