"""What a cross-validation showed: each metric's mean and spread over the folds, and every fold's own figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.trial import Metrics, TrialRecord, TrialState


@dataclass(frozen=True)
class Fold:
    """One fold's run. ``best``: the metrics of its best epoch; ``final``: those of the last it reported."""

    index: int  # from 0
    run: int  # its number in the series
    state: TrialState
    best_epoch: int | None
    final_epoch: int
    best: Metrics
    final: Metrics
    reason: str | None


@dataclass(frozen=True)
class OverFolds:
    """One metric at the best epochs, over the complete folds that have it, in the order of the folds.

    ``std`` is the sample's (n - 1), None with fewer than two values. A NaN among the values
    makes both NaN: leaving the fold out would flatter.
    """

    metric: str
    values: tuple[float, ...]
    mean: float
    std: float | None


@dataclass(frozen=True)
class FoldSummary:
    """A cross-validation: of the search's trial ``subject``, or (None) of parameters given by hand."""

    subject: int | None
    folds: int  # asked for
    epochs: int
    runs: tuple[Fold, ...]
    metrics: Mapping[str, OverFolds]

    @property
    def is_complete(self) -> bool:
        """Whether every fold ran to its end; without one of them the mean is of a part of the data."""
        return {run.index for run in self.runs if run.state is TrialState.COMPLETE} == set(range(self.folds))


def summarise_folds(records: Sequence[TrialRecord]) -> FoldSummary:
    """The summary of one cross-validation's runs, with their points; one record per fold.

    Raises:
        ValueError: there is no record, one is no fold, or they are of several cross-validations.
    """
    facts = {(r.subject, r.epochs, r.fold[1] if r.fold else None) for r in records}
    folds = next(iter(facts))[2] if len(facts) == 1 else None
    if folds is None or len({r.fold for r in records}) != len(records):
        raise ValueError(
            f"Every record must be another fold of the same cross-validation; got {sorted(map(str, facts))}."
        )
    runs = tuple(sorted(map(_fold, records), key=lambda run: run.index))
    complete = [run for run in runs if run.state is TrialState.COMPLETE]
    names = sorted({name for run in complete for name in run.best})
    metrics = {name: over_folds(name, [run.best[name] for run in complete if name in run.best]) for name in names}
    return FoldSummary(records[0].subject, folds, records[0].epochs, runs, metrics)


def over_folds(metric: str, values: Sequence[float]) -> OverFolds:
    """Mean and sample standard deviation of at least one value."""
    if not all(map(math.isfinite, values)):
        return OverFolds(metric, tuple(values), math.nan, math.nan if len(values) > 1 else None)
    std = statistics.stdev(values) if len(values) > 1 else None
    return OverFolds(metric, tuple(values), statistics.fmean(values), std)


def _fold(record: TrialRecord) -> Fold:
    if record.fold is None:
        raise ValueError(f"Run {record.number} is no fold.")
    return Fold(
        index=record.fold[0],
        run=record.number,
        state=record.state,
        best_epoch=record.best_step,
        final_epoch=record.last_step,
        best=dict(record.metrics),
        final=dict(record.points[-1].metrics) if record.points else {},
        reason=record.reason.message if record.reason is not None else None,
    )
