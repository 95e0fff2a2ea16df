"""What two versions of a model said about the same test samples: from their bundles alone, or by asking the old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.export.evidence import Evidence, pair
from hpo.service.registry.test_sets import TestSet, ask, same_assets, why_another

if TYPE_CHECKING:
    from hpo.export.bundle import ModelBundle

LEAST_SAMPLES = 10  # of a part of the test set; as for groups, fewer show nothing
_EXACT = 1e-6  # errors of kept outputs that are the same

Array = np.ndarray[Any, Any]
FindTestSet = Callable[[], TestSet | str]  # of the new version; why it cannot be had


@dataclass(frozen=True)
class Sides:
    """Outputs of both and targets, (n, ...), of the samples ``rows`` (n,) of the new one's test set of ``size``.

    ``kind``, ``columns`` and ``clusters`` as ``Evidence`` has them. ``was_whole``: they are all of the old
    one's test set, too, so its recorded figures are of these very samples. Errors within ``atol + rtol * |error|``
    are the same. ``notes``: what has to be said of the samples.
    """

    kind: str
    columns: int | None
    old: Array
    new: Array
    targets: Array
    rows: Array
    size: int
    clusters: Array | None
    was_whole: bool
    atol: float = _EXACT
    rtol: float = _EXACT
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == self.size

    @property
    def are_recorded(self) -> bool:
        """Whether what both runs recorded of their test sets is of these very samples."""
        return self.is_whole and self.was_whole

    def said(self, outputs: Array) -> Array:
        """``outputs`` without those columns that are for metrics alone."""
        return outputs if self.columns is None else outputs[:, : self.columns]


def sides(old: ModelBundle, new: ModelBundle, test_set: FindTestSet) -> Sides | str:
    """The same samples of both, or why there are none.

    Raises:
        HpoError: a bundle's evidence cannot be read, or no format of the old one can be run.
    """
    kept = _from_evidence(old, new)
    if isinstance(kept, Sides):
        return kept
    test = test_set()
    asked = test if isinstance(test, str) else _by_asking(old, new, test)
    return f"{kept}, and {asked}" if isinstance(asked, str) else asked


def _from_evidence(old: ModelBundle, new: ModelBundle) -> Sides | str:
    was, now = Evidence.read(old.folder), Evidence.read(new.folder)
    if was is None or now is None:
        whose = "neither keeps" if was is now else f"the {'old' if was is None else 'new'} one does not keep"
        return f"{whose} what it said about its test set"
    if now.kind == "other" and not same_assets(old, new):
        return "what prepares their inputs (a tokenizer, for one) is not the same"
    pairs = pair(was, now, same_data=_same_data(old, new))
    if isinstance(pairs, str):
        return pairs
    rows, size = pairs.new, len(now.targets)
    if len(rows) < min(LEAST_SAMPLES, size):
        return f"{len(rows)} samples stand in both test sets, where {LEAST_SAMPLES} are needed"
    return Sides(
        kind=now.kind,
        columns=now.columns,
        old=was.outputs[pairs.old],
        new=now.outputs[rows],
        targets=now.targets[rows],
        rows=rows,
        size=size,
        clusters=None if now.groups is None else now.groups[rows],
        was_whole=len(rows) == len(was.targets),
    )


def _by_asking(old: ModelBundle, new: ModelBundle, test: TestSet) -> Sides | str:
    reason = why_another(old, new, test.objective)
    if reason is not None:
        return reason
    rows, notes = _unseen(old, new, test)
    if len(rows) < min(LEAST_SAMPLES, test.size):
        return f"the old one has learnt from all but {len(rows)} of its samples, where {LEAST_SAMPLES} are needed"
    was, targets = ask(old, test)
    kept = Evidence.read(new.folder)
    now = kept.outputs if kept is not None and np.array_equal(kept.targets, targets) else ask(new, test)[0]
    return Sides(
        kind=test.kind(targets),
        columns=test.task.columns,
        old=was[rows],
        new=now[rows],
        targets=targets[rows],
        rows=rows,
        size=test.size,
        clusters=None if test.groups is None else test.groups[rows],
        was_whole=False,
        # A format may differ from its model by so much.
        atol=max(old.manifest.atol, new.manifest.atol),
        rtol=max(old.manifest.rtol, new.manifest.rtol),
        notes=notes,
    )


def _unseen(old: ModelBundle, new: ModelBundle, test: TestSet) -> tuple[Array, tuple[str, ...]]:
    """The rows that the old model has not learnt from, and what has to be said where that is not known."""
    everything = np.arange(test.size)
    seed = old.manifest.origin.get("data_seed")
    if not _same_data(old, new) or seed is None:
        return everything, ("They come from different data: the old one may have learnt from some of these samples.",)
    rows = test.unseen(int(seed))
    if rows is None:
        return everything, (
            "Their data was split by different seeds, and samples have no ids: the old one may have learnt from some.",
        )
    return rows, ()


def _same_data(old: ModelBundle, new: ModelBundle) -> bool:
    was, now = (bundle.manifest.origin.get("data_fingerprint") for bundle in (old, new))
    return was is not None and was == now
