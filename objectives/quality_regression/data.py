"""Records: read from Parquet or npz, refused if unusable, split by logo. No torch.

A file is read once per process as long as it does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from hpo.evaluation.splits import fold_rows, grouped_split
from hpo.trial import derive_seed
from objectives.given import is_whole, known_fields, require, unreadable
from objectives.quality_regression import formats

TYPES = ("simple", "text", "gradient", "complex")
FEATURES, SETTINGS = 2048, 8
MIN_RECORDS = 1000
TEST_SHARE = 0.15
VALIDATION_SHARE = 0.20 * (1 - TEST_SHARE)  # a fifth of what is not held out
_FIELDS = ("path", "min_records")


@dataclass(frozen=True)
class Records:
    """n checked records: ids (n,), features (n, 2048), settings (n, 8), ssim (n,), types (n,)."""

    logo_ids: np.ndarray
    features: np.ndarray
    settings: np.ndarray
    ssim: np.ndarray
    logo_types: np.ndarray
    feature_kind: str

    def __len__(self) -> int:
        return len(self.ssim)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Model inputs of ``rows``: (len(rows), 2056) float32."""
        return joined(self.features[rows], self.settings[rows])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content; the same for the same records in Parquet and npz."""
        digest = hashlib.sha256(self.feature_kind.encode())
        for texts in (self.logo_ids, self.logo_types):
            digest.update("\n".join(texts.tolist()).encode())
        for numbers in (self.features, self.settings, self.ssim):
            digest.update(np.ascontiguousarray(numbers).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Parts:
    """Row numbers of the three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(data: Mapping[str, Any]) -> Records:
    """The records that ``data`` (``path``, ``min_records``) names.

    Raises:
        DataError: an unknown field, a file that is missing, unreadable or of another form,
            or records that break a rule; with their count and the first offenders.
    """
    known_fields(data, _FIELDS)
    least = data.get("min_records", MIN_RECORDS)
    require(is_whole(least, 1), "min_records", "be a whole number of at least 1", least)
    require(isinstance(data.get("path"), (str, Path)), "path", "name a Parquet or npz file", data.get("path"))
    path = Path(data["path"])
    try:
        state = path.stat()
    except OSError as error:
        raise unreadable(path, error, "quality_regression", path) from error
    records = _read(path.absolute(), state.st_mtime_ns, state.st_size)
    if len(records) < least:
        raise DataError(
            f"{path} has {len(records)} records; at least {least} are needed. "
            "Make more, or lower min_records in the study's data."
        )
    return records


def split(records: Records, data_seed: int, fold: tuple[int, int] | None = None) -> Parts:
    """68 % to train on, 17 % to validate, 15 % held out: by logo, alike in types, from the seed alone.

    With a ``fold`` (index from 0, of how many) the same 15 % are held out, and the others
    are dealt out anew, by logo and alike in types again.

    Raises:
        DataError: there are too few logos, or there is no such fold.
    """
    shares = (1 - TEST_SHARE - VALIDATION_SHARE, VALIDATION_SHARE, TEST_SHARE)
    ids, types = records.logo_ids, records.logo_types
    train, validation, test = grouped_split(ids, types, shares, data_seed, "logos")
    if fold is not None:
        rest = np.concatenate([train, validation])
        train, validation = fold_rows(rest, ids, types, fold, derive_seed(data_seed, "folds"))
    return Parts(train, validation, test)


def split_ids(records: Records, data_seed: int) -> dict[str, list[str]]:
    """The logo ids of each part, sorted, as a split is stored."""
    parts = vars(split(records, data_seed))
    return {name: sorted(set(records.logo_ids[rows].tolist())) for name, rows in parts.items()}


@lru_cache(maxsize=2)
def _read(path: Path, mtime_ns: int, size: int) -> Records:
    """``mtime_ns`` and ``size`` are there to make the cache forget a file that changed."""
    columns, kind = formats.read(path)
    missing = [name for name in formats.COLUMNS if name not in columns]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}. A record has {', '.join(formats.COLUMNS)}.")
    ids = columns["logo_id"]
    rows = formats.Rows(path, ids)
    records = Records(
        logo_ids=rows.text("logo_id", ids),
        features=rows.vectors("features", columns["features"], FEATURES),
        settings=rows.vectors("settings", columns["settings"], SETTINGS),
        ssim=rows.numbers("ssim", columns["ssim"]),
        logo_types=rows.text("logo_type", columns["logo_type"]),
        feature_kind=kind,
    )
    _check(rows, records)
    for array in (records.features, records.settings, records.ssim):
        array.setflags(write=False)  # shared by every trial of this process
    return records


def joined(features: np.ndarray, settings: np.ndarray) -> np.ndarray:
    """What the model takes, (n, 2056) float32, of features (n, 2048) and settings (n, 8)."""
    return np.concatenate([features, settings], axis=1)


def check_inputs(rows: formats.Rows, features: np.ndarray, settings: np.ndarray) -> None:
    """
    Raises:
        DataError: features (n, 2048) are not finite, or settings (n, 8) are outside [0, 1].
    """
    rows.refuse(np.logical_not(np.isfinite(features).all(axis=1)), "features must be finite")
    off = np.logical_not(((settings >= 0) & (settings <= 1)).all(axis=1))
    rows.refuse(off, "settings must be normalised to [0, 1]")


def _check(rows: formats.Rows, records: Records) -> None:
    ssim = records.ssim
    rows.refuse(np.logical_not((ssim >= 0) & (ssim <= 1)), "ssim must be in [0, 1]", ssim)
    rows.refuse(~np.isin(records.logo_types, TYPES), f"logo_type must be one of {', '.join(TYPES)}", records.logo_types)
    check_inputs(rows, records.features, records.settings)
    first: dict[str, str] = {}
    pairs = zip(records.logo_ids.tolist(), records.logo_types.tolist(), strict=True)
    mixed = np.array([first.setdefault(logo, kind) != kind for logo, kind in pairs], dtype=bool)
    rows.refuse(mixed, "all records of a logo must have one logo_type", records.logo_types)
