"""A folder of planets: which files and columns it has. No torch.

``planets.parquet``, one row an observation of a planet: ``planet_id`` and ``label``, texts;
``text``; ``nodes``, a list of feature lists; ``edges``, a list of pairs (source, target);
``cube_row``, its row in ``cubes.npy``. The last four are null where that modality is missing.
``cubes.npy``: (cubes, variables, levels, lat, lon), a floating type.
``tokenizer.json``: a tokenizer of the library ``tokenizers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

TABLE, CUBES, TOKENIZER = "planets.parquet", "cubes.npy", "tokenizer.json"
COLUMNS = ("planet_id", "label", "text", "nodes", "edges", "cube_row")
COLUMNS_OF = {"text": ("text",), "graph": ("nodes", "edges"), "cube": ("cube_row",)}  # by modality


def schema(note: str | None = None) -> pa.Schema:
    """The table's columns; ``note`` is the maker's, kept in the file's metadata under ``hpo``."""
    import pyarrow as pa

    fields = {
        "planet_id": pa.string(),
        "label": pa.string(),
        "text": pa.string(),
        "nodes": pa.list_(pa.list_(pa.float32())),
        "edges": pa.list_(pa.list_(pa.int32())),
        "cube_row": pa.int64(),
    }
    return pa.schema(fields, metadata={"hpo": note} if note else None)
