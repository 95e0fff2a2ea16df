"""Images as a PyTorch data set: decoded when they are asked for, or once where they fit into memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from objectives.image_classification.augment import AUGMENTS, flipped
from objectives.image_classification.data import Images
from objectives.image_classification.pictures import decoded


class Pixels:
    """The pixels of all images of a folder, by row: (3, side, side) uint8 each.

    With ``kept`` they are all in memory, shared by every trial of a process and its loader workers.
    """

    def __init__(self, images: Images, side_px: int, cache_mb: int) -> None:
        self.images, self.side_px = images, side_px
        fits = len(images) * 3 * side_px**2 <= cache_mb * 2**20
        self.kept: Tensor | None = _all_pixels(images, side_px) if fits else None

    def __getitem__(self, row: int) -> Tensor:
        if self.kept is not None:
            return self.kept[row]
        return torch.from_numpy(decoded(self.images.root / str(self.images.paths[row]), self.side_px))


class Pictures(Dataset[Any]):
    """Items (pixels, target) of some rows; the target is the class, or with ``smoothing`` a share for each.

    Smoothed targets (Szegedy et al. 2016, arXiv 1512.00567, section 7) are a matter of
    training alone: as data, so that losses elsewhere are those of the plain classes.
    """

    def __init__(
        self, pixels: Pixels, rows: np.ndarray, *, augment: str = "none", flip: bool = False, smoothing: float = 0.0
    ) -> None:
        self.pixels, self.rows = pixels, rows
        self.labels = torch.from_numpy(pixels.images.labels[rows])
        self._augment, self._flip = AUGMENTS[augment], flip
        classes = len(pixels.images.classes)
        self._targets = torch.eye(classes) * (1 - smoothing) + smoothing / classes if smoothing else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        pixels = self._augment(self.pixels[int(self.rows[item])])
        if self._flip:
            pixels = flipped(pixels)
        label = self.labels[item]
        return pixels, label if self._targets is None else self._targets[label]


def mean_and_std(pixels: Pixels, rows: np.ndarray, at_most: int = 1000) -> tuple[list[float], list[float]]:
    """Of each channel, in [0, 1], over images spread evenly over ``rows``; one image at a time, in whole numbers."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(at_most, len(rows))).astype(int)]
    total, squares = torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    for row in chosen.tolist():
        values = pixels[row].flatten(1).long()
        total += values.sum(1)
        squares += values.square().sum(1)
    count = len(chosen) * pixels.side_px**2
    mean = total.double() / count
    variance = (squares.double() - total.double() * mean) / (count - 1)
    return (mean / 255).tolist(), (variance.clamp(min=0).sqrt() / 255).clamp(min=1e-3).tolist()


@lru_cache(maxsize=2)
def _all_pixels(images: Images, side_px: int) -> Tensor:
    kept = torch.empty((len(images), 3, side_px, side_px), dtype=torch.uint8)
    for row, path in enumerate(images.paths):
        kept[row] = torch.from_numpy(decoded(images.root / str(path), side_px))
    return kept
