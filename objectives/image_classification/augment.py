"""Random changes of training images, drawn from torch's generator, so that a seed repeats them in any worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

Augment = Callable[[Tensor], Tensor]

_SHIFT = 1 / 8  # of the side, each way
_DEGREES = 15.0
_SCALE = (0.85, 1.15)
_LIGHT = 0.2  # brightness and contrast change by up to this share


def none(pixels: Tensor) -> Tensor:
    return pixels


def small(pixels: Tensor) -> Tensor:
    """Pad by an eighth with the border's colours, and cut the old size out anywhere: (3, S, S) uint8, as all here."""
    side = pixels.shape[-1]
    pad = max(1, round(side * _SHIFT))
    padded = functional.pad(pixels[None].float(), (pad, pad, pad, pad), mode="replicate")[0].to(torch.uint8)
    top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
    return padded[:, top : top + side, left : left + side]


def standard(pixels: Tensor) -> Tensor:
    """Turned, scaled and moved in one resampling, then brightness and contrast."""
    turn, scale, across, down, bright, contrast = torch.rand(6).tolist()
    angle, size = math.radians(_DEGREES * (2 * turn - 1)), _SCALE[0] + (_SCALE[1] - _SCALE[0]) * scale
    cos, sin = math.cos(angle) / size, math.sin(angle) / size
    # In units of half a side, in which the shift is twice its share.
    matrix = torch.tensor([[[cos, -sin, 2 * _SHIFT * (2 * across - 1)], [sin, cos, 2 * _SHIFT * (2 * down - 1)]]])
    grid = functional.affine_grid(matrix, [1, *pixels.shape], align_corners=False)
    moved = functional.grid_sample(pixels[None].float(), grid, padding_mode="border", align_corners=False)[0]
    mean = moved.mean()
    moved = (moved - mean) * (1 + _LIGHT * (2 * contrast - 1)) + mean * (1 + _LIGHT * (2 * bright - 1))
    return moved.round().clamp(0, 255).to(torch.uint8)


def flipped(pixels: Tensor) -> Tensor:
    """Mirrored left to right every other time."""
    return pixels.flip(-1) if torch.rand(()) < 0.5 else pixels


AUGMENTS: Mapping[str, Augment] = {"none": none, "small": small, "standard": standard}
