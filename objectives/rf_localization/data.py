"""Events: the recordings of one transmission put together, refused if unusable, split by session. No torch.

Read once per process, as long as the file of labels does not change.
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
from objectives.given import unreadable
from objectives.rf_localization import labels, maker, recordings
from objectives.rf_localization.fields import Fields, checked

SHARES = (0.70, 0.10, 0.20)  # train, validation, test
ABSENT = -1
N_FFT = 2_048  # samples; a recording has at least so many
_REGIONS = 3  # to each side, when a split is stratified


@dataclass(frozen=True)
class Events:
    """E events heard by R receivers, from N recordings.

    ``recording`` (E, R) is a row of ``files``, or ``ABSENT``. Positions (E, 2) and sites (R, 2)
    are degrees, latitude first. ``snr_db`` (E, R) is NaN where absent. Every recording has ``samples``.
    """

    files: np.ndarray
    recording: np.ndarray
    positions: np.ndarray
    sessions: np.ndarray
    freq_mhz: np.ndarray
    snr_db: np.ndarray
    receivers: np.ndarray
    sites: np.ndarray
    samples: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def present(self) -> np.ndarray:
        """(E, R) bool."""
        return self.recording != ABSENT

    @property
    def regions(self) -> np.ndarray:
        """(E,) the cell of a grid of thirds in which each event lies, for a stratified split."""
        low, high = self.positions.min(axis=0), self.positions.max(axis=0)
        cells = np.minimum((self.positions - low) / np.maximum(high - low, 1e-12) * _REGIONS, _REGIONS - 1)
        return np.asarray(cells.astype(int) @ (_REGIONS, 1))


@dataclass(frozen=True)
class Parts:
    """Rows of events in the three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(data: Mapping[str, Any]) -> Events:
    """The events that ``data`` names.

    Raises:
        DataError: a field of ``data`` is wrong; a file, table, column or recording is missing or
            breaks a rule (with their count and the first five); or there are too few events.
    """
    fields = checked(data)
    if fields.labels_url is not None:
        events = _read(fields, fields.labels_url, 0)
    else:
        events = _read(fields, None, _changed_ns(fields.labels_file))
    if len(events) < fields.min_events:
        raise DataError(
            f"{fields.path} has {len(events)} events; at least {fields.min_events} are needed. "
            "Record more, or lower min_events in the study's data."
        )
    return events


def split(events: Events, fields: Fields, data_seed: int, fold: tuple[int, int] | None = None) -> Parts:
    """70 % to train on, 10 % to validate, 20 % held out: by session, from the seed alone.

    With a ``fold`` (index from 0, of how many) the same 20 % are held out, and the others
    are dealt out anew, by session again.

    Raises:
        DataError: there are too few sessions, or there is no such fold.
    """
    strata = events.regions if fields.stratify else np.zeros(len(events), dtype=int)
    train, validation, test = grouped_split(events.sessions, strata, SHARES, data_seed, "sessions")
    if fold is not None:
        rest = np.concatenate([train, validation])
        train, validation = fold_rows(rest, events.sessions, strata, fold, derive_seed(data_seed, "folds"))
    return Parts(train, validation, test)


def split_ids(events: Events, fields: Fields, data_seed: int) -> dict[str, list[str]]:
    """The sessions of each part, sorted, as a split is stored."""
    parts = vars(split(events, fields, data_seed))
    return {name: sorted(set(events.sessions[rows].tolist())) for name, rows in parts.items()}


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise unreadable(path, error, "rf_localization", "FOLDER") from error


@lru_cache(maxsize=4)
def _read(fields: Fields, url: str | None, changed_ns: int) -> Events:
    """``changed_ns`` is there to make the cache forget a file that changed."""
    rows = labels.from_database(url, fields.table) if url else labels.from_file(fields.labels_file)
    site_rows = labels.from_file(Path(fields.path) / maker.RECEIVERS, labels.SITE_TEXTS, labels.SITE_NUMBERS)
    rows.refuse(rows["freq_mhz"] <= 0, "freq_mhz must be above 0", "freq_mhz")
    first, event, recording = grouped(rows, site_rows)
    positions = np.stack([rows["latitude"], rows["longitude"]], axis=1)
    moved = (positions != positions[first][event]).any(axis=1)
    rows.refuse(moved, "all recordings of one session and time must have one position", "file")
    snr_db = np.full(recording.shape, np.nan)
    snr_db[recording != ABSENT] = rows["snr_db"][recording[recording != ABSENT]]
    place = recordings.place_of(fields.recordings_place)
    heads = recordings.heads(place, rows["file"].tolist(), N_FFT)
    return Events(
        files=rows["file"],
        recording=recording,
        positions=positions[first],
        sessions=rows["session_id"][first],
        freq_mhz=rows["freq_mhz"][first],
        snr_db=snr_db,
        receivers=site_rows["receiver_id"],
        sites=np.stack([site_rows["latitude"], site_rows["longitude"]], axis=1),
        samples=heads[0].samples,
        fingerprint=_fingerprint(fields, rows, site_rows, heads),
    )


def grouped(rows: labels.Rows, sites: labels.Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of n recordings are one event: those of one session and time, E in all, in their order.

    Returns:
        The first row of each event (E,), the event of each row (n,), and the row that each of R ``sites`` heard
        of each event (E, R), or ``ABSENT``.

    Raises:
        DataError: a recording or a site stands there twice, a receiver is not among the sites, or recorded an
            event twice.
    """
    names = sites["receiver_id"]
    sites.refuse(_repeated(names), "a receiver must stand there once", "receiver_id")
    unknown = ~np.isin(rows["receiver_id"], names)
    rows.refuse(unknown, f"receiver_id must be one of {sites.where} ({', '.join(names[:8])})", "receiver_id")
    rows.refuse(_repeated(rows["file"]), "a recording must stand there once", "file")
    keys = np.array([f"{s}\n{t}" for s, t in zip(rows["session_id"], rows["time"], strict=True)])
    _, first, event = np.unique(keys, return_index=True, return_inverse=True)
    column = {name: i for i, name in enumerate(names.tolist())}
    receiver = np.array([column[name] for name in rows["receiver_id"].tolist()])
    heard = np.array([f"{e} {r}" for e, r in zip(event.tolist(), receiver.tolist(), strict=True)])
    rows.refuse(_repeated(heard), "a receiver can record one session and time once", "file")
    recording = np.full((len(first), len(names)), ABSENT)
    recording[event, receiver] = np.arange(len(rows))
    return first, event, recording


def _repeated(values: np.ndarray) -> np.ndarray:
    """(n,) bool: which values stood there before."""
    _, first = np.unique(values, return_index=True)
    repeated = np.ones(len(values), dtype=bool)
    repeated[first] = False
    return repeated


def _fingerprint(fields: Fields, rows: labels.Rows, sites: labels.Rows, heads: list[recordings.Head]) -> str:
    """Of every label, every site, and the head and size of every recording; not of where they lie."""
    digest = hashlib.sha256(str(fields.rate_hz).encode())
    for table in (rows, sites):
        for name, column in table.columns.items():
            content = "\n".join(column.tolist()).encode() if column.dtype.kind == "U" else column.tobytes()
            digest.update(name.encode() + b"\0" + content)
    for head in heads:
        digest.update(head.digest)
    return digest.hexdigest()
