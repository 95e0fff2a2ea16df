"""What retraining showed: figures over fresh seeds against what the search promised. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hpo.errors import ExportFailed
from hpo.trial import Goal, Metrics, TrialRecord, TrialState


@dataclass(frozen=True)
class Spread:
    """One metric over the seeds that finished with a number for it.

    ``std`` is the sample's (n - 1), None with fewer than two values. ``promised`` is the
    picked trial's own value, None where the search did not measure it (the test set).
    """

    metric: str
    values: tuple[float, ...]
    mean: float
    std: float | None
    promised: float | None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def difference(self) -> float | None:
        """Mean minus promise, in the metric's own unit and sign."""
        return None if self.promised is None else self.mean - self.promised

    @property
    def is_as_promised(self) -> bool:
        """Whether the mean is the promise but for rounding."""
        return self.promised is not None and math.isclose(self.mean, self.promised, rel_tol=1e-9)


@dataclass(frozen=True)
class SeedFigures:
    """One run: which seed, how it ended, and every number it left."""

    number: int
    seed: int
    state: TrialState
    best_step: int | None
    metrics: Metrics
    reason: str | None


@dataclass(frozen=True)
class RetrainSummary:
    """The picked trial over k seeds. ``lines`` says it in sentences, for people."""

    trial: int
    shipped: int
    seeds: tuple[SeedFigures, ...]
    spreads: Mapping[str, Spread]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Luck:
    """What was luck in the best few: each promise against its mean over fresh seeds.

    ``spreads``: trial number -> metric -> spread. ``confirmed`` are the same trials with
    the means in place of the search's values, so that any rule for picking can be applied
    to them. ``promised_winner`` and ``winner`` are trial numbers.
    """

    spreads: Mapping[int, Mapping[str, Spread]]
    confirmed: tuple[TrialRecord, ...]
    promised_winner: int
    winner: int
    lines: tuple[str, ...]


def ship(runs: Sequence[TrialRecord], monitor: Goal) -> TrialRecord:
    """The run whose weights ship: best validation value of ``monitor``; ties go to the lowest number.

    Raises:
        ExportFailed: no run completed with a finite value.
    """
    able = [run for run in sorted(runs, key=lambda r: r.number) if _value(run, monitor.metric) is not None]
    if not able:
        raise ExportFailed(
            f"To ship, one seed must complete with a finite {monitor.metric}; none of {len(runs)} did. "
            f"{_why(runs)}".strip()
        )
    best = able[0]
    for run in able[1:]:
        if monitor.is_better(run.metrics[monitor.metric], best.metrics[monitor.metric]):
            best = run
    return best


def summarise(
    promise: TrialRecord,
    runs: Sequence[TrialRecord],
    goals: Sequence[Goal],
    monitor: Goal,
    *,
    promised_epochs: int | None = None,
    epochs: int | None = None,
) -> RetrainSummary:
    """Mean and spread of every metric over the completed ``runs``, beside the picked trial's own.

    ``promised_epochs`` and ``epochs`` are the budgets of search and retraining; where they
    differ a line says both, because schedules run over the budget.

    Raises:
        ExportFailed: no run completed with a finite value of ``monitor``.
    """
    runs = sorted(runs, key=lambda run: run.number)
    shipped = ship(runs, monitor)
    complete = [run for run in runs if run.state is TrialState.COMPLETE]
    spreads = _spreads(promise, complete)
    lines = [_sentence(spreads[goal.metric], goal) for goal in _told(goals, monitor) if goal.metric in spreads]
    lines += [
        f"{goal.metric}: no seed gave a finite value." for goal in _told(goals, monitor) if goal.metric not in spreads
    ]
    if promised_epochs is not None and epochs is not None and promised_epochs != epochs:
        lines.append(
            f"The search trained for {promised_epochs} epochs, retraining for {epochs}; schedules ran over "
            "these budgets, so the two are not the same training."
        )
    failed = [run for run in runs if run.state is not TrialState.COMPLETE]
    if failed:
        lines.append(f"{len(failed)} of {len(runs)} seeds did not complete. {_why(failed)}".strip())
    return RetrainSummary(promise.number, shipped.number, tuple(map(_figures, runs)), spreads, tuple(lines))


def luck(
    promises: Sequence[TrialRecord],
    runs: Sequence[TrialRecord],
    picked: Mapping[int, int],
    goals: Sequence[Goal],
    winner: Callable[[Sequence[TrialRecord]], int] | None = None,
) -> Luck:
    """Each promised trial against the mean of its fresh seeds, and who remains the winner.

    ``picked`` maps a run's number to the number of the trial it repeats. ``winner`` gives
    the winning number of a list of trials (a front's picking policy); by default the best
    value of the first goal, ties to the lowest number. A trial none of whose seeds gave
    every goal cannot win.

    Raises:
        ExportFailed: no promised trial was confirmed by a single seed.
    """
    promises = sorted(promises, key=lambda trial: trial.number)
    winner = winner or (lambda trials: _best(trials, goals[0]))
    spreads: dict[int, dict[str, Spread]] = {}
    confirmed: list[TrialRecord] = []
    lines: list[str] = []
    for trial in promises:
        own = [run for run in runs if picked.get(run.number) == trial.number and run.state is TrialState.COMPLETE]
        spreads[trial.number] = _spreads(trial, own)
        found = spreads[trial.number]
        if not all(goal.metric in found for goal in goals):
            lines.append(f"Trial {trial.number} was not confirmed: no seed gave all of its goals.")
            continue
        lines += [f"Trial {trial.number}, {_sentence(found[goal.metric], goal)}" for goal in goals]
        means = {name: spread.mean for name, spread in found.items()}
        values = tuple(means[goal.metric] for goal in goals)
        confirmed.append(replace(trial, values=values, metrics={**trial.metrics, **means}))
    if not confirmed:
        raise ExportFailed(f"To confirm, one seed of one trial must complete; none did. {_why(runs)}".strip())
    before, after = winner(promises), winner(confirmed)
    if before == after:
        lines.append(f"Trial {after} remains the winner.")
    else:
        lines.append(f"Trial {after} wins; trial {before}, which the search put first, was helped by its seed.")
    return Luck(spreads, tuple(confirmed), before, after, tuple(lines))


def _spreads(promise: TrialRecord, complete: Sequence[TrialRecord]) -> dict[str, Spread]:
    found = {}
    for name in sorted({name for run in complete for name in run.metrics}):
        values = tuple(v for v in (_value(run, name) for run in complete) if v is not None)
        if values:
            std = statistics.stdev(values) if len(values) > 1 else None
            promised = promise.metrics.get(name)
            promised = promised if promised is not None and math.isfinite(promised) else None
            found[name] = Spread(name, values, statistics.fmean(values), std, promised)
    return found


def _value(run: TrialRecord, metric: str) -> float | None:
    """A completed run's finite value of ``metric``, else None."""
    value = run.metrics.get(metric, math.nan)
    return value if run.state is TrialState.COMPLETE and math.isfinite(value) else None


def _best(trials: Sequence[TrialRecord], goal: Goal) -> int:
    best = trials[0]
    for trial in trials[1:]:
        if goal.is_better(trial.metrics.get(goal.metric, math.nan), best.metrics.get(goal.metric, math.nan)):
            best = trial
    return best.number


def _told(goals: Sequence[Goal], monitor: Goal) -> list[Goal]:
    return [*goals, *([] if monitor.metric in {goal.metric for goal in goals} else [monitor])]


def _sentence(spread: Spread, goal: Goal) -> str:
    got = f"{spread.mean:.4g}" + ("" if spread.std is None else f" ± {spread.std:.2g}")
    seeds = "one seed, so its spread is unknown" if spread.n == 1 else f"{spread.n} seeds"
    if spread.promised is None or spread.difference is None:
        return f"{spread.metric}: {got} over {seeds}; the search did not measure it."
    start = f"{spread.metric}: promised {spread.promised:.4g}, got {got} over {seeds}"
    if spread.is_as_promised:
        return f"{start}: as promised."
    word = "better" if goal.is_better(spread.mean, spread.promised) else "worse"
    size = abs(spread.difference)
    beside = f", {size / spread.std:.1f} times the spread between seeds" if spread.std else ""
    return f"{start}: {size:.2g} {word}{beside}."


def _figures(run: TrialRecord) -> SeedFigures:
    reason = run.reason.message if run.reason is not None else None
    return SeedFigures(run.number, run.seed, run.state, run.best_step, dict(run.metrics), reason)


def _why(runs: Sequence[TrialRecord]) -> str:
    return " ".join(f"Run {r.number}: {r.reason.message}." for r in runs if r.reason is not None and not _done(r))


def _done(run: TrialRecord) -> bool:
    return run.state is TrialState.COMPLETE
