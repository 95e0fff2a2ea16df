"""Which files of a folder of class folders are images, in an order that every machine gives. No torch.

Nothing is opened here: 100,000 files take about a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpo.errors import DataError
from objectives.offenders import listed

FORBIDDEN = frozenset({"EPS"})  # Pillow would start Ghostscript, a program, on what the file says


@dataclass(frozen=True, order=True)
class Found:
    """A file: its path below the root with ``/`` between the parts, its size in bytes and when it changed."""

    path: str
    size: int
    mtime_ns: int

    @property
    def label(self) -> str:
        """Its class: the first folder of the path."""
        return self.path.partition("/")[0]


@dataclass(frozen=True)
class Listing:
    """The files with an image's name, sorted by path; the class folders; and how many other files there are."""

    files: tuple[Found, ...]
    classes: tuple[str, ...]
    others: int


@cache
def formats() -> tuple[str, ...]:
    """Every image format that Pillow reads here by itself."""
    from PIL import Image

    Image.init()
    return tuple(sorted(set(Image.OPEN) - FORBIDDEN))


@cache
def suffixes() -> frozenset[str]:
    """The endings of their files, in lower case."""
    from PIL import Image

    known = formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def list_images(root: Path) -> Listing:
    """The images in the class folders of ``root``, however deep; what begins with a dot is left out.

    A link to a folder is followed, unless it leads back to a folder that it lies in.

    Raises:
        DataError: ``root`` or a folder in it cannot be read, or a name is not UTF-8.
    """
    found: list[Found] = []
    classes: list[str] = []
    others = 0
    for entry in _entries(root):
        if not _is_folder(entry):
            others += 1
            continue
        classes.append(entry.name)
        inside = _walk(Path(entry.path), f"{entry.name}/", (_identity(root), _identity(entry.path)))
        others += _sort_out(inside, found)
    return Listing(tuple(sorted(found)), tuple(sorted(classes)), others)


def images_below(root: Path) -> tuple[list[Found], int]:
    """The images of ``root`` at any depth, sorted, and how many other files there are; otherwise as ``list_images``."""
    found: list[Found] = []
    others = _sort_out(_walk(root, "", (_identity(root),)), found)
    return sorted(found), others


def _sort_out(files: Iterator[tuple[str, os.stat_result]], found: list[Found]) -> int:
    """Add those with an image's name to ``found``, and count the others."""
    others = 0
    for path, status in files:
        if os.path.splitext(path)[1].lower() in suffixes():  # noqa: PTH122 (a Path for each costs a second)
            found.append(Found(path, status.st_size, status.st_mtime_ns))
        else:
            others += 1
    return others


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below ``folder``, by its path from the root, which begins with ``prefix``; ``above`` are the folders
    on the way here."""
    for entry in _entries(folder):
        path = prefix + entry.name
        if not _is_folder(entry):
            try:
                yield path, entry.stat()
            except OSError:  # a link to nothing, or to itself: its pixels are found unreadable like any other's
                yield path, entry.stat(follow_symlinks=False)
            continue
        own = _identity(entry.path)
        if own not in above:
            yield from _walk(Path(entry.path), f"{path}/", (*above, own))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} must be a folder that can be read; {error.strerror}.") from error
    # Any other name could be kept in no table and no database.
    wrong = [name for entry in found if (name := _as_text(entry.name)) != entry.name]
    if wrong:
        raise DataError(
            f"{folder}: names must be UTF-8; {len(wrong)} of {len(found)} are not: "
            f"{listed(sorted(wrong))}. Rename them."
        )
    return found


def _as_text(name: str) -> str:
    """The name, with those of its bytes escaped that are not UTF-8."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _identity(folder: str | Path) -> tuple[int, int]:
    """What is the same for a folder by whatever path."""
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino
