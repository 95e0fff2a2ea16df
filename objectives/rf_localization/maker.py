"""Making records: a folder with ``labels.parquet``, ``receivers.csv`` and ``iq/*.npy``.

An event depends on (seed, event) alone. A recording that is there is not made again, so a
run that was interrupted anywhere goes on where it was; the labels come last, and with them
the folder is finished.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hpo import durable
from hpo.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from objectives.rf_localization.world import Event, Sites, World

VERSION = 1  # raise it whenever the same seed gives other records
RECIPE, LABELS, RECEIVERS, RECORDINGS = "recipe.json", "labels.parquet", "receivers.csv", "iq"
_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_HEADER_BYTES = 128  # of an .npy of one axis
_LEAST = {"receivers": 3, "samples": 2_048, "rate_hz": 32_000, "region_m": 10}  # others: 0


def make(out: str | Path, events: int, world: World, *, progress: bool = True) -> Path:
    """Record ``events`` events of ``world`` into the folder ``out``.

    Raises:
        DataError: a number is out of range, ``out`` holds something else, or cannot be written.
    """
    for name, value in {"records": events, **asdict(world)}.items():
        least = _LEAST.get(name, 1 if name == "records" else 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise DataError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    folder = Path(out)
    try:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; records of rf_localization are a folder. Choose another name.")
        _claim(folder, {"events": events, **asdict(world), "maker": VERSION})
        if not (folder / LABELS).exists():
            _record(folder, events, world, progress)
    except OSError as error:
        raise DataError(
            f"Cannot write {folder}: {error.strerror or error}. Finished recordings are kept; "
            "make room or choose a folder you may write to, and call again."
        ) from error
    return folder


def _claim(folder: Path, recipe: dict[str, int]) -> None:
    """Say whose folder this is, or refuse one of another recipe."""
    note = folder / RECIPE
    if note.exists():
        found = json.loads(note.read_text(encoding="utf-8"))
        other = [f"{n} {found.get(n)!r}, not {recipe[n]!r}" for n in recipe if found.get(n) != recipe[n]]
        if other:
            raise DataError(f"{folder} holds other records ({', '.join(other)}). Delete it or choose another folder.")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and was not made here. Choose another folder.")
    (folder / RECORDINGS).mkdir(parents=True, exist_ok=True)
    durable.write(note, lambda path: path.write_text(json.dumps(recipe, indent=1), encoding="utf-8"))


def _record(folder: Path, events: int, world: World, progress: bool) -> None:
    from tqdm import tqdm

    sites = world.sites()
    (folder / RECORDINGS).mkdir(exist_ok=True)
    durable.remove_unfinished(folder / RECORDINGS)
    _write_receivers(folder / RECEIVERS, world, sites)
    rows: list[dict[str, object]] = []
    for number in tqdm(range(events), unit="event", file=sys.stderr, disable=not progress):
        event = world.event(number, sites)
        if not all(_is_whole(folder / RECORDINGS / _name(event, r), world) for r in event.present):
            for receiver, iq in world.recordings(event).items():
                _write_recording(folder / RECORDINGS / _name(event, receiver), iq)
        rows.extend(_label(event, receiver) for receiver in event.present)
    _write_labels(folder / LABELS, rows)


def _name(event: Event, receiver: int) -> str:
    return f"e{event.number:06d}-r{receiver}.npy"


def _label(event: Event, receiver: int) -> dict[str, object]:
    time = _FIRST_DAY + timedelta(hours=event.session, seconds=event.seconds)
    return {
        "file": _name(event, receiver),
        "latitude": event.latitude,
        "longitude": event.longitude,
        "freq_mhz": event.freq_mhz,
        "snr_db": round(float(event.power_dbm[receiver]) - event.noise_dbm, 2),
        "receiver_id": f"r{receiver}",
        "session_id": f"s{event.session:05d}",
        "time": time.isoformat(),
        "signal": event.kind,
    }


def _is_whole(path: Path, world: World) -> bool:
    return path.exists() and path.stat().st_size == _HEADER_BYTES + 8 * world.samples


def _write_recording(path: Path, iq: np.ndarray) -> None:
    """Not synced, which would take ten times as long: one that a power cut left behind has another size."""
    import numpy as np

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, iq, allow_pickle=False)

    durable.write(path, fill, sync=False)


def _write_receivers(path: Path, world: World, sites: Sites) -> None:
    degrees = world.frame.degrees(sites.north_east_m).tolist()
    lines = ["receiver_id,latitude,longitude", *(f"r{r},{lat:.7f},{lon:.7f}" for r, (lat, lon) in enumerate(degrees))]
    durable.write(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n", encoding="utf-8"))


def _write_labels(path: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    durable.write(path, lambda temporary: pq.write_table(pa.Table.from_pylist(rows), temporary))
