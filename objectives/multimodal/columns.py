"""The table and the cubes as arrays, of the right types and shapes. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from objectives.multimodal.checks import Rows
from objectives.multimodal.format import COLUMNS


@dataclass(frozen=True)
class Graphs:
    """The graphs of n rows, one after the other.

    ``counts`` (n,) int64: nodes of each, 0 where there is none. ``nodes`` (all, features)
    float32. ``edge_counts`` (n,) int64, ``edges`` (all, 2) int64: source and target within
    their graph.
    """

    counts: np.ndarray
    nodes: np.ndarray
    edge_counts: np.ndarray
    edges: np.ndarray

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (its count, features) and edges (e, 2) of one row."""
        return self.nodes[slice(*self._starts[row : row + 2])], self.edges[slice(*self._edge_starts[row : row + 2])]

    def digests(self, row: int) -> tuple[str, str]:
        """Of the nodes and of the edges of one row."""
        nodes, edges = (hashlib.blake2b(np.ascontiguousarray(one).data).hexdigest() for one in self[row])
        return nodes, edges

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *self.counts])

    @cached_property
    def _edge_starts(self) -> np.ndarray:
        return np.cumsum([0, *self.edge_counts])


@dataclass(frozen=True)
class Columns:
    """The columns of n rows: ids and labels (n,) of str, texts or None, graphs, rows of cubes (n,), -1 for none.

    Columns that were not wanted are empty in every row.
    """

    ids: np.ndarray
    labels: np.ndarray
    texts: list[str | None]
    graphs: Graphs
    cube_rows: np.ndarray


def read_columns(path: Path, wanted: Sequence[str] = COLUMNS) -> Columns:
    """The table of a folder; ``planet_id`` is always among the ``wanted`` columns.

    Raises:
        DataError: no such file, not Parquet, a column is missing or of another type, or rows break a rule.
    """
    table = _table(path, wanted)
    ids = _names(path, "planet_id", table["planet_id"])
    rows = Rows(path, ids)
    texts = table["text"].to_pylist()
    rows.refuse(
        np.array([text is not None and not isinstance(text, str) for text in texts]), "text must be a string or null"
    )
    return Columns(
        ids,
        _names(path, "label", table["label"]) if "label" in wanted else np.full(len(ids), ""),
        texts,
        _graphs(rows, table["nodes"], table["edges"]),
        _cube_rows(rows, table["cube_row"]),
    )


def read_cubes(path: Path) -> np.ndarray:
    """(cubes, variables, levels, lat, lon), mapped from disk.

    Raises:
        DataError: no such file, not NumPy's, or of another shape or type.
    """
    try:
        cubes = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}. The table names rows of it.") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a NumPy file: {error}") from error
    if cubes.ndim != 5 or 0 in cubes.shape or cubes.dtype.kind != "f":
        raise DataError(
            f"{path} must hold floating-point numbers of shape (cubes, variables, levels, lat, lon); "
            f"it holds {cubes.dtype} of shape {cubes.shape}."
        )
    return np.asarray(cubes)


def _table(path: Path, wanted: Sequence[str]) -> dict[str, Any]:
    """Arrow arrays by column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        missing = [name for name in wanted if name not in file.schema_arrow.names]
        table = file.read(columns=[name for name in wanted if name not in missing]).combine_chunks()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or str(error).splitlines()[0]}.") from error
    except Exception as error:  # pyarrow has a dozen ways to say it
        raise DataError(f"{path} cannot be read as a Parquet file: {str(error).splitlines()[0]}") from error
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}. A row has {', '.join(wanted)}.")
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows.")
    empty = pa.nulls(table.num_rows)
    return {name: table.column(name).combine_chunks() if name in wanted else empty for name in COLUMNS}


def _names(path: Path, name: str, column: Any) -> np.ndarray:
    """(n,) of str; whole numbers are written out."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise DataError(f"{path}: {name} must hold texts or whole numbers; it holds {kind}.")
    values = column.to_pylist()
    Rows(path, np.arange(len(values))).refuse(
        np.array([value is None or value == "" for value in values]), f"{name} must not be empty", what="number"
    )
    return np.array([str(value) for value in values], dtype=np.str_)


def _cube_rows(rows: Rows, column: Any) -> np.ndarray:
    import pyarrow as pa

    if pa.types.is_floating(column.type):  # so pandas keeps whole numbers of which one is missing
        values = column.to_numpy(zero_copy_only=False)
        missing, whole = np.isnan(values), (values == np.trunc(values)) & (np.abs(values) < 2**53)
        rows.refuse(~missing & ~whole, "cube_row must be a whole number or null", values)
        column = pa.array(values, mask=missing).cast(pa.int64())
    if not (pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"{rows.path}: cube_row must hold whole numbers or null; it holds {column.type}.")
    found = np.array([-1 if row is None else row for row in column.to_pylist()], dtype=np.int64)
    rows.refuse((found < 0) & ~_nulls(column), "cube_row must be 0 or more", found)
    return found


def _graphs(rows: Rows, nodes: Any, edges: Any) -> Graphs:
    """Features and pairs of whole numbers, checked."""
    counts, widths, features = _nested(rows.path, "nodes", nodes)
    edge_counts, ends, pairs = _nested(rows.path, "edges", edges)
    rows.refuse(~_nulls(nodes) & (counts == 0), "nodes must be null where there is no graph, not empty")
    rows.refuse(_nulls(nodes) & (edge_counts > 0), "edges need nodes")
    owner, edge_owner = np.repeat(np.arange(len(rows)), counts), np.repeat(np.arange(len(rows)), edge_counts)
    width = int(widths[0]) if len(widths) else 1
    rule = f"every node must have {width} features, as the first has" if width else "a node needs at least one feature"
    rows.refuse(_any(owner, (widths != width) | (widths == 0), len(rows)), rule)
    rows.refuse(_any(edge_owner, ends != 2, len(rows)), "an edge must be a pair of a source and a target")
    found = Graphs(counts, features.reshape(-1, width).astype(np.float32), edge_counts, pairs.reshape(-1, 2))
    rows.refuse(_any(owner, ~np.isfinite(found.nodes).all(axis=1), len(rows)), "features of nodes must be finite")
    inside = np.logical_and(found.edges >= 0, found.edges < counts[edge_owner][:, None]).all(axis=1)
    rows.refuse(_any(edge_owner, np.logical_not(inside), len(rows)), "edges must join nodes of their graph", counts)
    whole = np.equal(found.edges, np.trunc(found.edges)).all(axis=1)
    rows.refuse(_any(edge_owner, np.logical_not(whole), len(rows)), "edges must be whole numbers")
    return Graphs(counts, found.nodes, edge_counts, found.edges.astype(np.int64))


def _nested(path: Path, name: str, column: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of lists of lists: how many lists a row has, how long each is, and all numbers; a null among these is NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        outer = column.cast(pa.list_(pa.list_(pa.float64())))
    except pa.ArrowException as error:
        raise DataError(f"{path}: {name} must hold lists of lists of numbers; it holds {column.type}.") from error
    inner = outer.flatten()
    counts, lengths = (
        pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        for lists in (outer, inner)
    )
    return counts, lengths, inner.flatten().to_numpy(zero_copy_only=False)


def _nulls(column: Any) -> np.ndarray:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _any(owner: np.ndarray, bad: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) bool: which own something ``bad``."""
    return np.bincount(owner[bad], minlength=rows) > 0
