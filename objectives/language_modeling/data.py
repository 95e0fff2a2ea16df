"""From texts to token sequences in three parts, the same for every trial of a study. No torch.

The split is by text, near copies together; the tokenizer learns from training texts alone.
Read, tokenised and cut once per process for the same data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.errors import DataError
from hpo.evaluation.splits import fold_rows, grouped_split
from hpo.trial import derive_seed
from objectives.language_modeling.fields import Fields, checked
from objectives.language_modeling.framing import Framing
from objectives.language_modeling.texts import Document, near, read
from objectives.language_modeling.tokens import embedding_rows, tokenizer_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARES = (0.72, 0.18, 0.10)  # a fifth of what is not held out is validated
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sample:
    """One sample: token ids, its text's number, and for two of the tasks what it is to become."""

    ids: tuple[int, ...]
    document: int
    label: int = -1
    target: tuple[int, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """Sequences by part, with everything that a task needs to know of them."""

    fields: Fields
    parts: Mapping[str, Sequence[Sample]]
    tokenizer: PreTrainedTokenizerFast
    rows: int  # of the embedding
    classes: tuple[str, ...]
    short: int  # texts, or ends of texts, below ``min_tokens``
    cut: int  # texts of which the end was left out
    notes: tuple[str, ...]


def documents(data: Mapping[str, Any]) -> tuple[Fields, tuple[Document, ...]]:
    """The texts of a study's ``data``; read once as long as the files stay the same.

    Raises:
        DataError: as ``checked`` and ``texts.read``.
    """
    fields = checked(data)
    return fields, _read(json.dumps(asdict(fields), sort_keys=True), _state(fields))


def corpus(data: Mapping[str, Any], data_seed: int, fold: tuple[int, int] | None = None) -> Corpus:
    """Token sequences of the three parts; with a ``fold``, training and validation texts are dealt out anew.

    Raises:
        DataError: as ``documents``; a part has no text of ``min_tokens``, or the tokenizer
            does not go with the model.
    """
    fields = checked(data)
    return _corpus(json.dumps(asdict(fields), sort_keys=True), _state(fields), data_seed, fold)


def split(found: Sequence[Document], data_seed: int, fold: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """The numbers of the texts in each part; near copies (but for case, digits and spaces) stay together."""
    groups = np.array([near(document.text) for document in found])
    strata = np.array([document.label or "" for document in found])
    train, validation, test = grouped_split(groups, strata, SHARES, data_seed, "texts")
    if fold is not None:
        rest = np.concatenate([train, validation])
        train, validation = fold_rows(rest, groups, strata, fold, derive_seed(data_seed, "folds"))
    return dict(zip(PARTS, (train, validation, test), strict=True))


def fingerprint(found: Sequence[Document], fields: Fields) -> str:
    """SHA-256 of the texts and of what else decides what is learnt from them."""
    digest = hashlib.sha256()
    decided_by = {k: v for k, v in asdict(fields).items() if k not in ("path", "dataset", "weights")}
    digest.update(json.dumps(decided_by, sort_keys=True).encode())
    if fields.weights is not None and Path(fields.weights).is_file():
        with Path(fields.weights).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for document in found:
        digest.update(json.dumps([document.id, document.text, document.label, document.target]).encode())
    return digest.hexdigest()


def _state(fields: Fields) -> tuple[tuple[str, int, int], ...]:
    """What tells that files changed, for the caches."""
    if fields.path is None:
        return ()
    path = Path(fields.path)
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        return tuple((str(file.absolute()), (s := file.stat()).st_mtime_ns, s.st_size) for file in files)
    except OSError:
        return ()  # reading them says what is wrong


@lru_cache(maxsize=2)
def _read(fields: str, state: tuple[tuple[str, int, int], ...]) -> tuple[Document, ...]:
    return tuple(read(Fields(**json.loads(fields))))


@lru_cache(maxsize=2)
def _corpus(text: str, state: tuple[tuple[str, int, int], ...], data_seed: int, fold: tuple[int, int] | None) -> Corpus:
    fields, found = Fields(**json.loads(text)), _read(text, state)
    rows = split(found, data_seed, fold)
    learnt_from = [found[i] for i in rows["train"]]
    tokenizer = tokenizer_for(fields, (part for d in learnt_from for part in (d.text, d.target) if part))
    embedded, warning = embedding_rows(fields, len(tokenizer))
    classes = tuple(sorted({document.label for document in found if document.label is not None}))
    cutter = _Cutter(fields, tokenizer, classes)
    parts = {name: cutter.sequences(found, rows[name]) for name in PARTS}
    for name, sequences in parts.items():
        if not sequences:
            raise DataError(
                f"{fields.path or fields.dataset}: no {name} text has {fields.min_tokens} tokens or more. "
                "Give more or longer texts, or lower min_tokens."
            )
    notes = [warning] if warning else []
    if cutter.cut:
        notes.append(f"{cutter.cut} texts are longer than {fields.max_length} tokens; their ends were left out.")
    return Corpus(fields, parts, tokenizer, embedded, classes, cutter.short, cutter.cut, tuple(notes))


class _Cutter:
    """Makes sequences of texts, and counts what is lost on the way."""

    def __init__(self, fields: Fields, tokenizer: PreTrainedTokenizerFast, classes: Sequence[str]) -> None:
        self.fields, self.tokenizer, self.classes = fields, tokenizer, list(classes)
        self.framing = Framing.of(fields, tokenizer)
        self.short = self.cut = 0

    def sequences(self, found: Sequence[Document], rows: np.ndarray) -> list[Sample]:
        made: list[Sample] = []
        for number in rows.tolist():
            document = found[number]
            ids = self._ids(document.text)
            if self.fields.goal in ("causal", "masked"):
                pieces = self.framing.pieces(ids)
                usable = [piece for piece in pieces if len(piece) >= self.fields.min_tokens]
                self.short += len(pieces) - len(usable)
                made += [Sample(self.framing.sequence(piece), number) for piece in usable]
            elif len(ids) < self.fields.min_tokens:
                self.short += 1
            else:
                label = self.classes.index(document.label) if document.label is not None else -1
                target = self._cut(self._ids(document.target)) if document.target else ()
                made.append(Sample(self._cut(ids), number, label, target))
        return made

    def _cut(self, ids: list[int]) -> tuple[int, ...]:
        self.cut += len(ids) > self.framing.room
        return self.framing.sequence(self.framing.pieces(ids)[0])

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found
