"""One measurement: trace a logo with eight settings, render it back, compare.

The settings' ranges hold what is worth trying: around vtracer's own presets. Below colour
precision 3 its first stage joins any two neighbouring pixels of a logo (levels that differ
by one count as equal), so the result is one flat colour whatever the image.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

SETTINGS: dict[str, tuple[float, float]] = {
    "color_precision": (3, 8),  # bits per channel
    "layer_difference": (4, 64),  # colour step between layers, of 255
    "corner_threshold": (30, 150),  # degrees
    "length_threshold": (3.5, 10.0),  # pixels; the only one that is not a whole number
    "max_iterations": (4, 20),
    "splice_threshold": (15, 90),  # degrees
    "path_precision": (1, 8),  # decimal places in the SVG
    "filter_speckle": (0, 12),  # pixels: regions below its square vanish
}
_WHOLE = set(SETTINGS) - {"length_threshold"}


@dataclass(frozen=True)
class Traced:
    """``ssim`` in [0, 1] over the three channels; ``settings``: (8,) float32, exactly what was used, normalised."""

    ssim: float
    settings: np.ndarray


def trace(image: np.ndarray, wanted: np.ndarray) -> Traced:
    """Trace ``image``, (256, 256, 3) uint8, with ``wanted`` settings, (8,) in [0, 1]; about 31 ms."""
    import resvg_py
    import vtracer
    from skimage.metrics import structural_similarity

    values = denormalise(wanted)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=1)
    svg = vtracer.convert_raw_image_to_svg(buffer.getvalue(), img_format="png", **values)
    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    back = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    ssim = structural_similarity(
        image.astype(np.float32) / 255, back.astype(np.float32) / 255, channel_axis=2, data_range=1.0
    )
    # SSIM may fall a little below 0 where a picture is inverted; the target's scale starts at 0.
    return Traced(float(np.clip(ssim, 0.0, 1.0)), normalise(values))


def denormalise(unit: np.ndarray) -> dict[str, int | float]:
    """The eight settings as vtracer takes them, from (8,) values in [0, 1]."""
    values: dict[str, int | float] = {}
    for (name, (low, high)), share in zip(SETTINGS.items(), unit, strict=True):
        value = low + (high - low) * float(share)
        values[name] = round(value) if name in _WHOLE else value
    return values


def normalise(values: dict[str, int | float]) -> np.ndarray:
    """(8,) float32 in [0, 1], in the order of ``SETTINGS``."""
    return np.array([(values[n] - low) / (high - low) for n, (low, high) in SETTINGS.items()], np.float32)
