"""The network: standardise, 2056 -> 1024 -> 512 -> 256 -> 1, back to the target's scale.

Standardisation lives inside as buffers, so the exported model takes the raw 2056 numbers.
Axes in names: B batch, D 2056 inputs, F 2048 features, S 8 settings, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


@dataclass(frozen=True)
class Shape:
    """The network's searchable part; the defaults are today's hand-picked network.

    ``width`` is halved and ``dropout`` falls evenly from layer to layer. ``settings_gain``
    multiplies the eight standardised settings, which 2048 features drown out. No feature
    is scaled up by more than 1 / ``scale_floor``: what hardly varies says little.
    ``squash`` bends standardised values into (-3, 3), for the rare bins of a histogram.
    ``modulate`` lets the settings scale the first layer (Perez et al. 2018, FiLM,
    https://arxiv.org/abs/1709.07871; here one factor, no offset, on the first layer only).
    """

    depth: int = 3
    width: int = 1024
    dropout: float = 0.3
    activation: str = "relu"
    settings_gain: float = 1.0
    scale_floor: float = 1e-3
    input_dropout: float = 0.0
    squash: bool = False
    modulate: bool = False


@dataclass(frozen=True)
class Scaling:
    """Means and standard deviations of the training rows: of inputs (D,) and of the target."""

    input_mean: np.ndarray
    input_std: np.ndarray
    target_mean: float
    target_std: float

    @classmethod
    def of(cls, inputs: np.ndarray, targets: np.ndarray) -> Scaling:
        """From training ``inputs`` (n, D) and ``targets`` (n,); float64 inside, so that order hardly matters."""
        return cls(
            inputs.mean(0, dtype=np.float64),
            inputs.std(0, dtype=np.float64),
            float(targets.mean(dtype=np.float64)),
            float(max(targets.std(dtype=np.float64), 1e-6)),
        )


class QualityModel(nn.Module):
    """Predicts SSIM: (B, 2056) float32 raw inputs to (B, 1), unbounded, about [0, 1]."""

    input_mean: Tensor
    input_scale: Tensor
    input_gain: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, shape: Shape, scaling: Scaling, settings: int = 8) -> None:
        super().__init__()
        self.settings, self.squash = settings, shape.squash
        inputs = len(scaling.input_mean)
        scale = np.maximum(scaling.input_std, shape.scale_floor)
        gain = np.ones(inputs)
        gain[-settings:] = shape.settings_gain
        for name, value in (
            ("input_mean", scaling.input_mean),
            ("input_scale", scale),
            ("input_gain", gain),
            ("target_mean", scaling.target_mean),
            ("target_std", scaling.target_std),
        ):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))
        self.input_dropout = nn.Dropout(shape.input_dropout)
        widths = [max(1, shape.width // 2**i) for i in range(shape.depth)]
        self.first = nn.Linear(inputs, widths[0])
        self.modulation = nn.Linear(settings, widths[0]) if shape.modulate else None
        self.body = nn.Sequential(*_body(widths, shape))

    def forward(self, x_BD: Tensor) -> Tensor:
        x_BD = (x_BD - self.input_mean) / self.input_scale
        if self.squash:
            x_BD = 3 * torch.tanh(x_BD / 3)
        settings_BS = x_BD[:, -self.settings :]
        x_BD = x_BD * self.input_gain  # after squashing, which would undo it
        # Only features are dropped: a prediction without its settings answers another question.
        x_BD = torch.cat([self.input_dropout(x_BD[:, : -self.settings]), x_BD[:, -self.settings :]], dim=1)
        h_BH = self.first(x_BD)
        if self.modulation is not None:
            h_BH = h_BH * (1 + self.modulation(settings_BS))
        return self.body(h_BH) * self.target_std + self.target_mean


def _body(widths: list[int], shape: Shape) -> list[nn.Module]:
    """Everything after the first linear layer: one block each of activation, dropout and the next layer."""
    blocks: list[nn.Module] = []
    for i, (width, next_width) in enumerate(pairwise([*widths, 1])):
        share = (shape.depth - i) / shape.depth  # 0.3 at depth 3 gives 0.3, 0.2, 0.1
        dropout = nn.Dropout(shape.dropout * share)
        blocks.append(nn.Sequential(_ACTIVATIONS[shape.activation](), dropout, nn.Linear(width, next_width)))
    return blocks
