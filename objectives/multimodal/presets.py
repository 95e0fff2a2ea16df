"""The size presets: tiny for a CPU, small for one GPU, full for many. No torch.

A pre-norm transformer layer of width d, with an MLP four times as wide, has 12 d^2 + 13 d
parameters: 4 d^2 + 4 d in attention, 8 d^2 + 5 d in the MLP, 4 d in two norms. At full size:

=======  ==============================================================  ========  =======
part     layers, and the rest                                            billions  wanted
=======  ==============================================================  ========  =======
text     40 x 314.64 M (d 5120), 100,352 tokens and 2,048 places x 5120    13.110    13.14
graph    24 x 50.36 M (d 2048), heads of the auto-encoder                   1.209      1.2
cube     48 x 50.36 M (d 2048), 3-D CNN 63.8 M, decoder 12.6 M              2.494      2.5
fusion   3 x 50.36 M (d 2048), projections 15.0 M                           0.166        -
all                                                                        16.979       17
=======  ==============================================================  ========  =======
"""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("text", "graph", "cube")


@dataclass(frozen=True)
class TextSize:
    """``vocabulary`` and ``length`` are the most tokens and places that a text may have."""

    width: int
    depth: int
    heads: int
    vocabulary: int
    length: int


@dataclass(frozen=True)
class GraphSize:
    """``latent`` numbers describe a node in the auto-encoder's code."""

    width: int
    depth: int
    heads: int
    latent: int


@dataclass(frozen=True)
class CubeSize:
    """``channels`` of the 3-D convolutions, each of which halves levels, lat and lon; then layers of ``width``."""

    channels: tuple[int, ...]
    width: int
    depth: int
    heads: int

    @property
    def patch(self) -> int:
        """Grid points of a cube along each axis that become one token."""
        return 2 ** (len(self.channels) + 1)


@dataclass(frozen=True)
class FusionSize:
    """``queries`` learned vectors look at the tokens of all parts, ``depth`` times."""

    width: int
    depth: int
    heads: int
    queries: int


@dataclass(frozen=True)
class Preset:
    text: TextSize
    graph: GraphSize
    cube: CubeSize
    fusion: FusionSize


@dataclass(frozen=True)
class Dimensions:
    """What the data fixes: features of a node, the cube's (variables, levels, lat, lon), and classes."""

    node_features: int
    cube: tuple[int, int, int, int]
    classes: int


PRESETS = {
    "tiny": Preset(
        TextSize(width=32, depth=2, heads=4, vocabulary=256, length=64),
        GraphSize(width=32, depth=2, heads=4, latent=8),
        CubeSize(channels=(16,), width=32, depth=2, heads=4),
        FusionSize(width=32, depth=1, heads=4, queries=4),
    ),
    "small": Preset(
        TextSize(width=512, depth=8, heads=8, vocabulary=32_768, length=512),
        GraphSize(width=256, depth=6, heads=8, latent=32),
        CubeSize(channels=(32, 128), width=384, depth=8, heads=6),
        FusionSize(width=256, depth=2, heads=8, queries=8),
    ),
    "full": Preset(
        TextSize(width=5120, depth=40, heads=40, vocabulary=100_352, length=2048),
        GraphSize(width=2048, depth=24, heads=16, latent=128),
        CubeSize(channels=(256, 1024), width=2048, depth=48, heads=16),
        FusionSize(width=2048, depth=3, heads=16, queries=64),
    ),
}
# What full-size data looks like, for building that preset without any.
FULL_DIMENSIONS = Dimensions(node_features=64, cube=(12, 16, 64, 128), classes=16)
