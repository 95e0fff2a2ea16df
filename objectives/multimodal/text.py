"""The text encoder: a transformer over tokens. Axes in names: B batch, L tokens, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectives.multimodal.layers import layers
from objectives.multimodal.presets import TextSize


class TextEncoder(nn.Module):
    """Tokens (B, L) int64 with a mask (B, L), true at tokens, to (B, L, D)."""

    def __init__(self, size: TextSize, dropout: float) -> None:
        super().__init__()
        self.width = size.width
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.places = nn.Parameter(torch.randn(size.length, size.width) * 0.02)
        self.layers = layers(size.width, size.depth, size.heads, dropout)
        self.norm = nn.LayerNorm(size.width)

    def forward(self, tokens_BL: Tensor, mask_BL: Tensor) -> Tensor:
        length = tokens_BL.shape[1]
        x_BLD = self.tokens(tokens_BL) + self.places[:length]
        # A token always sees itself: a text that is missing has no other, and softmax needs one.
        itself = torch.eye(length, dtype=torch.bool, device=mask_BL.device)
        visible = mask_BL[:, None, None, :] | itself
        for layer in self.layers:
            x_BLD = layer(x_BLD, visible)
        return self.norm(x_BLD)
