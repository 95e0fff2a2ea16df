"""Which files of a folder are whole images: decoded once each, in parallel, and remembered. No torch.

Of every file its path, size, time of change and verdict are kept in a small Parquet file
in the user's cache folder (``HPO_CACHE``, or ``~/.cache/hpo``): a file is decoded again
only when it has changed. Losing the index costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

from hpo import durable
from objectives.image_classification.listing import Found
from objectives.image_classification.pictures import CANNOT_BE_OPENED, Verdict, judge

VERSION = 1  # raise it whenever the same file gets another verdict
FEW = 2_000  # so many are decoded in this process: others take a second to start
CHUNK = 200
_SAVE_EVERY = 50 * CHUNK  # files decoded anew, so that an interrupted check loses little
_COLUMNS = ("path", "size", "mtime_ns", "fault", "kind", "digest")


def verdicts(root: Path, files: Sequence[Found]) -> list[Verdict]:
    """What is to be said of each of ``files``, in their order."""
    place = index_file(root)
    known = _read(place)
    missing = [file for file in files if file not in known]
    for done, (file, verdict) in enumerate(_judged(root, missing), 1):
        known[file] = verdict
        if done % _SAVE_EVERY == 0:
            _write(place, known)
    if missing or len(known) > len(files):
        known = {file: known[file] for file in files}
        _write(place, known)
    return [known[file] for file in files]


def index_file(root: Path) -> Path:
    """Where the verdicts on the files of ``root`` are kept."""
    base = os.environ.get("HPO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpo"
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return Path(base) / "images" / f"{root.resolve().name}-{name}.parquet"


def _judged(root: Path, files: Sequence[Found]) -> Iterator[tuple[Found, Verdict]]:
    """Each file with its verdict; beside a bar on a terminal where there are many."""
    from tqdm import tqdm

    few = len(files) <= FEW
    with tqdm(total=len(files), unit="image", file=sys.stderr, disable=True if few else None, desc="checking") as bar:
        for pair in _alone(root, files) if few else _together(root, files):
            bar.update()
            yield pair


def _alone(root: Path, files: Sequence[Found]) -> Iterator[tuple[Found, Verdict]]:
    return ((file, judge(root / file.path)) for file in files)


def _together(root: Path, files: Sequence[Found]) -> Iterator[tuple[Found, Verdict]]:
    # spawn: a fork of a process that runs torch's or Arrow's threads can hang.
    context = multiprocessing.get_context("spawn")
    rest = iter(files)
    chunks = list(iter(lambda: list(islice(rest, CHUNK)), []))
    with ProcessPoolExecutor(min(_cores(), len(chunks)), context) as pool:
        try:
            for chunk, said in zip(chunks, pool.map(_judge_all, [(root, chunk) for chunk in chunks]), strict=True):
                yield from zip(chunk, said, strict=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _judge_all(work: tuple[Path, Sequence[Found]]) -> list[Verdict]:
    root, files = work
    return [judge(root / file.path) for file in files]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(place: Path) -> dict[Found, Verdict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(place)
        if (table.schema.metadata or {}).get(b"hpo_images") != str(VERSION).encode():
            return {}
        columns = [table.column(name).to_pylist() for name in _COLUMNS]
    except (OSError, pa.ArrowException, KeyError):  # none yet, or of no use: it is made again
        return {}
    return {
        Found(path, size, mtime): Verdict(fault, kind, digest)
        for path, size, mtime, fault, kind, digest in zip(*columns, strict=True)
    }


def _write(place: Path, known: Mapping[Found, Verdict]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Permission can be given without a trace in size or time of change: such a file is tried anew each time.
    kept = [(f, v) for f, v in known.items() if v.kind != CANNOT_BE_OPENED]
    rows = [(f.path, f.size, f.mtime_ns, v.fault, v.kind, v.digest) for f, v in kept]
    columns = zip(_COLUMNS, zip(*rows, strict=True), strict=True) if rows else ()
    table = pa.table({name: list(values) for name, values in columns})
    table = table.replace_schema_metadata({"hpo_images": str(VERSION)})
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        durable.write(place, lambda temporary: pq.write_table(table, temporary, compression="zstd"), sync=False)
    except OSError as error:
        print(f"hpo: The check of the images is not remembered: {place}: {error.strerror}.", file=sys.stderr)
