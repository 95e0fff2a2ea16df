"""From a folder of planets without labels to a shipped model's inputs, and from its outputs to classes. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from hpo.errors import DataError
from objectives.multimodal.checks import Rows as Table
from objectives.multimodal.columns import read_columns
from objectives.multimodal.format import COLUMNS_OF, CUBES, TABLE, TOKENIZER
from objectives.multimodal.presets import PRESETS
from objectives.multimodal.views import Padding, Views, names, read_views
from objectives.prediction import Arrays, Rows
from objectives.preparing import kept, slices, told_classes


@dataclass(frozen=True)
class PlanetPreparation:
    """``cube`` is (variables, levels, lat, lon); ``padding`` and ``max_nodes`` are those of training."""

    modalities: Sequence[str]
    classes: Sequence[str]
    node_features: int
    cube: tuple[int, ...]
    length: int
    padding: Padding
    max_nodes: int
    tokenizer: Path
    suffixes: tuple[str, ...] = (".parquet",)

    @classmethod
    def of(cls, facts: Mapping[str, Any], assets: Path) -> Self:
        """Raises BundleError: the facts are those of an older export."""
        sizes = kept(facts, "dimensions")
        return cls(
            modalities=kept(facts, "modalities"),
            classes=kept(facts, "classes"),
            node_features=sizes["node_features"],
            cube=tuple(sizes["cube"]),
            length=PRESETS[kept(facts, "preset")].text.length,
            padding=Padding(**kept(facts, "padding")),
            max_nodes=kept(facts, "max_nodes"),
            tokenizer=assets / TOKENIZER,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the table that the model needs."""
        return ("planet_id", *(name for part in self.modalities for name in COLUMNS_OF[part]))

    @property
    def accepts(self) -> str:
        cubes = f", and {CUBES} where it names cubes" if "cube" in self.modalities else ""
        return f"a folder with {TABLE} (columns {', '.join(self.columns)}){cubes}, or that table"

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """Observations in the table's order, by ``planet_id``; cubes are looked at once before the first is told of."""
        table = self._table(path)
        columns = read_columns(table, self.columns)
        found = read_views(table, columns, self.tokenizer, self.length, self.modalities)
        views = self._fitting(Table(table, columns.ids), found)
        padding = self.padding.or_more(views.padding)
        for some in slices(len(columns.ids), rows):
            samples = [views.arrays(row, self.modalities, padding) for row in range(some.start, some.stop)]
            arrays = (np.stack(part) for part in zip(*samples, strict=True))
            yield Rows(columns.ids[some].tolist(), dict(zip(names(self.modalities), arrays, strict=True)))

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        """The class, how probable it is, and the probability of every class."""
        return told_classes(outputs["logits"], self.classes)

    def _table(self, path: Path) -> Path:
        try:
            table = path / TABLE if path.is_dir() else path
            if table.is_file():
                return table
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Choose a folder that you may read.") from error
        raise DataError(f"{path} must be {self.accepts}; there is no {table}.")

    def _fitting(self, table: Table, views: Views) -> Views:
        """``views``, if the model can take them; what nobody has gets the shape that it would have."""
        graphs, cubes = views.graphs, views.cubes
        if not graphs.counts.any():
            graphs = replace(graphs, nodes=np.empty((0, self.node_features), np.float32))
        if not len(cubes):
            cubes = np.empty((0, *self.cube), np.float32)
        if graphs.nodes.shape[1] != self.node_features:
            raise DataError(
                f"{table.path}: a node must have {self.node_features} features, as in training; "
                f"they have {graphs.nodes.shape[1]}."
            )
        table.refuse(
            graphs.counts > self.max_nodes,
            f"a graph must have at most {self.max_nodes} nodes, as in training",
            graphs.counts,
        )
        stored = table.path.parent / CUBES
        if cubes.shape[1:] != self.cube:
            raise DataError(
                f"{stored}: a cube must have the shape (variables, levels, lat, lon) of training, {self.cube}; "
                f"these have {cubes.shape[1:]}."
            )
        used = np.unique(views.cube_rows[views.cube_rows >= 0])
        broken = np.array([not np.isfinite(cubes[row]).all() for row in used.tolist()], dtype=bool)
        Table(stored, used).refuse(broken, "cubes must be finite", what="cube")
        return replace(views, graphs=graphs, cubes=cubes)
