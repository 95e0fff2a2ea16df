"""What a study file's ``data`` says about recordings and the model: every field, checked. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hpo.errors import DataError
from hpo.training.weights import FORMATS
from objectives.given import is_whole, known_fields, require, sha256_of
from objectives.rf_localization.maker import RECORDINGS
from objectives.rf_localization.presets import PRESETS

FRAMES = ("pool", "window")
RECEIVERS = ("all", "single")
_TEXTS = ("path", "table", "preset", "frames", "receivers")
_FLAGS = ("mfcc", "stratify", "freeze")


@dataclass(frozen=True)
class Fields:
    """The fields of ``data``; README.md says what each means."""

    path: str = "data/rf"
    labels: str | None = None
    table: str = "labels"
    recordings: str | None = None
    cache: str | None = None
    rate_hz: int = 192_000
    min_events: int = 30
    frames: str = "pool"
    mfcc: bool = False
    receivers: str = "all"
    stratify: bool = False
    preset: str = "tiny"
    weights: str | None = None
    freeze: bool = False

    @property
    def labels_url(self) -> str | None:
        """The address of a database with the labels; None where they are a file.

        Raises:
            DataError: it holds a password, which the study would keep, or its variable is not set.
        """
        named = self.labels or ""
        if "@" in named and ":" in named.partition("://")[2].rpartition("@")[0]:
            raise DataError("data: labels: a password does not belong into the study file; give $NAME of a variable.")
        if named.startswith("$"):
            if named[1:] not in os.environ:
                raise DataError(f"data: labels: the environment variable {named[1:]} is not set.")
            named = os.environ[named[1:]]
        return named if "://" in named else None

    @property
    def labels_file(self) -> Path:
        """``labels``, or the folder's own ``labels.parquet`` or ``labels.csv``."""
        if self.labels is not None:
            return Path(self.labels)
        csv = Path(self.path) / "labels.csv"
        return csv if csv.exists() else Path(self.path) / "labels.parquet"

    @property
    def recordings_place(self) -> str:
        """A folder, or an address of S3."""
        return self.recordings or str((Path(self.path) / RECORDINGS).absolute())

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache) if self.cache else Path(self.path) / "features"


def checked(data: Mapping[str, Any]) -> Fields:
    """``data`` as ``Fields``.

    Raises:
        DataError: a field is unknown, of another type, or not among what it can be.
    """
    known_fields(data, [field.name for field in fields(Fields)])
    given: dict[str, Any] = {n: str(value) if isinstance(value, Path) else value for n, value in data.items()}
    found = Fields(**given)
    for name in _TEXTS:
        value = getattr(found, name)
        require(isinstance(value, str) and value, name, "be a text", value)
    for name in ("labels", "recordings", "cache", "weights"):
        value = getattr(found, name)
        require(value is None or (isinstance(value, str) and value != ""), name, "be a path, or null", value)
    for name in _FLAGS:
        value = getattr(found, name)
        require(isinstance(value, bool), name, "be true or false", value)
    for name, low in (("rate_hz", 1_000), ("min_events", 3)):
        value = getattr(found, name)
        require(is_whole(value, low), name, f"be a whole number of at least {low}", value)
    for name, values in (("frames", FRAMES), ("receivers", RECEIVERS), ("preset", tuple(PRESETS))):
        value = getattr(found, name)
        require(value in values, name, f"be one of {', '.join(values)}", value)
    usable = not found.freeze or found.weights
    require(usable, "freeze", "be false without weights: noise would be frozen", found.freeze)
    _check_weights(found.weights)
    return found


def identity(fields: Fields, fingerprint: str) -> str:
    """What makes another study of it: the records' ``fingerprint`` and every field that is not a place."""
    weights = None if fields.weights is None else sha256_of(fields.weights)
    chosen = (fields.frames, fields.mfcc, fields.receivers, fields.stratify, fields.preset, fields.freeze)
    return hashlib.sha256(repr((fingerprint, weights, *chosen)).encode()).hexdigest()


def _check_weights(weights: str | None) -> None:
    if weights is None:
        return
    if Path(weights).suffix not in FORMATS:
        raise DataError(f"data: weights must be a file that ends in {', '.join(FORMATS)}; got {weights!r}.")
    try:
        with Path(weights).open("rb"):
            pass
    except OSError as error:
        raise DataError(f"data: weights: {weights}: {error.strerror}. Give a file that is there, or null.") from error
