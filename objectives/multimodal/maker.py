"""Making a folder of planets: drawn one by one, kept in parts, joined at the end.

A planet depends on (seed, its number) alone, so that an interrupted call goes on where it
was and gives the same files as one that never stopped. Parts lie in ``<out>.parts/``; the
folder itself takes its place whole.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo import durable
from hpo.errors import DataError
from objectives.given import is_whole, known_options
from objectives.multimodal.format import CUBES, TABLE, TOKENIZER, schema
from objectives.multimodal.planets import CLASSES, coordinates, observe, vocabulary
from objectives.multimodal.words import write_tokenizer

VERSION = 1  # raise it whenever the same seed gives other planets
CHUNK = 100  # planets in a part


@dataclass(frozen=True)
class Recipe:
    """What decides the content; stored in the table's metadata under ``hpo``.

    ``records`` planets, each looked at ``observations`` times. ``missing_*_percent`` of the
    observations lack that modality; one that would have none keeps one. A cube has the shape
    (``variables``, ``levels``, ``lat``, ``lon``), a graph at most ``nodes``.
    """

    seed: int
    records: int = 2000
    observations: int = 1
    missing_text_percent: int = 10
    missing_graph_percent: int = 10
    missing_cube_percent: int = 10
    variables: int = 3
    levels: int = 4
    lat: int = 8
    lon: int = 16
    nodes: int = 20
    maker: int = VERSION

    @property
    def cube(self) -> tuple[int, int, int, int]:
        return self.variables, self.levels, self.lat, self.lon


BOUNDS = {
    "seed": (0, 2**63 - 1),
    "records": (1, 10**9),
    "observations": (1, 1000),
    **dict.fromkeys(("missing_text_percent", "missing_graph_percent", "missing_cube_percent"), (0, 99)),
    **dict.fromkeys(("variables", "levels", "lat", "lon"), (1, 1024)),
    "nodes": (8, 4096),
}


@dataclass(frozen=True)
class Made:
    """What a run of the maker did. ``reused`` counts planets found finished."""

    path: Path
    planets: int
    reused: int


def make(out: str | Path, seed: int, *, progress: bool = True, **options: int) -> Made:
    """Write a folder ``out`` of planets; the classes take turns. About 1 ms a planet at the usual size.

    Args:
        progress: a bar on stderr.
        options: fields of ``Recipe``.

    Raises:
        UnknownName: there is no such option.
        DataError: a number is out of its ``BOUNDS``, ``out`` or its parts come from another
            recipe, or nothing can be written there (no room, no permission).
    """
    known_options("multimodal", options, BOUNDS)
    for name, value in {"seed": seed, **options}.items():
        low, high = BOUNDS[name]
        if not is_whole(value, low, high):
            raise DataError(f"{name} must be a whole number from {low} to {high}; got {value!r}.")
    path, recipe = Path(out), Recipe(seed, **options)
    try:
        if path.exists():
            return _already_made(path, recipe)
        return _make(path, recipe, progress)
    except OSError as error:
        raise _explained(error, path) from error


def _already_made(path: Path, recipe: Recipe) -> Made:
    """The finished folder is the answer if it is what was asked for; never overwrite another one."""
    import pyarrow.parquet as pq

    try:
        found = json.loads((pq.read_schema(path / TABLE).metadata or {}).get(b"hpo", b"{}"))
    except Exception as error:
        raise DataError(f"{path} exists and holds no planets; delete it or choose another folder.") from error
    _check_same(found, recipe, path)
    return Made(path, recipe.records, recipe.records)


def _check_same(found: dict[str, Any], recipe: Recipe, where: Path) -> None:
    wanted = asdict(recipe)
    if found != wanted:
        told = ", ".join(f"{n} {found.get(n)!r}, not {wanted[n]!r}" for n in wanted if found.get(n) != wanted[n])
        raise DataError(f"{where} holds planets of another recipe ({told}). Delete it, or choose another folder.")


def _make(path: Path, recipe: Recipe, progress: bool) -> Made:
    from tqdm import tqdm

    folder = path.with_name(path.name + ".parts")
    _claim(folder, recipe)
    reused = 0
    chunks = [range(start, min(start + CHUNK, recipe.records)) for start in range(0, recipe.records, CHUNK)]
    with tqdm(total=recipe.records, unit="planet", file=sys.stderr, disable=not progress) as bar:
        for chunk in chunks:
            if (folder / _part(chunk, TABLE)).exists():
                reused += len(chunk)
            else:
                _write_part(folder, chunk, recipe)
            bar.update(len(chunk))
    _join(folder, chunks, recipe).replace(path)
    shutil.rmtree(folder, ignore_errors=True)
    return Made(path, recipe.records, reused)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Say whose parts these are, or refuse parts of another recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "recipe.json"
    if note.exists():
        _check_same(json.loads(note.read_text()), recipe, folder)
    else:
        durable.write(note, lambda temporary: temporary.write_text(json.dumps(asdict(recipe))))


def _part(chunk: range, name: str) -> str:
    return f"{chunk.start:08d}-{name}"


def _write_part(folder: Path, chunk: range, recipe: Recipe) -> None:
    """The cubes first: a part is finished once its table is there."""
    rows: list[dict[str, Any]] = []
    cubes: list[np.ndarray] = []
    for number in chunk:
        for row, cube in _rows(number, recipe):
            if cube is not None:
                row["cube_row"] = len(cubes)
                cubes.append(cube)
            rows.append(row)
    stacked = np.stack(cubes) if cubes else np.empty((0, *recipe.cube), np.float32)
    durable.write(folder / _part(chunk, CUBES), lambda temporary: _save(temporary, stacked))
    _write_table(folder / _part(chunk, TABLE), rows)


def _rows(number: int, recipe: Recipe) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """The observations of one planet: the row of the table, whose ``cube_row`` is open, and the cube."""
    rng = np.random.default_rng([recipe.seed, number])
    label = list(CLASSES)[number % len(CLASSES)]
    hidden = coordinates(label, rng)
    for _ in range(recipe.observations):
        seen = observe(hidden, recipe.cube, recipe.nodes, rng)
        has_text, has_graph, has_cube = _present(recipe, rng)
        yield (
            {
                "planet_id": f"{recipe.seed}-{number:06d}",
                "label": label,
                "text": seen.text if has_text else None,
                "nodes": seen.graph.nodes.tolist() if has_graph else None,
                "edges": seen.graph.edges.tolist() if has_graph else None,
                "cube_row": None,
            },
            seen.cube if has_cube else None,
        )


def _present(recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    percent = recipe.missing_text_percent, recipe.missing_graph_percent, recipe.missing_cube_percent
    present = 100 * rng.random(3) >= percent
    spared = rng.integers(3)
    if not present.any():
        present[spared] = True
    return present


def _join(folder: Path, chunks: list[range], recipe: Recipe) -> Path:
    """The finished folder, inside that of the parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = folder / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    parts = [np.load(folder / _part(chunk, CUBES), mmap_mode="r", allow_pickle=False) for chunk in chunks]
    starts = np.cumsum([0, *map(len, parts)])
    tables = []
    for chunk, start in zip(chunks, starts[:-1].tolist(), strict=True):
        rows = pq.read_table(folder / _part(chunk, TABLE)).to_pylist()
        for row in rows:
            if row["cube_row"] is not None:
                row["cube_row"] += start
        tables.append(pa.Table.from_pylist(rows, schema()))
    cubes = np.lib.format.open_memmap(whole / CUBES, mode="w+", dtype=np.float32, shape=(int(starts[-1]), *recipe.cube))
    for part, start in zip(parts, starts[:-1].tolist(), strict=True):
        cubes[start : start + len(part)] = part
    cubes.flush()
    durable.write(whole / TOKENIZER, lambda temporary: write_tokenizer(temporary, vocabulary()))
    table = pa.concat_tables(tables).replace_schema_metadata({"hpo": json.dumps(asdict(recipe))})
    durable.write(whole / TABLE, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
    return whole


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows, schema())
    durable.write(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # given a name, save would add a suffix to it
        np.save(file, array, allow_pickle=False)


def _explained(error: OSError, path: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"No room left to write {path}. Free some space and call again; finished parts are kept.")
    return DataError(f"Cannot write {path}: {error.strerror or error}. Choose a folder in one you may write to.")
