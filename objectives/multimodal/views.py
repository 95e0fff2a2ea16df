"""What observations are seen by: read from a folder, and as the arrays that the model takes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from objectives.multimodal.checks import Rows
from objectives.multimodal.columns import Columns, Graphs, read_cubes
from objectives.multimodal.format import CUBES
from objectives.multimodal.presets import PARTS
from objectives.multimodal.words import encode, read_tokenizer

# What the model takes of each modality, in the order of its arguments.
INPUTS = {
    "text": ("tokens", "token_mask"),
    "graph": ("nodes", "adjacency", "node_mask"),
    "cube": ("cube", "cube_mask"),
}


def names(modalities: Sequence[str]) -> tuple[str, ...]:
    """The model's inputs, in order."""
    return tuple(name for part in modalities for name in INPUTS[part])


@dataclass(frozen=True)
class Padding:
    """To how many tokens and nodes samples are padded."""

    tokens: int
    nodes: int

    def or_more(self, other: Padding) -> Padding:
        return Padding(max(self.tokens, other.tokens), max(self.nodes, other.nodes))


@dataclass(frozen=True)
class Views:
    """What is known of n observations.

    ``tokens`` (n, L) int32, of which each text has the first ``token_counts`` (n,).
    ``vocabulary`` is the tokenizer's, 0 without texts; ``texts_cut`` counts those that were
    too long. ``cube_rows`` (n,) int64 are rows of ``cubes`` (m, variables, levels, lat, lon),
    which lie on disk; -1 where there is none.
    """

    tokens: np.ndarray
    token_counts: np.ndarray
    vocabulary: int
    texts_cut: int
    graphs: Graphs
    cube_rows: np.ndarray
    cubes: np.ndarray

    def present(self, part: str) -> np.ndarray:
        """(n,) bool: which observations have that modality."""
        counts = {"text": self.token_counts, "graph": self.graphs.counts, "cube": self.cube_rows + 1}
        return np.asarray(counts[part] > 0)

    @property
    def padding(self) -> Padding:
        """That of the longest text and the largest graph."""
        return Padding(self.tokens.shape[1], int(self.graphs.counts.max()))

    def arrays(self, row: int, modalities: Sequence[str], padding: Padding) -> list[np.ndarray]:
        """The ``INPUTS`` of one observation's modalities, padded to no less than ``self.padding``."""
        of = {"text": self._text, "graph": self._graph, "cube": self._cube}
        return [array for part in modalities for array in of[part](row, padding)]

    def _text(self, row: int, padding: Padding) -> tuple[np.ndarray, ...]:
        tokens = np.zeros(padding.tokens, np.int64)
        tokens[: self.tokens.shape[1]] = self.tokens[row]
        return tokens, np.arange(padding.tokens) < self.token_counts[row]

    def _graph(self, row: int, padding: Padding) -> tuple[np.ndarray, ...]:
        """Nodes, adjacency and mask. Edges go both ways and never to the node itself."""
        found, edges = self.graphs[row]
        nodes = np.zeros((padding.nodes, found.shape[1]), np.float32)
        nodes[: len(found)] = found
        adjacency = np.zeros((padding.nodes, padding.nodes), bool)
        adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = True
        np.fill_diagonal(adjacency, False)
        return nodes, adjacency, np.arange(padding.nodes) < len(found)

    def _cube(self, row: int, padding: Padding) -> tuple[np.ndarray, ...]:
        """The cube, zeros where there is none, and whether there is one, (1,)."""
        cube_row = int(self.cube_rows[row])
        if cube_row < 0:
            return np.zeros(self.cubes.shape[1:], np.float32), np.array([False])
        return np.array(self.cubes[cube_row], dtype=np.float32), np.array([True])


def read_views(table: Path, columns: Columns, tokenizer: Path, length: int, modalities: Sequence[str] = PARTS) -> Views:
    """What the ``columns`` of a table name; cubes lie beside it, and texts are cut to ``length`` tokens.

    Raises:
        DataError: the tokenizer or the cubes cannot be read, a text is empty or without tokens, a cube is not
            there, or an observation has none of the ``modalities``.
    """
    rows, stored = Rows(table, columns.ids), table.parent / CUBES
    has_text = np.array([text is not None for text in columns.texts])
    rows.refuse(np.array([text == "" for text in columns.texts]), "text must be null where it is missing, not empty")
    cubes = read_cubes(stored) if (columns.cube_rows >= 0).any() else np.empty((0, 1, 1, 1, 1), np.float32)
    rows.refuse(columns.cube_rows >= len(cubes), f"cube_row must be in [0, {len(cubes)})", columns.cube_rows)
    vocabulary, tokens, token_counts, cut = 0, np.zeros((len(rows), 1), np.int32), np.zeros(len(rows), np.int32), 0
    if has_text.any():
        words = read_tokenizer(tokenizer)
        vocabulary = words.get_vocab_size()
        tokens, token_counts, cut = encode(words, columns.texts, length)
        rows.refuse(has_text & (token_counts == 0), "text must have a token; the tokenizer finds none")
    found = Views(tokens, token_counts, vocabulary, cut, columns.graphs, columns.cube_rows, cubes)
    seen = np.any([found.present(part) for part in modalities], axis=0)
    rows.refuse(~seen, f"every observation needs {_one_of(modalities)}")
    return found


def _one_of(modalities: Sequence[str]) -> str:
    *first, last = (f"a {part}" for part in modalities)
    return f"{', '.join(first)} or {last}" if first else last
