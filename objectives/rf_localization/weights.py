"""Pretrained weights of the backbone, from a file of tensors by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hpo.errors import DataError

_PREFIXES = ("convnext.", "backbone.")  # of a whole classifier of transformers, of a model of ours


def load_backbone(backbone: nn.Module, path: str) -> None:
    """Put the tensors of ``path`` into ``backbone``; those of a head beside it are left out.

    Raises:
        DataError: it is no file of tensors, one is missing, or has another shape.
    """
    found = {_bare(name): tensor for name, tensor in _tensors(Path(path)).items()}
    wanted = backbone.state_dict()
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"data: weights: {path} lacks {len(missing)} of {len(wanted)} tensors of the backbone, first {missing[0]}. "
            "It must be a ConvNeXt as transformers names it."
        )
    other = [name for name in wanted if found[name].shape != wanted[name].shape]
    if other:
        had, need = tuple(found[other[0]].shape), tuple(wanted[other[0]].shape)
        raise DataError(
            f"data: weights: {path}: {len(other)} tensors have another shape, first {other[0]}: {had} instead of "
            f"{need}. Choose the preset that the weights belong to."
        )
    backbone.load_state_dict({name: found[name] for name in wanted})


def _bare(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors have a dozen ways to say it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"data: weights: {path} cannot be read: {reason}") from error
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DataError(f"data: weights: {path} must hold tensors by name; it holds {type(tensors).__name__}.")
    return tensors
