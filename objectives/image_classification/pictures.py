"""One image file: whether it can be used, and its pixels as everything here sees them. No torch."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hpo.errors import DataError
from objectives.image_classification.listing import formats

MIN_SIDE_PX = 10
MAX_PIXELS = 89_478_485  # Pillow's own limit, from which on it warns of a decompression bomb
WHITE = (255, 255, 255, 255)
CANNOT_BE_OPENED = "cannot be opened"  # the one kind of fault that does not lie in the file's content

# Of what it reads in spite of a doubt Pillow warns; here a file is either good or left out, and that is told.
warnings.filterwarnings("ignore", module="PIL")


class Unusable(Exception):
    """An image that cannot be used: ``kind`` is one of few, to be counted; the message says more."""

    def __init__(self, kind: str, more: str = "") -> None:
        super().__init__(f"{kind}: {more}" if more else kind)
        self.kind = kind


@dataclass(frozen=True)
class Verdict:
    """``fault`` is empty for an image that can be used; ``digest`` is then the same for the same pixels only."""

    fault: str = ""
    kind: str = ""
    digest: str = ""


def judge(path: str | Path) -> Verdict:
    """Decode a file whole; whatever is wrong with it is the answer and never an exception."""
    try:
        image = read(path)
    except Unusable as error:
        return Verdict(str(error), error.kind)
    pixels = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    pixels.update(image.tobytes())
    return Verdict(digest=pixels.hexdigest())


def read(path: str | Path, about: int | None = None) -> Image.Image:
    """The first frame of a file, upright, as 8-bit RGB, what is transparent on white.

    Args:
        about: a side in pixels; a larger JPEG is then decoded at a half, a quarter or an
            eighth, but never below this, which takes a fraction of the time.

    Raises:
        Unusable: it cannot be read or decoded whole, or its size is out of bounds.
    """
    try:
        with Image.open(path, formats=formats()) as image:
            _check_size(image)
            if about is not None:
                image.draft("RGB", (about, about))
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except (Unusable, MemoryError):
        raise
    except UnidentifiedImageError:
        empty = Path(path).stat().st_size == 0
        raise Unusable("empty file" if empty else "not an image") from None
    except Image.DecompressionBombError:
        raise Unusable("too large", f"over {2 * MAX_PIXELS:,} pixels") from None
    except OSError as error:
        if error.errno is not None:
            raise Unusable(CANNOT_BE_OPENED, str(error.strerror)) from error
        raise Unusable("damaged", _line(error)) from error
    except Exception as error:  # a damaged file makes a decoder raise whatever it likes
        raise Unusable("damaged", _line(error)) from error


def decoded(path: Path, side_px: int) -> np.ndarray:
    """The pixels of a file as a model gets them: (3, side_px, side_px) uint8.

    Raises:
        DataError: it cannot be used, though it could when the data was checked.
    """
    try:
        return square(read(path, about=side_px), side_px)
    except Unusable as error:
        raise DataError(f"{path} was a whole image when the data was checked, and now is not: {error}.") from error


def square(image: Image.Image, side: int) -> np.ndarray:
    """(3, side, side) uint8: the largest square in the middle, resized."""
    if image.size != (side, side):
        image = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise Unusable("too small", f"{width}x{height}, below {MIN_SIDE_PX} px on a side")
    if width * height > MAX_PIXELS:
        raise Unusable("too large", f"{width}x{height}, over {MAX_PIXELS:,} pixels")


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode. 16-bit grey loses its lower half; floating-point grey must lie in [0, 1]."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image)
        if not ((values >= 0) & (values <= 1)).all():
            raise Unusable("not a picture", "floating-point values outside [0, 1]")
        image = Image.fromarray((values * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image.convert("RGB")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__
