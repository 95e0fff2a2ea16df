"""Drawing logos: four types, each from nothing but a random generator.

    simple    one to four flat shapes
    text      words, with a mark or a line beside them
    gradient  shapes and grounds that blend between two or three colours
    complex   many overlapping elements: shapes, lines, dots, glyphs, blends

Knows nothing of tracing and features. Drawn at twice the size and scaled down, so edges
are anti-aliased as in a real raster logo.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from objectives.quality_regression.data import TYPES

SIDE = 256
_BIG = 2 * SIDE
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&+."

Color = tuple[int, int, int]
Points = list[tuple[float, float]]


def draw(logo_type: str, rng: np.random.Generator) -> np.ndarray:
    """A logo of ``logo_type``: (256, 256, 3) uint8, RGB. The same generator state gives the same logo."""
    palette = _palette(rng)
    canvas = Image.new("RGB", (_BIG, _BIG), palette[0])
    _PAINTERS[logo_type](canvas, palette, rng)
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))


def _simple(canvas: Image.Image, palette: list[Color], rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(canvas)
    for i in range(int(rng.integers(1, 5))):
        _shape(pen, palette[1 + i % 4], rng, radius=_BIG * rng.uniform(0.10, 0.42), spread=0.22)


def _text(canvas: Image.Image, palette: list[Color], rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(canvas)
    if rng.random() < 0.5:
        _shape(pen, palette[3], rng, radius=_BIG * rng.uniform(0.1, 0.4), spread=0.3)
    lines = int(rng.integers(1, 6))
    top = rng.uniform(0.05, 0.3) * _BIG
    for i in range(lines):
        size = float(rng.uniform(0.35, 1.0)) * (_BIG - top) / (lines - i) / 1.2
        word = _word(rng, int(rng.integers(2, 14)))
        font = _font(max(10, int(min(size, 1.8 * _BIG / len(word)))))
        left = max(4.0, (_BIG - pen.textlength(word, font=font)) * rng.uniform(0.1, 0.9))
        pen.text((left, top), word, fill=palette[1 + i % 2], font=font)
        top += font.size * 1.2
    if rng.random() < 0.4:
        height = int(rng.integers(2, 16))
        pen.rectangle((0.1 * _BIG, top, 0.9 * _BIG, top + height), fill=palette[4])


def _gradient(canvas: Image.Image, palette: list[Color], rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        canvas.paste(_blend(palette, rng))
    for i in range(int(rng.integers(1, 4))):
        mask = Image.new("L", canvas.size, 0)
        _shape(ImageDraw.Draw(mask), 255, rng, radius=_BIG * rng.uniform(0.15, 0.45), spread=0.2)
        canvas.paste(_blend(palette[i % 2 :], rng), mask=mask)
    if rng.random() < 0.4:
        _shape(ImageDraw.Draw(canvas), palette[4], rng, radius=_BIG * rng.uniform(0.05, 0.2), spread=0.2)


def _complex(canvas: Image.Image, palette: list[Color], rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(canvas)
    if rng.random() < 0.25:
        canvas.paste(_blend(palette, rng))
    scale = _BIG * rng.uniform(0.03, 0.16)  # one scale per logo: from confetti to large patches
    for _ in range(int(rng.integers(20, 121))):
        color = _jitter(palette[int(rng.integers(len(palette)))], rng)
        kind = rng.random()
        if kind < 0.65:
            _shape(pen, color, rng, radius=scale * rng.uniform(0.3, 1.6), spread=0.48)
        elif kind < 0.85:
            ends = rng.uniform(0, _BIG, 4)
            pen.line(tuple(ends), fill=color, width=int(rng.integers(1, 12)))
        else:
            x, y = rng.uniform(0, 0.9 * _BIG, 2)
            pen.text((x, y), _word(rng, int(rng.integers(1, 6))), fill=color, font=_font(int(12 + scale)))


_PAINTERS: dict[str, Callable[[Image.Image, list[Color], np.random.Generator], None]] = dict(
    zip(TYPES, (_simple, _text, _gradient, _complex), strict=True)
)


def _shape(
    pen: ImageDraw.ImageDraw, fill: Color | int, rng: np.random.Generator, *, radius: float, spread: float
) -> None:
    """One ellipse, box, ring, arc, polygon or star around a random centre."""
    x, y = _BIG * rng.uniform(0.5 - spread, 0.5 + spread, 2)
    w, h = radius, radius * rng.uniform(0.4, 1.0)
    box = (x - w, y - h, x + w, y + h)
    kind = rng.integers(6)
    if kind == 0:
        pen.ellipse(box, fill=fill)
    elif kind == 1:
        pen.rounded_rectangle(box, radius=float(rng.uniform(0, 0.9)) * h, fill=fill)
    elif kind == 2:
        pen.ellipse(box, outline=fill, width=max(2, int(radius * rng.uniform(0.08, 0.5))))
    elif kind == 3:
        start = float(rng.uniform(0, 360))
        pen.pieslice(box, start, start + float(rng.uniform(60, 300)), fill=fill)
    else:
        inner = 1.0 if kind == 4 else float(rng.uniform(0.3, 0.8))
        pen.polygon(_star(x, y, radius, inner, int(rng.integers(3, 10)), rng), fill=fill)


def _star(x: float, y: float, radius: float, inner: float, tips: int, rng: np.random.Generator) -> Points:
    turn = float(rng.uniform(0, 2 * math.pi))
    corners = 2 * tips if inner < 1 else tips
    reach = [radius * (inner if inner < 1 and i % 2 else 1.0) for i in range(corners)]
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(reach, angles, strict=True)]


def _blend(palette: list[Color], rng: np.random.Generator) -> Image.Image:
    """A full canvas that runs through two or three colours, along a line or from a centre."""
    axis = np.linspace(-1, 1, _BIG, dtype=np.float32)
    if rng.random() < 0.5:
        turn = float(rng.uniform(0, 2 * math.pi))
        run = axis[None, :] * math.cos(turn) + axis[:, None] * math.sin(turn)
    else:
        cx, cy = rng.uniform(-0.6, 0.6, 2)
        run = np.hypot(axis[None, :] - cx, axis[:, None] - cy).astype(np.float32)
    run = (run - run.min()) / (run.max() - run.min())
    run = (run * rng.choice([1.0, 1.0, 1.0, 2.0, 3.0])) % 1.0001  # some repeat: a hard edge each time
    stops = int(rng.integers(2, 4))
    at = np.linspace(0, 1, stops)
    channels = [np.interp(run, at, [palette[i][c] for i in range(stops)]) for c in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _palette(rng: np.random.Generator) -> list[Color]:
    """Five colours, ground first, related by hue; contrast runs from faint to strong."""
    hue, spread = float(rng.random()), float(rng.uniform(0.03, 0.5))
    contrast = float(rng.uniform(0.3, 1.0))
    ground = float(rng.choice([1.0, 0.95, 0.1, rng.random()]))
    colors = [colorsys.hsv_to_rgb(hue, float(rng.uniform(0, 0.3)), ground)]
    for i in range(4):
        value = float(np.clip(ground + contrast * (-1 if ground > 0.5 else 1) * rng.uniform(0.3, 1.0), 0, 1))
        colors.append(colorsys.hsv_to_rgb((hue + spread * i) % 1, float(rng.uniform(0.2, 1.0)), value))
    return [(int(255 * r), int(255 * g), int(255 * b)) for r, g, b in colors]


def _jitter(color: Color, rng: np.random.Generator) -> Color:
    red, green, blue = np.clip(np.asarray(color) + rng.normal(0, 18, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _word(rng: np.random.Generator, length: int) -> str:
    return "".join(_LETTERS[i] for i in rng.integers(len(_LETTERS), size=length))


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable font, so that no font has to be installed."""
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("This Pillow was built without FreeType; install the ordinary wheel: pip install pillow.")
    return font
