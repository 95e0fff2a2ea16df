"""Planets as the tensors that the model takes: dense, padded, with masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from objectives.multimodal.data import Planets, spread

IN_MEMORY_BYTES = 2**30  # a larger split is read from disk, batch by batch


class PlanetSet(Dataset[tuple[Tensor, ...]]):
    """Some rows of ``planets``; an item is the model's ``INPUTS`` of the modalities, then the class, int64."""

    def __init__(self, planets: Planets, rows: np.ndarray, modalities: Sequence[str]) -> None:
        self.planets, self.rows, self.modalities = planets, rows, tuple(modalities)
        self._padding = planets.padding  # of all parts: the adjacency's shape must not change

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        row = int(self.rows[index])
        inputs = self.planets.arrays(row, self.modalities, self._padding)
        return (*map(torch.from_numpy, inputs), torch.tensor(self.planets.labels[row]))

    def tensors(self) -> tuple[Tensor, ...]:
        """All items at once."""
        return tuple(torch.stack(parts) for parts in zip(*(self[i] for i in range(len(self))), strict=True))

    @property
    def data(self) -> tuple[Tensor, ...] | PlanetSet:
        """What a ``Split`` takes: tensors where they are small enough."""
        bytes_each = sum(part.nbytes for part in self[0])
        return self.tensors() if len(self) * bytes_each <= IN_MEMORY_BYTES else self


def scaling(planets: Planets, rows: np.ndarray, modalities: Sequence[str]) -> dict[str, Tensor]:
    """The model's standardisation buffers from the training ``rows``, float64 inside.

    Means and standard deviations of every feature of a node, and of every variable of a
    cube at every level. What does not vary is only centred.
    """
    found: dict[str, Tensor] = {}
    if "graph" in modalities:
        nodes = np.concatenate([planets.graphs[row][0] for row in rows.tolist()]).astype(np.float64)
        found |= _moments("node", nodes.sum(0), (nodes**2).sum(0), len(nodes))
    if "cube" in modalities:
        cube_rows = planets.cube_rows[rows]
        shape = planets.cubes.shape[1:]
        total, squares, points = np.zeros((*shape[:2], 1, 1)), np.zeros((*shape[:2], 1, 1)), 0
        for row in spread(np.unique(cube_rows[cube_rows >= 0]), planets.cubes[:1].nbytes).tolist():
            cube = np.asarray(planets.cubes[row], np.float64)
            total += cube.sum((2, 3), keepdims=True)
            squares += (cube**2).sum((2, 3), keepdims=True)
            points += shape[2] * shape[3]
        found |= _moments("cube", total, squares, points)
    return found


def _moments(name: str, total: np.ndarray, squares: np.ndarray, count: int) -> dict[str, Tensor]:
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    std = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1), std, 1.0)
    return {f"{name}_mean": torch.tensor(mean).float(), f"{name}_std": torch.tensor(std).float()}
