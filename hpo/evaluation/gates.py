"""Gates before release: named thresholds held against what was measured. Pure functions.

The figures, by where they come from (a part that is missing has not been measured yet):

- ``test``, ``run``: ``{metric: value}`` of the shipped model's test set and of its run;
- ``groups``: ``{group: {metric: value}}`` on the test set; nothing for a group too small to judge;
- ``folds``: ``{metric: (one value a fold, ...)}``;
- ``export``: ``{format: {figure: value}}`` of the formats that ship.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hpo.evaluation.groups import split_by_group
from hpo.trial import Metrics

Figures = Mapping[str, Mapping[str, Any]]

EXPORT_FIGURES = ("file_mb", "latency_ms", "latency_p95_ms", "largest_difference")
TRAINING_MINUTES = "training_minutes"
_MEASURED_BY = {
    "test": "hpo retrain {study}", "groups": "hpo retrain {study}", "run": "hpo retrain {study}",
    "folds": "hpo validate {study}{trial}", "export": "hpo export {study}",
}  # fmt: skip
_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "std": statistics.stdev,  # the sample's (n - 1)
    "min": min,
    "max": max,
}


class Gate(Protocol):
    """A threshold, as a study file writes it: exactly one of the bounds is given."""

    @property
    def metric(self) -> str: ...
    @property
    def over(self) -> str: ...
    @property
    def at_least(self) -> float | None: ...
    @property
    def at_most(self) -> float | None: ...
    @property
    def statistic(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...


@dataclass(frozen=True)
class Verdict:
    """A gate with what was found. ``met`` is None where nothing was measured; that releases nothing, either."""

    gate: Gate
    value: float | None
    met: bool | None
    why: str = ""

    @property
    def name(self) -> str:
        return self.gate.name or rule(self.gate)


def evaluate(gates: Iterable[Gate], figures: Figures, study: str = "STUDY", trial: int | None = None) -> list[Verdict]:
    """One verdict per gate; NaN and infinity meet none.

    What is missing is told with the command that measures it, for ``study`` and its ``trial``.
    """
    option = "" if trial is None else f" --trial {trial}"
    measured_by = {over: command.format(study=study, trial=option) for over, command in _MEASURED_BY.items()}
    return [
        _JUDGES[gate.over](gate, figures[gate.over])
        if gate.over in figures
        else Verdict(gate, None, None, f"measured by {measured_by[gate.over]}")
        for gate in gates
    ]


def is_released(verdicts: Iterable[Verdict]) -> bool:
    """Whether every gate is met; without gates there is nothing in the way."""
    return all(verdict.met is True for verdict in verdicts)


def rule(gate: Gate) -> str:
    """``pearson_r ≥ 0.9``, ``std of pearson_r over folds ≤ 0.05``, ``pearson_r of every group ≥ 0.85``."""
    bound = f"≥ {gate.at_least:g}" if gate.at_least is not None else f"≤ {gate.at_most:g}"
    metric = bare(gate.metric)
    if gate.over == "folds":
        return f"{gate.statistic or 'mean'} of {metric} over folds {bound}"
    return f"{metric}{' of every group' if gate.over == 'groups' else ''} {bound}"


def bare(metric: str) -> str:
    """A metric's name without the part of the data it was measured on."""
    return metric.removeprefix("test_").removeprefix("val_")


def figures_on_test(metrics: Metrics, known: Iterable[str] = ()) -> dict[str, Mapping[str, Any]]:
    """The ``test`` and ``groups`` figures among a run's metrics; empty when it read no test set.

    Args:
        known: all metrics the objective may report; their groups without a test figure
            were too small to judge, and are listed with nothing.
    """
    found = {bare(name): value for name, value in metrics.items() if name.startswith("test_")}
    if not found:
        return {}
    overall, grouped = split_by_group(list(found))
    all_overall, all_grouped = split_by_group([bare(name) for name in known if name.startswith(("val_", "test_"))])
    groups: dict[str, dict[str, float]] = {group: {} for _, group in map(_apart(all_overall), all_grouped)}
    for name in grouped:
        metric, group = _apart(overall)(name)
        groups.setdefault(group, {})[metric] = found[name]
    return {"test": {name: found[name] for name in overall}, **({"groups": groups} if groups else {})}


def _apart(overall: Sequence[str]) -> Callable[[str], tuple[str, str]]:
    """``mae_text`` → (``mae``, ``text``); the longest metric wins."""

    def apart(name: str) -> tuple[str, str]:
        metric = max((other for other in overall if name.startswith(f"{other}_")), key=len)
        return metric, name.removeprefix(f"{metric}_")

    return apart


def _meets(gate: Gate, value: float) -> bool:
    if not math.isfinite(value):
        return False
    if gate.at_least is not None:
        return value >= gate.at_least
    return gate.at_most is not None and value <= gate.at_most


def _shortfall(gate: Gate, value: float) -> float:
    """How bad a value is for a gate: larger is worse, NaN and infinity the worst."""
    if not math.isfinite(value):
        return math.inf
    return -value if gate.at_least is not None else value


def _one(gate: Gate, figures: Mapping[str, float]) -> Verdict:
    value = figures.get(gate.metric, figures.get(bare(gate.metric)))
    if value is None:
        return Verdict(gate, None, None, f"{gate.metric} is not among the figures")
    return Verdict(gate, value, _meets(gate, value), "" if math.isfinite(value) else "not a finite number")


def _every(gate: Gate, figures: Mapping[str, Mapping[str, float]], kind: str) -> Verdict:
    """Every group or format must meet the gate; the verdict is the worst one's."""
    metric = bare(gate.metric)
    judged = {name: found for name, found in figures.items() if found}
    skipped = [name for name in figures if name not in judged]
    beside = f"; too small to judge: {', '.join(skipped)}" if skipped else ""
    missing = [name for name, found in judged.items() if metric not in found]
    if missing or not judged:
        what = f"no {metric} for {', '.join(missing)}" if missing else f"there is no {kind} to judge"
        return Verdict(gate, None, None, what + beside)
    worst = max(judged, key=lambda name: _shortfall(gate, judged[name][metric]))
    value = judged[worst][metric]
    return Verdict(gate, value, _meets(gate, value), f"worst {kind}: {worst}{beside}")


def _folds(gate: Gate, figures: Mapping[str, Sequence[float]]) -> Verdict:
    values = {bare(name): found for name, found in figures.items()}.get(bare(gate.metric))
    statistic = gate.statistic or "mean"
    if not values or (statistic == "std" and len(values) < 2):
        return Verdict(gate, None, None, f"{len(values or ())} folds reported {bare(gate.metric)}")
    finite = all(map(math.isfinite, values))
    value = _STATISTICS[statistic](values) if finite else math.nan
    told = f"{len(values)} folds"
    return Verdict(gate, value, _meets(gate, value), told if finite else f"{told}, not all finite")


_JUDGES: Mapping[str, Callable[[Gate, Any], Verdict]] = {
    "test": _one,
    "run": _one,
    "groups": lambda gate, figures: _every(gate, figures, "group"),
    "folds": _folds,
    "export": lambda gate, figures: _every(gate, figures, "format"),
}
