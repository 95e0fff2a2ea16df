"""The backbones by size. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A ConvNeXt (Liu et al. 2022, arXiv:2201.03545): a patch of the input, then stages of blocks.

    ``file_mb`` is what an exported file in fp32 may weigh: the gate of this size.
    """

    patch_size: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    file_mb: int


# ``tiny`` is ours, for a CPU. The others are ConvNeXt-T, -B and -L of the paper's table 9, so that
# published weights fit; -L is the full size, 198 M parameters with the heads.
PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(16, (1, 1), (16, 32), 10),
    "small": Preset(4, (3, 3, 9, 3), (96, 192, 384, 768), 150),
    "base": Preset(4, (3, 3, 27, 3), (128, 256, 512, 1024), 400),
    "large": Preset(4, (3, 3, 27, 3), (192, 384, 768, 1536), 850),
}
