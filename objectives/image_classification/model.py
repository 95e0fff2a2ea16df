"""The network: pixels as they come, a vision model of transformers or timm, logits.

Normalisation lives inside as buffers, so the exported model takes 8-bit pixels.
Axes in names: B batch, C three channels, S side in pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpo.errors import DataError
from objectives.image_classification.fields import PRETRAINED, Fields
from objectives.image_classification.presets import PRESETS, TIMM


@dataclass(frozen=True)
class Shape:
    """The searchable part: ``dropout`` before the last layer, ``drop_path`` of the deepest block.

    ``drop_path`` is the chance that a sample skips a block (Huang et al. 2016, arXiv
    1603.09382); it rises evenly from 0 at the first block.
    """

    dropout: float = 0.0
    drop_path: float = 0.0


class ImageModel(nn.Module):
    """Logits (B, K) of pixels (B, 3, S, S), uint8 in [0, 255]."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, classes: int, shape: Shape) -> None:
        super().__init__()
        self.net = net
        _drop_before_head(net, classes, shape.dropout)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))

    def normalise_with(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set mean and standard deviation of the channels, of pixels in [0, 1]."""
        self.mean.copy_(torch.tensor(mean).view_as(self.mean))
        self.std.copy_(torch.tensor(std).view_as(self.std))

    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        found = self.net((pixels_BCSS.to(self.mean.dtype) / 255 - self.mean) / self.std)
        return found if isinstance(found, Tensor) else found.logits


def architecture(fields: Fields) -> dict[str, Any]:
    """What ``build`` needs to make the model that ``fields`` name, as JSON values; no folder or hub is read again.

    Raises:
        DataError: the folder or hub page has no configuration of a vision model.
    """
    preset = PRESETS.get(fields.model)
    name = preset.timm if preset else fields.model.removeprefix(TIMM) if fields.model.startswith(TIMM) else ""
    if name:
        return {"timm": name, "side_px": fields.side_px}
    from transformers import AutoConfig

    if preset is not None:
        config = AutoConfig.for_model(preset.kind, **preset.config)
    else:
        try:
            config = AutoConfig.from_pretrained(fields.model)
        except (OSError, ValueError) as error:
            raise DataError(f"data: model {fields.model!r} has no usable config.json: {_line(error)}") from error
    if hasattr(config, "image_size"):
        config.image_size = fields.side_px
    return {"transformers": {"model_type": config.model_type, **config.to_diff_dict()}}


def build(architecture: Mapping[str, Any], classes: int, shape: Shape) -> ImageModel:
    """The untrained model; with ``torch.device("meta")`` around it, it takes no memory.

    Raises:
        DataError: the library knows no such model for classifying images.
    """
    make = _timm if "timm" in architecture else _transformers
    return ImageModel(make(architecture, classes, shape), classes, shape)


def pretrained(fields: Fields) -> Mapping[str, Tensor]:
    """The weights that come with the model of ``fields``, by name.

    Raises:
        DataError: there are none, or not as safetensors.
    """
    preset = PRESETS.get(fields.model)
    try:
        if fields.model.startswith(TIMM) or preset is not None:
            import timm

            name = preset.timm if preset else fields.model.removeprefix(TIMM)
            return timm.create_model(name, pretrained=True).state_dict()
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification.from_pretrained(fields.model, use_safetensors=True).state_dict()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"data: weights: {PRETRAINED}: {fields.model!r} has none here: {_line(error)}") from error


def blocks_of(net: nn.Module) -> list[nn.Module]:
    """The layers of a network, each of which keeps the most that is kept for the backward pass."""
    names = {name for name in getattr(net, "_no_split_modules", None) or () if not name.endswith("Embeddings")}
    found = [module for module in net.modules() if type(module).__name__ in names]
    inner = {id(part) for module in found for part in module.modules() if part is not module}
    layers = getattr(net, "blocks", None) or getattr(net, "stages", None) or ()  # as timm calls them
    return [module for module in found if id(module) not in inner] or list(layers)


def head_names(net: nn.Module) -> set[str]:
    """The names of the last linear layer's tensors, which other classes have otherwise."""
    name = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    return {f"{name}.{part}" for part, _ in net.get_submodule(name).named_parameters()}


def _transformers(architecture: Mapping[str, Any], classes: int, shape: Shape) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.for_model(**architecture["transformers"])
    config.num_labels = classes
    own = hasattr(config, "drop_path_rate")
    if own:
        config.drop_path_rate = shape.drop_path
    try:
        net: nn.Module = AutoModelForImageClassification.from_config(config)
    except ValueError as error:
        raise DataError(f"data: model: {config.model_type} classifies no images: {_line(error)}") from error
    if not own:
        _skip_blocks(blocks_of(net), shape.drop_path)
    return net


def _timm(architecture: Mapping[str, Any], classes: int, shape: Shape) -> nn.Module:
    import timm

    name, side_px = architecture["timm"], architecture["side_px"]
    if not timm.is_model(name.partition(".")[0]):
        raise DataError(f"data: model: timm knows no {name!r}; timm.list_models() has all names.")
    more = {"num_classes": classes, "drop_path_rate": shape.drop_path}
    try:
        return timm.create_model(name, img_size=side_px, **more)
    except TypeError:  # a convolutional network takes any size
        return timm.create_model(name, **more)


class _DroppingLinear(nn.Linear):
    """A linear layer behind dropout, with the names of a plain one in its state."""

    dropout = 0.0

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(functional.dropout(features, self.dropout, self.training))


def _drop_before_head(net: nn.Module, classes: int, dropout: float) -> None:
    heads = [m for m in net.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    if not heads:
        raise DataError(f"data: model: {type(net).__name__} has no linear layer with {classes} outputs at its end.")
    heads[-1].__class__ = _DroppingLinear
    heads[-1].dropout = dropout  # type: ignore[assignment]


def _skip_blocks(blocks: Sequence[nn.Module], drop_path: float) -> None:
    """Let samples skip whole blocks in training, where the model has no such thing of its own."""
    for i, block in enumerate(blocks):
        block.drop_path_rate = drop_path * i / max(1, len(blocks) - 1)  # type: ignore[assignment]
        block.register_forward_hook(_skip)


def _skip(block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """A forward hook: of some samples the block's change is left out, of the others it is made larger."""
    if not block.training or not block.drop_path_rate:
        return None
    kept = 1 - float(block.drop_path_rate)  # type: ignore[arg-type]
    mask = torch.rand(len(output), *[1] * (output.ndim - 1), device=output.device, dtype=output.dtype) < kept
    return inputs[0] + (output - inputs[0]) * mask / kept


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
