"""What people give an objective, under ``data:`` or to its maker, held against what there is. No torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from hpo.errors import DataError, UnknownName


def known_fields(data: Mapping[str, Any], known: Collection[str]) -> None:
    """
    Raises:
        DataError: ``data`` has a field of another name.
    """
    for name in data:
        if name not in known:
            raise DataError(f"data: {UnknownName('field', name, known)}")


def known_options(objective: str, options: Iterable[str], known: Collection[str]) -> None:
    """
    Raises:
        UnknownName: the objective's maker has no such option.
    """
    for name in options:
        if name not in known:
            raise UnknownName(f"option of {objective}'s maker", name, known)


def unreadable(path: Path, error: OSError, objective: str, out: object) -> DataError:
    """A file or folder that cannot be read; one that is not there the objective's maker can make, into ``out``."""
    missing = isinstance(error, FileNotFoundError)
    advice = f"Make one with `hpo make-data {objective} --out {out}`." if missing else "Choose one that you may read."
    return DataError(f"{path}: {error.strerror or error}. {advice}")


def require(holds: object, name: str, rule: str, value: object) -> None:
    """
    Raises:
        DataError: ``name`` does not hold; it says that it must ``rule``, and the value.
    """
    if not holds:
        raise DataError(f"data: {name} must {rule}; got {value!r}.")


def is_whole(value: object, low: float, high: float = math.inf) -> bool:
    """Whether it is a whole number from ``low`` to ``high``; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
