"""What models, versions and labels may be called, and what a reference to one looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hpo.errors import UserError
from hpo.export.bundle import CHECKSUMS, MANIFEST

LATEST = "latest"
Bump = Literal["major", "minor", "patch"]
Number = tuple[int, int, int]

_FIRST: Number = (1, 0, 0)
_HIGHEST = 2**31 - 1  # what every database keeps as an integer
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")
_LIKE_A_VERSION = re.compile(r"[vV]?[0-9]+(\.[0-9]+)*")
_RULE = "letters, digits, '.', '_' and '-', at most 100, the first a letter or a digit"


@dataclass(frozen=True)
class Reference:
    """A version of a model, by its number or by a label: ``NAME@v1.2.0``, ``NAME@LABEL``."""

    model: str
    wanted: str = LATEST

    def __str__(self) -> str:
        return f"{self.model}@{self.wanted}"


def parse_reference(text: str) -> Path | Reference:
    """A bundle's folder, or a version of a model; a plain ``NAME`` means ``NAME@latest``.

    A name that is also a bundle's folder here is that folder.

    Raises:
        UserError: neither a path nor names that models, versions and labels can have.
    """
    model, at, wanted = text.partition("@")
    folder = Path(text)
    try:
        if any((folder / name).is_file() for name in (MANIFEST, CHECKSUMS)):
            return folder
    except OSError:
        return folder  # whoever opens it says why it cannot be read
    if not at:
        return Reference(text) if _NAME.fullmatch(text) else folder
    if not _NAME.fullmatch(model) or not _NAME.fullmatch(wanted):
        raise UserError(f"A model is named as a bundle's folder, NAME@v1.2.0, NAME@LABEL or NAME; got {text!r}.")
    return Reference(model, wanted)


def check_model(name: str) -> None:
    """Raises UserError unless a model may be called so."""
    if not _NAME.fullmatch(name):
        raise UserError(f"A model's name is of {_RULE}; got {name!r}.")


def check_label(label: str) -> None:
    """Raises UserError unless a label may be called so."""
    if not _NAME.fullmatch(label):
        raise UserError(f"A label is of {_RULE}; got {label!r}.")
    if _LIKE_A_VERSION.fullmatch(label):
        raise UserError(f"A label may not look like a version; got {label!r}.")


def parse_number(text: str) -> Number:
    """``1.2.0`` or ``v1.2.0``.

    Raises:
        UserError: it is neither.
    """
    found = _VERSION.fullmatch(text)
    number = tuple(map(int, found.groups())) if found else ()
    if len(number) != 3 or max(number) > _HIGHEST:
        raise UserError(f"A version is written MAJOR.MINOR.PATCH, such as 1.2.0; got {text!r}.")
    return number


def next_number(there: Sequence[Number], bump: str) -> Number:
    """The one after the highest; 1.0.0 where there is none.

    Raises:
        UserError: ``bump`` is none of ``Bump``.
    """
    if bump not in get_args(Bump):
        raise UserError(f"--bump is one of {', '.join(get_args(Bump))}; got {bump!r}.")
    if not there:
        return _FIRST
    major, minor, patch = max(there)
    return {"major": (major + 1, 0, 0), "minor": (major, minor + 1, 0), "patch": (major, minor, patch + 1)}[bump]
