"""The models that have a name here, each as the configuration that makes it. No torch.

``mini`` models are ours, sized for a CPU and 32 px; the others have the sizes of their
papers, so that published weights fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TIMM = "timm:"  # before the name of a model of that library


@dataclass(frozen=True)
class Preset:
    """``config`` are fields of the configuration ``kind`` of transformers; or ``timm`` names a model of timm."""

    image_size: int
    kind: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    timm: str = ""


PRESETS: Mapping[str, Preset] = {
    "convnext-mini": Preset(
        32, "convnextv2", {"patch_size": 2, "depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 128], "num_stages": 4}
    ),
    "vit-mini": Preset(
        32,
        "vit",
        {
            "patch_size": 4,
            "hidden_size": 96,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "intermediate_size": 384,
            "pooler_output_size": 96,
        },
    ),
    "dinov2-mini": Preset(
        32, "dinov2", {"patch_size": 4, "hidden_size": 96, "num_hidden_layers": 6, "num_attention_heads": 3}
    ),
    # Touvron et al. 2021 (arXiv 2012.12877), table 1: 22 M.
    "vit-small": Preset(
        224,
        "vit",
        {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "pooler_output_size": 384},
    ),
    # Dosovitskiy et al. 2021 (arXiv 2010.11929), table 1: 86 M; the configuration's own defaults.
    "vit-base": Preset(224, "vit"),
    # Liu et al. 2022 (arXiv 2201.03545), table 9: 28.6 M for 1,000 classes.
    "convnext-tiny": Preset(224, "convnext", {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]}),
    # Oquab et al. 2023 (arXiv 2304.07193), table 18: 86 M in the backbone.
    "dinov2-base": Preset(224, "dinov2", {"patch_size": 14}),
    # Fang et al. 2023 (arXiv 2303.11331), table 3: 86 M.
    "eva02-base": Preset(224, timm="eva02_base_patch14_224"),
}

# Mean and standard deviation of the red, green and blue of pixels in [0, 1]; ``data``: of the training images.
NORMALISATIONS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]] | None] = {
    "data": None,
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # what most pretrained weights expect
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),  # CLIP, EVA-02
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # the ViT of Google
}
