"""What a shipped model said about the test set, kept in its bundle, so that a later version can be held against it.

Outputs, targets and ids; no inputs, and nothing that is code. No torch here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import BundleError

FILE = "test.npz"
MOST_BYTES = 16 * 2**20

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Evidence:
    """Outputs and targets of the test set, (n, ...) each, in its own order.

    ``kind`` and ``columns`` as ``Task.predicts`` and ``Task.columns``. ``ids`` (n,) are those that
    ``Objective.split_ids`` knows the rows by, several of one id where they belong together; ``clusters``
    (n,) as ``Split.clusters``. Both are texts, and None where there are none.
    """

    kind: str
    outputs: Array
    targets: Array
    columns: int | None = None
    ids: Array | None = None
    clusters: Array | None = None

    @property
    def said(self) -> Array:
        """The outputs without those columns that are for metrics alone."""
        return self.outputs if self.columns is None else self.outputs[:, : self.columns]

    @property
    def groups(self) -> Array | None:
        """Ids of rows that belong together, as far as they are known."""
        return self.ids if self.clusters is None else self.clusters

    def packed(self) -> bytes:
        """The content of ``FILE``; the same for the same arrays."""
        arrays = {"kind": np.array(self.kind), "outputs": self.outputs, "targets": self.targets}
        for name in ("columns", "ids", "clusters"):
            if getattr(self, name) is not None:
                arrays[name] = np.asarray(getattr(self, name))
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, folder: Path) -> Evidence | None:
        """The evidence in a bundle's folder; None where it has none.

        Raises:
            BundleError: it cannot be read, or its rows do not match.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            evidence = cls(
                kind=str(found["kind"]),
                outputs=found["outputs"],
                targets=found["targets"],
                columns=int(found["columns"]) if "columns" in found else None,
                ids=found.get("ids"),
                clusters=found.get("clusters"),
            )
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path}: what the model said about the test set cannot be read: {error}.") from error
        lengths = {len(part) for part in (evidence.outputs, evidence.targets, evidence.ids, evidence.clusters)
                   if part is not None}  # fmt: skip
        if len(lengths) != 1:
            raise BundleError(f"{path}: outputs, targets and ids must be equally many; there are {sorted(lengths)}.")
        return evidence


@dataclass(frozen=True)
class Kept:
    """Evidence on its way into a bundle: its bytes, or None and the reason why it is left out."""

    content: bytes | None
    told: str

    @classmethod
    def of(cls, evidence: Evidence) -> Kept:
        """``evidence``, unless it takes more than ``MOST_BYTES``."""
        content = evidence.packed()
        if len(content) > MOST_BYTES:
            return cls.without(f"it takes {len(content) / 2**20:.0f} MB, of {MOST_BYTES // 2**20} allowed")
        return cls(content, f"{FILE}: {len(evidence.targets)} test samples")

    @classmethod
    def without(cls, reason: str) -> Kept:
        return cls(None, f"left out: {reason}")


def from_run(predictions: Path, ids: Array | None, clusters: Array | None, known: Sequence[str], *, rows: int) -> Kept:
    """The evidence of a run from the predictions in its folder.

    Args:
        predictions: the file that retraining left (``hpo.training.ending.TEST_PREDICTIONS``).
        ids, clusters: (rows,) of the test split, as ``Split`` has them.
        known: what ``Objective.split_ids`` says of the test set; ids that are not among them are no ids.
        rows: how many the test split has now.
    """
    try:
        with np.load(predictions, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except FileNotFoundError:
        return Kept.without("the run kept no predictions of the test set: there is none, or they are too large")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return Kept.without(f"the run's predictions cannot be read: {error}")
    if len(found["targets"]) != rows:
        return Kept.without(f"the run predicted {len(found['targets'])} test samples, and the test set has {rows}")
    named = _texts(ids if ids is not None else clusters)
    is_known = named is not None and set(named.tolist()) <= set(known)
    return Kept.of(
        Evidence(
            kind=str(found["kind"]),
            outputs=found["outputs"],
            targets=found["targets"],
            columns=int(found["columns"]) if "columns" in found else None,
            ids=named if is_known else None,
            clusters=_texts(clusters),
        )
    )


@dataclass(frozen=True)
class Pairs:
    """Row numbers of the same samples in an old and a new test set: ``old[i]`` is ``new[i]``."""

    old: Array
    new: Array


def pair(old: Evidence, new: Evidence, *, same_data: bool) -> Pairs | str:
    """The samples that stand in both test sets, in the new one's order; a reason where that cannot be known.

    By ids, rows of one id in their order, where both have them; without, two test sets of the ``same_data``
    are the same if all targets are. What stands in both, neither has learnt from.
    """
    if old.kind != new.kind or old.said.shape[1:] != new.said.shape[1:]:
        return (
            f"their outputs are not alike: {old.kind} of shape {list(old.said.shape[1:])} and {new.kind} of "
            f"shape {list(new.said.shape[1:])} a sample"
        )
    if old.ids is None or new.ids is None:
        if same_data and _equal(old.targets, new.targets):
            return Pairs(np.arange(len(old.targets)), np.arange(len(new.targets)))
        return "their samples have no ids, and the targets of their test sets differ"
    pairs = _by_id(old.ids, new.ids)
    if pairs is None or not _equal(old.targets[pairs.old], new.targets[pairs.new]):
        return "samples of the same id have other targets in the one than in the other"
    return pairs


def _by_id(old: Array, new: Array) -> Pairs | None:
    """None where one has more rows of an id than the other."""
    rows_of = _rows_by_id(old), _rows_by_id(new)
    shared = [name for name in rows_of[1] if name in rows_of[0]]
    if any(len(rows_of[0][name]) != len(rows_of[1][name]) for name in shared):
        return None
    places = sorted((b, a) for name in shared for a, b in zip(rows_of[0][name], rows_of[1][name], strict=True))
    return Pairs(np.array([a for _, a in places], dtype=int), np.array([b for b, _ in places], dtype=int))


def _rows_by_id(ids: Array) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, name in enumerate(ids.tolist()):
        found.setdefault(name, []).append(row)
    return found


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))


def _texts(ids: Array | None) -> Array | None:
    return None if ids is None else np.asarray(ids).astype(np.str_)
