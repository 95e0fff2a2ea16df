"""Planets: read from a folder, refused if unusable, split by planet. No torch.

A folder is read once per process as long as it does not change; its cubes stay on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from hpo.errors import DataError
from hpo.evaluation.splits import fold_rows, grouped_split
from hpo.trial import derive_seed
from objectives.base import DataFacts
from objectives.multimodal.checks import Rows
from objectives.multimodal.columns import Graphs, read_columns
from objectives.multimodal.fields import Fields
from objectives.multimodal.format import CUBES, TABLE, TOKENIZER
from objectives.multimodal.presets import PARTS, Dimensions
from objectives.multimodal.views import Views, read_views

SHARES = (0.6, 0.2, 0.2)  # of planets: training, validation, test
LEAST_OF_A_CLASS = 5  # planets, so that each part has one
SCANNED_BYTES = 2 * 2**30  # of a larger file of cubes, evenly spaced ones are looked at


@dataclass(frozen=True)
class Planets(Views):
    """n checked observations; ``labels`` (n,) int64 count through ``classes``."""

    ids: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def dimensions(self) -> Dimensions:
        variables, levels, lat, lon = (int(size) for size in self.cubes.shape[1:])
        return Dimensions(self.graphs.nodes.shape[1], (variables, levels, lat, lon), len(self.classes))


@dataclass(frozen=True)
class Parts:
    """Row numbers of the three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(data: Fields) -> Planets:
    """The planets of ``data.path``.

    Raises:
        DataError: a file is missing, unreadable or of another form, or rows break a rule,
            with their count and the first offenders; or they do not fit the model's preset.
    """
    folder = Path(data.path)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Make one with `hpo make-data multimodal --out {folder}`.")
    try:
        states = tuple(
            (file.name, file.stat().st_mtime_ns, file.stat().st_size)
            for file in (folder / name for name in (TABLE, CUBES, TOKENIZER))
            if file.exists()
        )
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}. Choose a folder that you may read.") from error
    planets = _read(folder.absolute(), data.sizes.text.length, states)
    _check_fit(planets, data)
    return planets


def split(planets: Planets, data_seed: int, fold: tuple[int, int] | None = None) -> Parts:
    """60 % of planets to train on, 20 % to validate, 20 % held out: alike in classes, from the seed alone.

    All observations of a planet stand on one side. With a ``fold`` (index from 0, of how
    many) the same 20 % are held out, and the others are dealt out anew.

    Raises:
        DataError: there are too few planets, or there is no such fold.
    """
    train, validation, test = grouped_split(planets.ids, planets.labels, SHARES, data_seed, "planets")
    if fold is not None:
        rest = np.concatenate([train, validation])
        seed = derive_seed(data_seed, "folds")
        train, validation = fold_rows(rest, planets.ids, planets.labels, fold, seed)
    return Parts(train, validation, test)


def split_ids(planets: Planets, data_seed: int) -> dict[str, list[str]]:
    """The planet ids of each part, sorted, as a split is stored."""
    parts = vars(split(planets, data_seed))
    return {name: sorted(set(planets.ids[rows].tolist())) for name, rows in parts.items()}


def facts(data: Fields) -> DataFacts:
    """What there is: observations, planets, those of each class and those without each modality."""
    planets = load(data)
    _, first = np.unique(planets.ids, return_index=True)
    of_class = np.bincount(planets.labels[first], minlength=len(planets.classes)).tolist()
    counts = {
        "observations": len(planets),
        "planets": len(first),
        **dict(zip(planets.classes, of_class, strict=True)),
        **{f"without_{part}": int((~planets.present(part)).sum()) for part in PARTS},
    }
    notes = []
    if planets.texts_cut:
        length = data.sizes.text.length
        notes.append(f"{planets.texts_cut} texts have more than {length} tokens; what comes after is not read.")
    identity = json.dumps(data.identity, sort_keys=True)
    return DataFacts(hashlib.sha256(f"{planets.fingerprint} {identity}".encode()).hexdigest(), counts, notes)


def spread(rows: np.ndarray, bytes_each: int, most: int = SCANNED_BYTES) -> np.ndarray:
    """As many of ``rows``, evenly spaced, as ``most`` bytes hold; at least one."""
    step = max(1, -(-len(rows) * bytes_each // most))
    return rows[::step]


@lru_cache(maxsize=2)
def _read(folder: Path, length: int, states: tuple[tuple[str, int, int], ...]) -> Planets:
    """``states`` are there to make the cache forget a file that changed."""
    columns = read_columns(folder / TABLE)
    rows = Rows(folder / TABLE, columns.ids)
    views = read_views(folder / TABLE, columns, folder / TOKENIZER, length)
    seen = _scan(folder / CUBES, views.cubes, columns.cube_rows)
    _check_planets(rows, columns.labels, columns.cube_rows)
    _check_copies(rows, columns.texts, columns.graphs, columns.cube_rows, seen)
    classes, labels = np.unique(columns.labels, return_inverse=True)
    digest = hashlib.sha256("\n".join([*columns.ids.tolist(), *columns.labels.tolist()]).encode())
    graphs = columns.graphs
    for array in (views.tokens, views.token_counts, graphs.nodes, graphs.edges, graphs.counts):
        digest.update(np.ascontiguousarray(array).data)
    digest.update(repr([seen.get(row, row) for row in columns.cube_rows.tolist()]).encode())
    digest.update(repr((views.cubes.shape, views.cubes.dtype.str)).encode())
    return Planets(
        **vars(views), ids=columns.ids, labels=labels.astype(np.int64), classes=tuple(classes.tolist()),
        fingerprint=digest.hexdigest(),
    )  # fmt: skip


def _scan(path: Path, cubes: np.ndarray, cube_rows: np.ndarray) -> dict[int, str]:
    """A digest of each used cube, all of them looked at for numbers that are not finite."""
    used = np.unique(cube_rows[cube_rows >= 0])
    digests, broken = {}, []
    for row in spread(used, cubes[:1].nbytes).tolist():
        cube = np.ascontiguousarray(cubes[row])
        digests[row] = hashlib.blake2b(cube.data, digest_size=16).hexdigest()
        if not np.isfinite(cube).all():
            broken.append(row)
    Rows(path, used).refuse(np.isin(used, broken), "cubes must be finite", what="cube")
    return digests


def _check_planets(rows: Rows, labels: np.ndarray, cube_rows: np.ndarray) -> None:
    """One label a planet, one planet a cube, and enough planets of every class."""
    rows.refuse(_differs(rows.ids, labels), "all observations of a planet must have one label", labels)
    has_cube = np.flatnonzero(cube_rows >= 0)
    shared = np.zeros(len(rows.ids), dtype=bool)
    shared[has_cube] = _differs(cube_rows[has_cube], rows.ids[has_cube])
    rows.refuse(shared, "a cube must belong to one planet", cube_rows)
    _, first = np.unique(rows.ids, return_index=True)
    classes, sizes = np.unique(labels[first], return_counts=True)
    if len(classes) < 2:
        raise DataError(f"{rows.path}: at least 2 classes are needed; all labels are {str(classes[0])!r}.")
    small = [f"{name} ({size})" for name, size in zip(classes, sizes, strict=True) if size < LEAST_OF_A_CLASS]
    if small:
        raise DataError(
            f"{rows.path}: a class needs at least {LEAST_OF_A_CLASS} planets, so that each part of the data has one; "
            f"{len(small)} of {len(classes)} have fewer: {', '.join(small[:5])}."
        )


def _check_copies(
    rows: Rows, texts: Sequence[str | None], graphs: Graphs, cube_rows: np.ndarray, seen: Mapping[int, str]
) -> None:
    """The same observation under two ids could stand in training and in the test set."""
    content = [
        repr((text, *graphs.digests(row), seen.get(cube, cube)))
        for row, (text, cube) in enumerate(zip(texts, cube_rows.tolist(), strict=True))
    ]
    rows.refuse(_differs(np.array(content), rows.ids), "the same observation must not stand under two planet_ids")


def _differs(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n,) bool: whether another value stood with the same key before."""
    first: dict[object, object] = {}
    pairs = zip(keys.tolist(), values.tolist(), strict=True)
    return np.array([first.setdefault(key, value) != value for key, value in pairs], dtype=bool)


def _check_fit(planets: Planets, data: Fields) -> None:
    path, found = data.path, len(np.unique(planets.ids))
    if found < data.min_planets:
        raise DataError(
            f"{path} has {found} planets; at least {data.min_planets} are needed. "
            "Make more, or lower min_planets in the study's data."
        )
    for part in data.modalities:
        if not planets.present(part).any():
            raise DataError(f"{path}: no planet has a {part}. Leave {part} out of the study's modalities.")
    if "text" in data.modalities and planets.vocabulary > data.sizes.text.vocabulary:
        raise DataError(
            f"{path}/{TOKENIZER} has {planets.vocabulary} tokens; the text encoder of the preset {data.preset} "
            f"has {data.sizes.text.vocabulary}. Choose a larger preset or a smaller tokenizer."
        )
    if "graph" in data.modalities:
        rows = Rows(Path(path) / TABLE, planets.ids)
        sizes = planets.graphs.counts
        rows.refuse(sizes > data.max_nodes, f"a graph must have at most {data.max_nodes} nodes (max_nodes)", sizes)
    patch, grid = data.sizes.cube.patch, planets.cubes.shape[2:]
    if "cube" in data.modalities and any(points % patch for points in grid):
        raise DataError(
            f"{path}/{CUBES}: levels, lat and lon must be multiples of {patch}, the patch of the preset "
            f"{data.preset}; they are {grid}. Pad or interpolate the cubes, or choose another preset."
        )
