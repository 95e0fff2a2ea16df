"""Making records: draw logos, describe them, trace them, and write one Parquet file.

Record i depends on (seed, i) alone. Finished chunks lie in ``<out>.parts/``, each written
atomically, so a run that was interrupted anywhere goes on where it was, and the file is
the same byte for byte as that of a run that never stopped.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1  # raise it whenever the same seed gives other records
CHUNK = 20  # logos in a part: about two seconds of work lost at worst


@dataclass(frozen=True)
class Recipe:
    """What decides the content of the file; stored in its metadata under ``hpo``."""

    seed: int
    settings_per_logo: int
    maker: int
    features: str


@dataclass(frozen=True)
class Made:
    """What a run of the maker did. ``reused`` counts records found finished."""

    path: Path
    records: int
    reused: int


def make(
    out: str | Path, records: int, seed: int, *, settings_per_logo: int = 1, workers: int = 2, progress: bool = True
) -> Made:
    """Write ``records`` records to ``out``; about 0.1 s of processor time each.

    Args:
        records: at least 1; the four logo types take turns.
        settings_per_logo: records that share a logo; 1 gives the most different logos.
        workers: processes; 1 works in this one.
        progress: a bar on stderr.

    Raises:
        DataError: a number is out of range, ``out`` or its parts come from another recipe,
            or nothing can be written there (no room, no permission).
    """
    from objectives.quality_regression import features

    for name, value in (("records", records), ("settings_per_logo", settings_per_logo), ("workers", workers)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DataError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if not isinstance(seed, int) or seed < 0:
        raise DataError(f"seed must be a whole number of at least 0; got {seed!r}.")
    path = Path(out)
    recipe = Recipe(seed, settings_per_logo, VERSION, features.KIND)
    try:
        if path.exists():
            return _already_made(path, recipe, records)
        return _make(path, records, recipe, workers, progress)
    except OSError as error:
        raise _explained(error, path) from error


def _make(path: Path, records: int, recipe: Recipe, workers: int, progress: bool) -> Made:
    folder = path.with_name(path.name + ".parts")
    _claim(folder, recipe)
    chunks = list(_chunks(records, recipe.settings_per_logo))
    missing = [chunk for chunk in chunks if not (folder / _part(chunk)).exists()]
    reused = records - sum(stop - start for start, stop in missing)
    _run(folder, missing, recipe, workers, progress, records, reused)
    _join(path, [folder / _part(chunk) for chunk in chunks], recipe)
    shutil.rmtree(folder, ignore_errors=True)
    return Made(path, records, reused)


def _chunks(records: int, per_logo: int) -> Iterator[tuple[int, int]]:
    size = CHUNK * per_logo
    for start in range(0, records, size):
        yield start, min(start + size, records)


def _part(chunk: tuple[int, int]) -> str:
    return f"{chunk[0]:08d}-{chunk[1]:08d}.parquet"


def _claim(folder: Path, recipe: Recipe) -> None:
    """Say whose parts these are, or refuse parts of another recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "recipe.json"
    if note.exists():
        found = json.loads(note.read_text())
        if found != asdict(recipe):
            raise DataError(
                f"{folder} holds parts of another run ({_differences(found, recipe)}). "
                "Go on with that recipe, delete the folder, or choose another file."
            )
    else:
        scratch = folder / f"recipe.json.{os.getpid()}"
        scratch.write_text(json.dumps(asdict(recipe)))
        scratch.replace(note)


def _already_made(path: Path, recipe: Recipe, records: int) -> Made:
    """The finished file is the answer if it is what was asked for; never overwrite another one."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        found = json.loads((file.schema_arrow.metadata or {}).get(b"hpo", b"{}"))
        rows = file.metadata.num_rows
    except Exception as error:
        raise DataError(f"{path} exists and is not a Parquet file; delete it or choose another file.") from error
    if found != asdict(recipe) or rows != records:
        raise DataError(
            f"{path} exists with {rows} records ({_differences(found, recipe) or 'same recipe'}), "
            f"and {records} were asked for. Delete it or choose another file."
        )
    return Made(path, records, records)


def _differences(found: dict[str, object], recipe: Recipe) -> str:
    wanted = asdict(recipe)
    return ", ".join(f"{n} {found.get(n)!r}, not {wanted[n]!r}" for n in wanted if found.get(n) != wanted[n])


def _run(
    folder: Path, chunks: list[tuple[int, int]], recipe: Recipe, workers: int, progress: bool, total: int, done: int
) -> None:
    from tqdm import tqdm

    with tqdm(total=total, initial=done, unit="record", file=sys.stderr, disable=not progress) as bar:
        if workers == 1 or len(chunks) < 2:
            for chunk in chunks:
                bar.update(_write_part(folder, chunk, recipe))
            return
        # spawn: a fork of a process that runs torch's or Arrow's threads can hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(chunks)), context, initializer=_start_worker) as pool:
            try:
                for future in as_completed([pool.submit(_write_part, folder, c, recipe) for c in chunks]):
                    bar.update(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle, and a worker ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_part(folder: Path, chunk: tuple[int, int], recipe: Recipe) -> int:
    """Make one chunk and write it; its number of records."""
    import pyarrow as pa

    try:
        _write(folder / _part(chunk), pa.Table.from_pylist(list(_records(chunk, recipe)), _schema()))
    except OSError as error:
        raise _explained(error, folder) from error
    return chunk[1] - chunk[0]


def _records(chunk: tuple[int, int], recipe: Recipe) -> Iterator[dict[str, object]]:
    import numpy as np

    from objectives.quality_regression.data import TYPES
    from objectives.quality_regression.features import describe
    from objectives.quality_regression.logos import draw
    from objectives.quality_regression.tracing import SETTINGS, trace

    last, image, described = -1, None, None
    for record in range(*chunk):
        logo = record // recipe.settings_per_logo
        kind = TYPES[logo % len(TYPES)]
        if image is None or logo != last:
            last, image = logo, draw(kind, np.random.default_rng([recipe.seed, logo, 0]))
            described = describe(image)
        traced = trace(image, np.random.default_rng([recipe.seed, record, 1]).random(len(SETTINGS)))
        yield {
            "logo_id": f"{recipe.seed}-{logo:06d}",
            "features": described,
            "settings": traced.settings,
            "ssim": traced.ssim,
            "logo_type": kind,
        }


def _schema(recipe: Recipe | None = None) -> pa.Schema:
    import pyarrow as pa

    fields = {
        "logo_id": pa.string(),
        "features": pa.list_(pa.float32()),
        "settings": pa.list_(pa.float32()),
        "ssim": pa.float32(),
        "logo_type": pa.string(),
    }
    return pa.schema(fields, metadata={"hpo": json.dumps(asdict(recipe))} if recipe else None)


def _join(path: Path, parts: list[Path], recipe: Recipe) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(part) for part in parts]).combine_chunks()
    _write(path, table.cast(_schema(recipe)))


def _write(path: Path, table: pa.Table) -> None:
    """Write beside ``path``, make it durable, then rename: the file is there whole or not at all."""
    import pyarrow.parquet as pq

    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            pq.write_table(table, file, compression="zstd", use_dictionary=["logo_type"])
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _explained(error: OSError, path: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"No room left to write {path}. Free some space and call again; finished parts are kept.")
    return DataError(f"Cannot write {path}: {error.strerror or error}. Choose a file in a folder you may write to.")
