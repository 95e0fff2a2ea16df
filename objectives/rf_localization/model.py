"""The network: one backbone for all receivers, pooled, then a head for the position and one for its uncertainty.

Axes in names: B batch, R receivers, C 3 channels, M rows of a spectrogram, T 32 frames, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hpo.errors import DataError
from hpo.training.weights import load_weights, read_weights
from objectives.rf_localization.presets import PRESETS

MAGNITUDE = 2  # the channel beside I and Q
POOLED = 512
SIGMA_RANGE = (0.01, 1.0)  # of the outputs' standard deviations, in normalised units
WAVES = 7  # what ``waves`` makes of one number
MOST_SHIFTED = 5  # frames


@dataclass(frozen=True)
class Shape:
    """The searchable part; the defaults are what people pick by hand.

    The last two are the strength of the augmentation: the share of values set to their mean,
    and how far a recording's values are scaled, 0.05 for 0.95 to 1.05.
    """

    dropout: float = 0.2
    feature_dropout: float = 0.1
    scale_jitter: float = 0.05


class Localizer(nn.Module):
    """(B, R, 3, M, 32) decibels, (B, R, 2) sites, (B, R) present to (B, 4): position, then its σ.

    Sites and outputs are north and east in normalised units (``geometry.Frame``); what an absent
    receiver has in the other inputs does not matter. σ is in ``SIGMA_RANGE``.
    """

    feature_scale: Tensor
    feature_offset: Tensor

    def __init__(self, preset: str, shape: Shape, mean: Tensor, std: Tensor) -> None:
        """``mean`` and ``std`` are those of the training recordings, (3, M, 1)."""
        super().__init__()
        self.register_buffer("feature_scale", 1 / std)
        self.register_buffer("feature_offset", -mean / std)
        self.augment = Augment(shape.feature_dropout, shape.scale_jitter)
        self.backbone = _backbone(preset)
        width = PRESETS[preset].widths[-1] + WAVES * (1 + 2)
        self.fuse = nn.Sequential(nn.Linear(width, POOLED), nn.GELU(), nn.Linear(POOLED, POOLED), nn.GELU())
        self.position = _head(shape.dropout)
        self.spread = _head(shape.dropout)

    def forward(self, features_BRCMT: Tensor, sites_BR2: Tensor, present_BR: Tensor) -> Tensor:
        x_BRCMT = torch.addcmul(self.feature_offset, features_BRCMT, self.feature_scale)
        x_BRCMT = self.augment(x_BRCMT)
        seen_BRD = self.backbone(x_BRCMT.flatten(0, 1)).pooler_output.unflatten(0, present_BR.shape)
        # The backbone's layer norms take the level away, and the level is what tells the distance.
        level_BR1 = x_BRCMT[:, :, MAGNITUDE].mean(dim=(-2, -1))[..., None]
        h_BRD = self.fuse(torch.cat([seen_BRD, waves(level_BR1), waves(sites_BR2)], dim=-1))
        weight_BR1 = present_BR[..., None]
        h_BD = (h_BRD * weight_BR1).sum(dim=1) / weight_BR1.sum(dim=1).clamp_min(1)
        sigma = nn.functional.softplus(self.spread(h_BD)).clamp(*SIGMA_RANGE)
        return torch.cat([self.position(h_BD), sigma], dim=-1)


def waves(x: Tensor) -> Tensor:
    """(..., n) to (..., 7n): x itself, and the sine and cosine of πx/2, πx and 2πx.

    Networks are slow to learn fine differences of few inputs; with these they are not (Tancik et
    al. 2020, Fourier features, arXiv:2006.10739).
    """
    parts = [torch.pi * k * x for k in (0.5, 1.0, 2.0)]
    return torch.cat([x, *(part.sin() for part in parts), *(part.cos() for part in parts)], dim=-1)


class Augment(nn.Module):
    """Makes training recordings differ, and leaves others alone: values dropped, frames shifted, all scaled.

    (B, R, C, M, T), standardised: a value that is dropped becomes 0, the mean. Every receiver of an event
    is shifted by its own number of frames, in a circle. Drawn from the device's own generator.
    """

    def __init__(self, feature_dropout: float, scale_jitter: float) -> None:
        super().__init__()
        self.feature_dropout, self.scale_jitter = feature_dropout, scale_jitter

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        receivers = (*x.shape[:2], 1, 1, 1)
        frames = torch.arange(x.shape[-1], device=x.device)
        shift = torch.randint(-MOST_SHIFTED, MOST_SHIFTED + 1, receivers, device=x.device)
        x = x.gather(-1, ((frames - shift) % x.shape[-1]).expand_as(x))  # a new tensor, which may be changed
        x *= 1 + self.scale_jitter * (2 * torch.rand(receivers, device=x.device) - 1)
        return nn.functional.dropout(x, self.feature_dropout, inplace=True)


def gaussian_nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean over samples and axes of log σ + (y - μ)² / 2σ²; outputs (B, 4), targets (B, 2)."""
    mean, sigma = outputs.chunk(2, dim=-1)
    return (sigma.log() + (targets - mean) ** 2 / (2 * sigma**2)).mean()


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The ConvNeXt blocks of a ``Localizer``, in order."""
    stages = model.get_submodule("backbone.encoder.stages").children()
    return [block for stage in stages for block in stage.get_submodule("layers").children()]


def load_backbone(backbone: nn.Module, path: str) -> None:
    """Put a file's tensors into ``backbone``, in place: as transformers names a ConvNeXt, its classifier left out.

    Raises:
        DataError: it is no file of tensors, or they are not those of this backbone.
    """
    prefixes = ("convnext.", "backbone.")  # of transformers' whole classifier, and of a model of ours
    found = {name: tensor for name, tensor in read_weights(Path(path)).items() if not name.startswith("classifier.")}
    prefix = next((one for one in prefixes if any(name.startswith(one) for name in found)), "")
    kept = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    load_weights(backbone, kept, path, remedy="Choose the preset that they belong to.")


def _head(dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(POOLED, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(64, 2),
    )  # fmt: skip


def _backbone(preset: str) -> nn.Module:
    try:
        from transformers import ConvNextConfig, ConvNextModel
    except ImportError as error:
        raise DataError("rf_localization needs the package transformers: pip install 'hpo[vision]'.") from error
    size = PRESETS[preset]
    return ConvNextModel(
        ConvNextConfig(
            num_channels=3,
            patch_size=size.patch_size,
            num_stages=len(size.depths),
            depths=list(size.depths),
            hidden_sizes=list(size.widths),
        )
    )
