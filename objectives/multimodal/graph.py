"""The graph part: a variational auto-encoder over metabolic networks.

Kipf and Welling 2016, "Variational Graph Auto-Encoders" (https://arxiv.org/abs/1611.07308):
an edge's probability is the sigmoid of the inner product of its nodes' codes. Their graph
convolutions are here transformer layers whose nodes see their neighbours alone (Dwivedi and
Bresson 2021, https://arxiv.org/abs/2012.09699), which also grow to a billion parameters.
Attention is a mean over neighbours and cannot count them, so each node is told its degree
(Ying et al. 2021, https://arxiv.org/abs/2106.05234, section 3.1.1).
Axes in names: B batch, N nodes (the largest graph's), F node features, D width, Z code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from objectives.multimodal.layers import layers
from objectives.multimodal.presets import GraphSize


class Encoded(NamedTuple):
    """Mean codes of the nodes for the fusion (B, N, Z), and each graph's own losses (B,), zero where there is none."""

    nodes: Tensor
    reconstruction: Tensor
    kl: Tensor


class GraphAutoEncoder(nn.Module):
    """Standardised node features (B, N, F), adjacency (B, N, N) and node mask (B, N), both bool, to ``Encoded``."""

    def __init__(self, size: GraphSize, node_features: int, dropout: float) -> None:
        super().__init__()
        self.width = size.latent
        self.embed = nn.Linear(node_features + 1, size.width)
        self.layers = layers(size.width, size.depth, size.heads, dropout)
        self.norm = nn.LayerNorm(size.width)
        self.code = nn.Linear(size.width, 2 * size.latent)
        self.edge_bias = nn.Parameter(torch.zeros(1))  # FSDP shares no scalars
        self.features = nn.Linear(size.latent, node_features)

    def forward(self, nodes_BNF: Tensor, adjacency_BNN: Tensor, mask_BN: Tensor) -> Encoded:
        itself = torch.eye(nodes_BNF.shape[1], dtype=torch.bool, device=mask_BN.device)
        visible = (adjacency_BNN | itself)[:, None]
        degree_BN1 = adjacency_BNN.sum(2, keepdim=True).to(nodes_BNF.dtype).log1p()
        x_BND = self.embed(torch.cat([nodes_BNF, degree_BN1], dim=2))
        for layer in self.layers:
            x_BND = layer(x_BND, visible)
        mean_BNZ, log_variance_BNZ = self.code(self.norm(x_BND)).chunk(2, dim=-1)
        log_variance_BNZ = log_variance_BNZ.clamp(-10, 10)  # exp() of more overflows in fp16
        code_BNZ = mean_BNZ
        if self.training:
            code_BNZ = mean_BNZ + torch.randn_like(mean_BNZ) * (log_variance_BNZ / 2).exp()
        reconstruction_B = self._edge_loss(code_BNZ, adjacency_BNN, mask_BN) + self._feature_loss(
            code_BNZ, nodes_BNF, mask_BN
        )
        return Encoded(mean_BNZ, reconstruction_B, _kl(mean_BNZ, log_variance_BNZ, mask_BN))

    def _edge_loss(self, code_BNZ: Tensor, adjacency_BNN: Tensor, mask_BN: Tensor) -> Tensor:
        """Cross-entropy in nats of a pair of different nodes; edges together weigh as much as the other pairs."""
        logits_BNN = (code_BNZ @ code_BNZ.transpose(1, 2)).float() + self.edge_bias
        loss_BNN = cross_entropy(logits_BNN, adjacency_BNN.float(), reduction="none")
        itself = torch.eye(mask_BN.shape[1], dtype=torch.bool, device=mask_BN.device)
        pairs_BNN = mask_BN[:, :, None] & mask_BN[:, None, :] & ~itself
        return (_mean(loss_BNN, pairs_BNN & adjacency_BNN) + _mean(loss_BNN, pairs_BNN & ~adjacency_BNN)) / 2

    def _feature_loss(self, code_BNZ: Tensor, nodes_BNF: Tensor, mask_BN: Tensor) -> Tensor:
        """Mean squared error of the standardised node features."""
        error_BNF = (self.features(code_BNZ).float() - nodes_BNF.float()) ** 2
        return _mean(error_BNF.mean(2, keepdim=True), mask_BN[:, :, None])


def _kl(mean_BNZ: Tensor, log_variance_BNZ: Tensor, mask_BN: Tensor) -> Tensor:
    """Nats a node between its code's normal distribution and the standard one (Kingma and Welling 2013, app. B)."""
    mean_BNZ, log_variance_BNZ = mean_BNZ.float(), log_variance_BNZ.float()
    nats_BNZ = (mean_BNZ**2 + log_variance_BNZ.exp() - 1 - log_variance_BNZ) / 2
    return _mean(nats_BNZ.sum(2, keepdim=True), mask_BN[:, :, None])


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean of each sample's ``values`` (B, x, y) ``where`` it counts (same shape, bool); 0 where nothing does."""
    counted = where.sum((1, 2)).clamp(min=1)
    return (values * where).sum((1, 2)) / counted
