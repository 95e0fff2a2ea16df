"""The fusion: learned queries look at the tokens of all parts by cross-attention, and name the class.

Jaegle et al. 2021, "Perceiver" (https://arxiv.org/abs/2103.03206), section 3.1.
Axes in names: B batch, Q queries, T tokens of all parts, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from objectives.multimodal.layers import layers
from objectives.multimodal.presets import FusionSize


class Fusion(nn.Module):
    """Tokens of each part (B, its tokens, its width) with masks (B, its tokens) to logits (B, classes)."""

    def __init__(self, size: FusionSize, widths: Mapping[str, int], classes: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.ModuleDict({part: nn.Linear(width, size.width) for part, width in widths.items()})
        # Normalised apart, so that no part is heard only because its numbers are larger.
        self.norms = nn.ModuleDict({part: nn.LayerNorm(size.width) for part in widths})
        self.queries = nn.Parameter(torch.randn(size.queries, size.width) * 0.02)
        self.nothing = nn.Parameter(torch.zeros(1, size.width))
        self.layers = layers(size.width, size.depth, size.heads, dropout)
        self.head = nn.Sequential(nn.LayerNorm(size.width), nn.Dropout(dropout), nn.Linear(size.width, classes))

    def forward(self, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        rows = next(iter(masks.values())).shape[0]
        seen = [self.nothing.expand(rows, 1, -1)]  # always there: softmax needs something to look at
        visible = [torch.ones_like(next(iter(masks.values()))[:, :1])]
        for part, project in self.project.items():
            seen.append(self.norms[part](project(tokens[part])))
            visible.append(masks[part])
        all_BTD, visible_BT = torch.cat(seen, dim=1), torch.cat(visible, dim=1)
        x_BQD = self.queries.expand(rows, -1, -1)
        for layer in self.layers:
            x_BQD = layer(x_BQD, visible_BT[:, None, None, :], all_BTD)
        return self.head(x_BQD.mean(1))
