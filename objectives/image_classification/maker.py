"""Making images: scikit-learn's handwritten digits, each written as a PNG file into the folder of its class.

The 1,797 digits of 8x8 pixels are a part of UCI's "Optical Recognition of Handwritten
Digits" and come with scikit-learn. A file depends on its digit and on ``side_px`` alone;
``seed`` says which digits are taken where fewer than all are asked for, and which files
are broken. An interrupted call goes on where it was.
"""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hpo import durable
from hpo.errors import DataError
from objectives.image_classification.broken import FAULTS, encoded
from objectives.image_classification.pictures import MIN_SIDE_PX

VERSION = 1  # raise it whenever the same recipe gives other files
RECIPE = ".recipe.json"  # hidden, so that it is no class
DIGITS = 1797


@dataclass(frozen=True)
class Recipe:
    """What decides the content of the folder."""

    seed: int
    records: int
    side_px: int
    broken: int
    maker: int = VERSION


@dataclass(frozen=True)
class Made:
    """What a run of the maker did. ``reused`` counts files found finished."""

    path: Path
    files: int
    reused: int


def make(
    out: str | Path,
    seed: int,
    *,
    records: int | None = None,
    side_px: int = 32,
    broken: int = 0,
    progress: bool = True,
) -> Made:
    """Write ``records`` digits, and ``broken`` further files that are no images, below ``out``; a second or two.

    Args:
        records: how many of the 1,797, drawn without repeating; None: all.
        side_px: height and width of an image, from ``MIN_SIDE_PX``.
        broken: files with the faults of ``broken.FAULTS`` in turn, for trying out what becomes of them.
        progress: a bar on stderr.

    Raises:
        DataError: a number is out of range, ``out`` holds something else or comes from
            another recipe, or nothing can be written there (no room, no permission).
    """
    records = DIGITS if records is None else records
    _check("seed", seed, 0, 2**63 - 1)
    _check("records", records, 1, DIGITS)
    _check("side_px", side_px, MIN_SIDE_PX, 1024)
    _check("broken", broken, 0, 10_000)
    path = Path(out)
    try:
        _claim(path, Recipe(seed, records, side_px, broken))
        return _write(path, Recipe(seed, records, side_px, broken), progress)
    except OSError as error:
        raise _explained(error, path) from error


def _check(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise DataError(f"{name} must be a whole number from {low} to {high}; got {value!r}.")


def _claim(folder: Path, recipe: Recipe) -> None:
    """Say what is made here, or refuse a folder that holds anything else."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / RECIPE
    if not note.exists():
        if any(folder.iterdir()):
            raise DataError(f"{folder} holds files that were not made here. Choose another folder.")
        durable.write(note, lambda temporary: temporary.write_text(json.dumps(asdict(recipe))))
        return
    try:
        found = json.loads(note.read_text())
    except ValueError:
        found = {}
    wanted = asdict(recipe)
    if found != wanted:
        told = ", ".join(f"{n} {found.get(n)!r}, not {wanted[n]!r}" for n in wanted if found.get(n) != wanted[n])
        raise DataError(f"{folder} holds images of another recipe ({told}). Delete it, or choose another folder.")


def _write(folder: Path, recipe: Recipe, progress: bool) -> Made:
    from sklearn.datasets import load_digits
    from tqdm import tqdm

    digits, labels = load_digits(return_X_y=True)
    generator = np.random.default_rng(recipe.seed)
    chosen = np.sort(generator.permutation(DIGITS)[: recipe.records])
    carriers = generator.choice(chosen, recipe.broken)
    kinds = [list(FAULTS)[i % len(FAULTS)] for i in range(recipe.broken)]
    reused = 0
    with tqdm(total=len(chosen) + recipe.broken, unit="file", file=sys.stderr, disable=not progress) as bar:
        for number in chosen:
            name = f"{labels[number]}/digit-{number:04d}.png"
            reused += _put(folder / name, encoded(_picture(digits[number], recipe.side_px)))
            bar.update()
        for i, (number, kind) in enumerate(zip(carriers, kinds, strict=True)):
            content = FAULTS[kind][0](_picture(digits[number], recipe.side_px))
            reused += _put(folder / f"{labels[number]}/broken-{i:04d}-{kind}.png", content)
            bar.update()
    return Made(folder, len(chosen) + recipe.broken, reused)


def _picture(values: np.ndarray, side_px: int) -> Image.Image:
    """(64,) values in [0, 16] as a grey picture, white on black as they come."""
    small = Image.fromarray((values.reshape(8, 8) * (255 / 16)).round().astype(np.uint8))
    return small.resize((side_px, side_px), Image.Resampling.BICUBIC)


def _put(path: Path, content: bytes) -> bool:
    """Write a file whole, unless it is there; whether it was."""
    if path.exists():
        return True
    path.parent.mkdir(exist_ok=True)
    durable.write(path, lambda temporary: temporary.write_bytes(content), sync=False)
    return False


def _explained(error: OSError, path: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"No room left to write {path}. Free some space and call again; finished files are kept.")
    return DataError(f"Cannot write {path}: {error.strerror or error}. Choose a folder that you may write to.")
