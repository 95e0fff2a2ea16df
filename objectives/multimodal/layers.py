"""The transformer layer that all four parts are made of.

Axes in names: B batch, Q queries, K keys, D width, H heads, E width of a head.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Layer(nn.Module):
    """Pre-norm transformer layer (Xiong et al. 2020, https://arxiv.org/abs/2002.04745): attention, then an MLP."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BQD: Tensor, visible: Tensor | None = None, other_BKD: Tensor | None = None) -> Tensor:
        """``x_BQD`` after looking at itself, or at ``other_BKD``.

        Args:
            visible: true where a query may look, (B, 1, Q or 1, K), at something at least; None: everywhere.
        """
        attended_BQD = self._attend(self.norm(x_BQD), other_BKD, visible)
        x_BQD = x_BQD + self.dropout(attended_BQD)
        return x_BQD + self.dropout(self.mlp(x_BQD))

    def _attend(self, x_BQD: Tensor, other_BKD: Tensor | None, visible: Tensor | None) -> Tensor:
        key_BKD, value_BKD = self.key_value(x_BQD if other_BKD is None else other_BKD).chunk(2, dim=-1)
        q_BHQE, k_BHKE, v_BHKE = (self._split(x) for x in (self.query(x_BQD), key_BKD, value_BKD))
        return self.out(scaled_dot_product_attention(q_BHQE, k_BHKE, v_BHKE, visible).transpose(1, 2).flatten(2))

    def _split(self, x_BKD: Tensor) -> Tensor:
        return x_BKD.unflatten(2, (self.heads, -1)).transpose(1, 2)


def layers(width: int, depth: int, heads: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(Layer(width, heads, dropout) for _ in range(depth))
