"""The whole model: an encoder a modality, and the fusion of what they say.

Axes in names: B batch, L tokens of a text, N nodes of a graph, F node features, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from objectives.multimodal.cube import CubeEncoder
from objectives.multimodal.fusion import Fusion
from objectives.multimodal.graph import GraphAutoEncoder
from objectives.multimodal.presets import PARTS, Dimensions, FusionSize, Preset
from objectives.multimodal.text import TextEncoder
from objectives.multimodal.views import INPUTS


class PlanetModel(nn.Module):
    """The class of a planet from those ``modalities`` of it that are there.

    ``forward`` takes the ``INPUTS`` of its modalities, in order: tokens (B, L) int64 and
    their mask (B, L); node features (B, N, F) float32, adjacency (B, N, N) and node mask
    (B, N); cubes (B, variables, levels, lat, lon) float32 and their mask (B, 1). Masks are
    bool, true where something is; a modality whose mask is all false is missing. Raw values:
    standardisation lies inside, as buffers.

    It returns logits (B, C) and, by the name of a loss's part, one number a sample (B,), 0
    where the modality is missing.

    Parts named in ``frozen`` are not trained and have no dropout.
    """

    node_mean: Tensor
    node_std: Tensor
    cube_mean: Tensor
    cube_std: Tensor

    def __init__(
        self,
        preset: Preset,
        dimensions: Dimensions,
        *,
        modalities: Sequence[str] = PARTS,
        frozen: Collection[str] = (),
        dropout: float = 0.0,
        fusion: FusionSize | None = None,
    ) -> None:
        super().__init__()
        self.modalities, self.frozen = tuple(modalities), tuple(frozen)
        variables, levels, lat, lon = dimensions.cube
        widths: dict[str, int] = {}
        if "text" in modalities:
            self.text = TextEncoder(preset.text, dropout)
            widths["text"] = self.text.width
        if "graph" in modalities:
            self.graph = GraphAutoEncoder(preset.graph, dimensions.node_features, dropout)
            widths["graph"] = self.graph.width
            self.register_buffer("node_mean", torch.zeros(dimensions.node_features))
            self.register_buffer("node_std", torch.ones(dimensions.node_features))
        if "cube" in modalities:
            self.cube = CubeEncoder(preset.cube, variables, (levels, lat, lon), dropout)
            widths["cube"] = self.cube.width
            self.register_buffer("cube_mean", torch.zeros(variables, levels, 1, 1))
            self.register_buffer("cube_std", torch.ones(variables, levels, 1, 1))
        self.fusion = Fusion(fusion or preset.fusion, widths, dimensions.classes, dropout)
        for part in self.frozen:
            self.get_submodule(part).requires_grad_(False)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        given = dict(zip([name for part in self.modalities for name in INPUTS[part]], inputs, strict=True))
        tokens: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        losses: dict[str, Tensor] = {}
        if "text" in self.modalities:
            masks["text"] = given["token_mask"]
            tokens["text"] = self.text(given["tokens"], masks["text"])
        if "graph" in self.modalities:
            masks["graph"] = given["node_mask"]
            nodes_BNF = (given["nodes"] - self.node_mean) / self.node_std
            encoded = self.graph(nodes_BNF, given["adjacency"], masks["graph"])
            tokens["graph"] = encoded.nodes
            losses |= {"graph_reconstruction": encoded.reconstruction, "graph_kl": encoded.kl}
        if "cube" in self.modalities:
            mask_B = given["cube_mask"][:, 0]
            cubes = (given["cube"] - self.cube_mean) / self.cube_std
            seen = self.cube(cubes, mask_B)
            tokens["cube"] = seen.tokens
            masks["cube"] = given["cube_mask"].expand(-1, seen.tokens.shape[1])
            losses["cube_reconstruction"] = seen.reconstruction
        return {"logits": self.fusion(tokens, masks), **losses}

    def train(self, mode: bool = True) -> Self:
        """As ever, but frozen parts stay as they are in use: no dropout, no noise."""
        super().train(mode)
        for part in self.frozen:
            self.get_submodule(part).eval()
        return self


def blocks_of(model: nn.Module, modalities: Sequence[str]) -> list[nn.Module]:
    """Every transformer layer of every part, for gradient checkpointing and sharding."""
    return [layer for part in (*modalities, "fusion") for layer in model.get_submodule(f"{part}.layers").children()]


def scaled(fusion: FusionSize, scale: float, heads: int) -> FusionSize:
    """A fusion ``scale`` times as wide, its width rounded to a multiple of ``heads``."""
    return replace(fusion, width=max(heads, round(fusion.width * scale / heads) * heads), heads=heads)
