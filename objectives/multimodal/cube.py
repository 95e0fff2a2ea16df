"""The climate part: 3-D convolutions that make tokens of a cube, a ViT over them, and a decoder back.

Axes in names: B batch, V variables, T tokens, D width, P grid points of a patch x V; a cube
is (B, V, levels, lat, lon).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from objectives.multimodal.layers import layers
from objectives.multimodal.presets import CubeSize


class Encoded(NamedTuple):
    """Tokens for the fusion (B, T, D), and each cube's reconstruction loss (B,), zero where there is none."""

    tokens: Tensor
    reconstruction: Tensor


class CubeEncoder(nn.Module):
    """Standardised cubes (B, V, levels, lat, lon) with a mask (B,), true where there is one, to ``Encoded``.

    ``grid`` is (levels, lat, lon), each a multiple of the patch; each patch of the cube is
    told again from its own token.
    """

    def __init__(self, size: CubeSize, variables: int, grid: tuple[int, int, int], dropout: float) -> None:
        super().__init__()
        self.width, self.patch = size.width, size.patch
        widths = (variables, *size.channels, size.width)
        self.stem = nn.Sequential(*(_Halve(a, b) for a, b in pairwise(widths)))
        self.axes = nn.ParameterList(torch.randn(points // size.patch, size.width) * 0.02 for points in grid)
        self.layers = layers(size.width, size.depth, size.heads, dropout)
        self.norm = nn.LayerNorm(size.width)
        self.decode = nn.Linear(size.width, variables * size.patch**3)

    def forward(self, cubes: Tensor, mask_B: Tensor) -> Encoded:
        level, lat, lon = self.axes
        places = level[:, None, None] + lat[:, None] + lon
        x_BTD = (self.stem(cubes).movedim(1, -1) + places).flatten(1, 3)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        x_BTD = self.norm(x_BTD)
        error_BTP = (self.decode(x_BTD).float() - self._patches(cubes).float()) ** 2
        return Encoded(x_BTD, error_BTP.mean((1, 2)) * mask_B)

    def _patches(self, cubes: Tensor) -> Tensor:
        """(B, T, P), in the order of the tokens."""
        for axis in (4, 3, 2):
            cubes = cubes.unflatten(axis, (-1, self.patch))
        return cubes.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)


class _Halve(nn.Module):
    """A 3x3x3 convolution of stride 2; longitudes go around, levels and latitudes end."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(channels, out, 3, stride=2, padding=(1, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        around = torch.cat([x[..., -1:], x], dim=-1)  # at stride 2 the last window ends at the last point
        return gelu(self.convolution(around))
