"""What an image says about how it will be traced: a 2048-value classical descriptor.

No weights, no training and no tracing: gradients, colours and edges, plus *flattening*:
what the image loses when neighbouring pixels of nearly equal colour are painted with one
colour (as any colour tracer must do first), at the six colour precisions of the settings,
and when regions smaller than a speckle vanish. All values lie in about [-1, 10].

    flattening    1074   region sizes, borders, SSIM left, at 6 precisions x 4 speckle sizes
    local          420   contrast and brightness in square blocks of 4 to 32 pixels
    gradients      144   magnitudes at 4 scales, per channel
    orientations   168   gradient orientations in 1, 4 and 16 cells
    colours        242   joint and per-channel colour histograms, means, spreads

Knows nothing of records and files. The optional ResNet-50 features stand at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hpo.errors import DataError

SIZE = 2048
KIND = "classical-1"  # raise the number whenever a value of the descriptor changes
_C1, _C2 = 0.01**2, 0.03**2  # the constants of SSIM (Wang et al. 2004) for values in [0, 1]
_SPECKLES = (0, 4, 8, 12)  # pixels: regions below this side squared vanish
_SHIFTS = range(6)  # bits that colour precision 8, 7, ... 3 ignores
_CONTRAST = np.concatenate([[0.0], np.geomspace(0.004, 0.7, 11)])
_BRIGHTNESS = np.concatenate([np.linspace(0, 0.1, 5), np.linspace(0.2, 1, 9)])  # fine where SSIM is: in the dark
_BORDER = np.array([0, 4, 8, 16, 32, 64, 128, 256]) / 255  # sum over channels, as tracers compare colours


def describe(image: np.ndarray) -> np.ndarray:
    """The descriptor of ``image``, (256, 256, 3) uint8 RGB: (2048,) float32, all finite."""
    x = image.astype(np.float32) / 255
    half = _pool(x, 2)
    blocks = [*_flattening(half), *_local(x), *_gradients(x, half), *_colors(image, x)]
    values = np.concatenate([np.ravel(block) for block in blocks]).astype(np.float32)
    if values.shape != (SIZE,):
        raise DataError(f"The descriptor is made for 256x256 RGB images; this one is {image.shape}.")
    return values


def _pool(x: np.ndarray, k: int) -> np.ndarray:
    """Means of k x k squares, k a power of two: (H, W, C) to (H / k, W / k, C).

    By halves: five times as fast as one ``mean`` over the axes of a reshaped array.
    """
    while k > 1:
        x = x[0::2] + x[1::2]
        x = (x[:, 0::2] + x[:, 1::2]) * np.float32(0.25)
        k //= 2
    return x


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares per edge; a value between two edges counts for both by its distance, so small changes stay small."""
    place = np.interp(values.ravel(), edges, np.arange(len(edges)))
    left = place.astype(np.int64)
    part = place - left
    counts = np.bincount(left, 1 - part, len(edges) + 1) + np.bincount(left + 1, part, len(edges) + 1)
    return counts[: len(edges)] / max(values.size, 1)


def _per_channel(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Square roots of the three channels' histograms: the root lets rare values count."""
    return np.sqrt(np.concatenate([_histogram(values[..., c], edges) for c in range(3)]))


# --- flattening: 6 x (30 regions + 8 borders + 4 x 27 left + 33 map) = 1074 ---------------


def _flattening(x: np.ndarray) -> list[np.ndarray]:
    """``x``: (128, 128, 3) in [0, 1]; half size, which costs a quarter and loses little."""
    levels = np.round(x * 255).astype(np.uint8)
    local = _Local(x)
    found: list[np.ndarray] = []
    for shift in _SHIFTS:
        labels = _regions(levels, shift)
        area = np.bincount(labels.ravel())
        color = np.stack([np.bincount(labels.ravel(), x[..., c].ravel()) / area for c in range(3)], 1)
        color = color.astype(np.float32)
        found += [_region_sizes(area), _borders(labels, color)]
        maps = []
        for side in _SPECKLES:
            flat = _without_speckles(x, color[labels], (area < (side / 2) ** 2)[labels]) if side else color[labels]
            left = local.ssim(flat)
            maps.append(_pool(1 - left, 8).mean(-1))
            found.append(left.mean((0, 1)))
            found.append(_histogram(left, np.linspace(0, 1, 7)))
            found.append(np.quantile(left, np.linspace(0.01, 0.7, 16)))
            found.append(np.sqrt(np.abs(flat - x).mean(keepdims=True)).ravel())
        found.append(np.sqrt(np.maximum(np.stack(maps[:2]), 0)))
        found.append(np.log1p(len(area), dtype=np.float32))
    return found


def _regions(levels: np.ndarray, shift: int) -> np.ndarray:
    """Labels (H, W) of regions whose neighbouring pixels differ by at most one level in every channel.

    This is the rule by which vtracer's first stage joins pixels (visioncortex, ``color_same``).
    """
    q = (levels >> shift).astype(np.int16)
    index = np.arange(q.shape[0] * q.shape[1]).reshape(q.shape[:2])
    across, down = (_all_channels(np.abs(np.diff(q, axis=axis)) <= 1) for axis in (1, 0))
    a = np.concatenate([index[:, :-1][across], index[:-1][down]])
    b = np.concatenate([index[:, 1:][across], index[1:][down]])
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(index.size, index.size))
    return connected_components(graph, directed=False)[1].reshape(index.shape)


def _all_channels(x: np.ndarray) -> np.ndarray:
    """``x.all(-1)``, ten times as fast for an axis of three."""
    return x[..., 0] & x[..., 1] & x[..., 2]


def _region_sizes(area: np.ndarray) -> np.ndarray:
    """How many regions, and what share of the pixels, per power of two of their area: (30,)."""
    size = np.log2(area)
    counts = np.log1p(_histogram(size, np.arange(15.0)) * len(area))
    shares = np.bincount(np.minimum(size.astype(int), 14), area, 15) / area.sum()
    return np.concatenate([counts, np.sqrt(shares)])


def _borders(labels: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Colour steps across region borders, as shares of all neighbouring pixels: (8,)."""
    a = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    b = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    apart = a != b
    step = np.abs(color[a[apart]] - color[b[apart]]).sum(-1)
    return np.sqrt(_histogram(step, _BORDER) * apart.mean())


def _without_speckles(x: np.ndarray, flat: np.ndarray, small: np.ndarray) -> np.ndarray:
    """``flat`` where the ``small`` regions show the mean of what surrounds them (8 x 8 squares)."""
    kept = (~small)[..., None].astype(np.float32)
    weight, total = _pool(kept, 8), _pool(x * kept, 8)
    overall = (total.sum((0, 1)) + 1e-6) / (weight.sum() + 1e-6)
    around = (total + 1e-3 * overall) / (weight + 1e-3)
    return np.where(small[..., None], around.repeat(8, 0).repeat(8, 1), flat)


class _Local:
    """SSIM against one image in squares of 4 x 4 pixels, its own half computed once."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.mean = x, _pool(x, 4)
        self.variance = np.maximum(_pool(x * x, 4) - self.mean**2, 0)

    def ssim(self, other: np.ndarray) -> np.ndarray:
        mean = _pool(other, 4)
        variance = np.maximum(_pool(other * other, 4) - mean**2, 0)
        covariance = _pool(self.x * other, 4) - self.mean * mean
        top = (2 * self.mean * mean + _C1) * (2 * covariance + _C2)
        return top / ((self.mean**2 + mean**2 + _C1) * (self.variance + variance + _C2))


# --- local 420, gradients 144, orientations 168, colours 242 -------------------------------


def _local(x: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for k in (4, 8, 16, 32):
        mean = _pool(x, k)
        variance = np.maximum(_pool(x * x, k) - mean**2, 0)
        found.append(_per_channel(np.sqrt(variance), _CONTRAST))
        found.append(_per_channel(_C2 / (variance + _C2), np.linspace(0, 1, 9)))
        if k in (8, 16):
            found.append(_joint(mean, np.sqrt(variance)))
    return [*found, _per_channel(_pool(x, 8), _BRIGHTNESS)]


def _joint(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Brightness and contrast of blocks together, 3 x 7 bins per channel: (63,)."""
    bright = np.digitize(mean, [0.08, 0.5])
    rough = np.digitize(spread, [0.004, 0.015, 0.03, 0.06, 0.12, 0.25])
    bins = bright * 7 + rough
    counts = np.concatenate([np.bincount(bins[..., c].ravel(), minlength=21) for c in range(3)])
    return np.sqrt(counts / bins[..., 0].size)


def _gradients(x: np.ndarray, half: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for scale, y in enumerate((x, half, _pool(x, 4), _pool(x, 8))):
        across, down = np.diff(y, axis=1)[:-1], np.diff(y, axis=0)[:, :-1]
        size = np.hypot(across, down)
        found.append(_per_channel(size, _CONTRAST))
        if scale == 0:
            found.append(_orientations(across, down, size))
    return found


def _orientations(across: np.ndarray, down: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Edges by direction (8 bins of 22.5 degrees) in 1, 4 and 16 cells, of the strongest channel: (168,)."""
    strongest = size.argmax(-1)[..., None]
    pick = [np.take_along_axis(part, strongest, -1)[..., 0] for part in (across, down, size)]
    angle = np.arctan2(pick[1], pick[0]) % np.pi
    direction = np.minimum((angle / np.pi * 8).astype(int), 7)
    found = []
    for cells in (1, 2, 4):
        row = np.arange(direction.shape[0]) * cells // direction.shape[0]
        place = (row[:, None] * cells + row) * 8 + direction
        sums = np.bincount(place.ravel(), pick[2].ravel(), cells * cells * 8)
        found.append(np.sqrt(sums * cells * cells / direction.size))
    return np.concatenate(found)


def _colors(image: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    q = (image >> 6).astype(int)
    joint = np.bincount(((q[..., 0] * 4 + q[..., 1]) * 4 + q[..., 2]).ravel(), minlength=64) / q[..., 0].size
    saturation, light = np.ptp(x, axis=-1), x.mean(-1)
    packed = image.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    return [
        np.sqrt(joint),
        _per_channel(x, _BRIGHTNESS),
        np.quantile(x[::2, ::2], np.linspace(0, 1, 11), axis=(0, 1)),
        np.sqrt(_histogram(saturation, np.linspace(0, 1, 32))),
        np.sqrt(_histogram(light, np.linspace(0, 1, 64))),
        x.mean((0, 1)),
        x.std((0, 1)),
        np.log1p([len(np.unique(packed))]),
    ]


def resnet50(images: np.ndarray, weights: str | Path, *, batch_size: int = 32) -> np.ndarray:
    """Pooled ResNet-50 features of ``images``, (n, 256, 256, 3) uint8: (n, 2048) float32.

    ``weights`` is a state dict of torchvision's ``resnet50``, as a ``.pth`` file; nothing is
    downloaded. Needs torchvision, which is an extra.

    Raises:
        DataError: torchvision is not installed, or the weights cannot be used.
    """
    import torch

    try:
        from torchvision.models import resnet50 as network
    except (ImportError, RuntimeError) as error:  # a CUDA-linked wheel beside the CPU torch raises RuntimeError
        raise DataError(
            f"ResNet-50 features need torchvision, which cannot be imported ({error}). "
            "Install a torchvision that fits your torch, or use the classical descriptor, which needs no weights."
        ) from error
    try:
        model = network(weights=None)
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:
        raise DataError(f"{weights}: not a state dict of torchvision's resnet50: {error}") from error
    model.fc = torch.nn.Identity()
    model.eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    parts = []
    with torch.inference_mode():
        for batch in torch.from_numpy(images).split(batch_size):
            parts.append(model(((batch / 255 - mean) / std).permute(0, 3, 1, 2)))
    return torch.cat(parts).numpy()
