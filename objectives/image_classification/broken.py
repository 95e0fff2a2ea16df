"""Files that look like images and are none, for trying out what becomes of them: one function per kind of fault."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

Make = Callable[[Image.Image], bytes]


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _empty(image: Image.Image) -> bytes:
    return b""


def _text(image: Image.Image) -> bytes:
    return b"This is a text and not an image.\n"


def _truncated(image: Image.Image) -> bytes:
    whole = encoded(image.resize((64, 64)), "jpeg")
    return whole[: len(whole) // 2]


def _bits_flipped(image: Image.Image) -> bytes:
    """A PNG whose compressed pixels no longer match their checksum."""
    whole = bytearray(encoded(image))
    middle = whole.index(b"IDAT") + 12
    whole[middle : middle + 4] = bytes(255 - value for value in whole[middle : middle + 4])
    return bytes(whole)


def _tiny(image: Image.Image) -> bytes:
    return encoded(image.resize((4, 4)))


def _bomb(image: Image.Image) -> bytes:
    """A few kilobytes that say they are 30,000 pixels wide and high."""
    whole = bytearray(encoded(Image.fromarray(np.zeros((16, 16), np.uint8))))
    at = whole.index(b"IHDR")
    whole[at + 4 : at + 12] = (30_000).to_bytes(4, "big") * 2
    whole[at + 17 : at + 21] = zlib.crc32(whole[at : at + 17]).to_bytes(4, "big")
    return bytes(whole)


# Each with the kind that the loader gives it (``pictures.Unusable``).
FAULTS: Mapping[str, tuple[Make, str]] = {
    "empty": (_empty, "empty file"),
    "text": (_text, "not an image"),
    "truncated": (_truncated, "damaged"),
    "bits-flipped": (_bits_flipped, "damaged"),
    "tiny": (_tiny, "too small"),
    "bomb": (_bomb, "too large"),
}
