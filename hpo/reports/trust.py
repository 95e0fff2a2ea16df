"""How far a number can be trusted: cross-validations, gains over simpler methods, the gates of a model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import SimpleNamespace
from typing import Any

from hpo.evaluation.folds import FoldSummary, OverFolds, summarise_folds
from hpo.evaluation.gains import Gain, gains, main_metrics
from hpo.evaluation.groups import split_by_group
from hpo.reports.facts import Facts, newest_runs
from hpo.reports.wording import count, number, shown
from hpo.trial import Metrics, TrialRecord, TrialState
from storage.records import RETRAIN, VALIDATE

_WIDTH, _PAD = 300, 10  # of the strip on which each fold is a dot


@dataclass(frozen=True)
class Strip:
    """One metric, one dot a fold, on a line from ``low`` to ``high``; positions in pixels."""

    metric: str
    low: float
    high: float
    mean: float
    dots: tuple[tuple[float, str], ...]
    width: int = _WIDTH


@dataclass(frozen=True)
class CrossValidation:
    """One cross-validation as the page tells it; rows are text."""

    title: str
    sentence: str
    fold_columns: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    overall: tuple[tuple[str, ...], ...]
    by_group: tuple[tuple[str, ...], ...]
    strip: Strip | None


METRIC_COLUMNS = ("metric", "mean", "std", "min", "max", "folds")


def cross_validations(facts: Facts) -> list[CrossValidation]:
    """Every cross-validation of the study, the newest first."""
    groups: dict[str, dict[Any, TrialRecord]] = {}
    for record in sorted(facts.snapshot.others.get(VALIDATE, ()), key=lambda record: record.number):
        if record.fold is not None and record.state.is_finished:
            whose = record.subject if record.subject is not None else record.params
            key = json.dumps([whose, record.epochs, record.fold[1]], sort_keys=True, default=str)
            groups.setdefault(key, {})[record.fold] = record
    newest = sorted(groups.values(), key=lambda runs: -max(run.number for run in runs.values()))
    return [_cross_validation(facts, list(runs.values())) for runs in newest]


def _cross_validation(facts: Facts, records: Sequence[TrialRecord]) -> CrossValidation:
    summary = summarise_folds(records)
    watched = list(dict.fromkeys([facts.snapshot.study.monitor.metric, *(goal.metric for goal in facts.goals)]))
    watched = [name for name in watched if any(name in run.final for run in summary.runs)]
    overall, grouped = split_by_group([name for name in summary.metrics if name.startswith("val_")])
    told = [name for name in summary.metrics if name in {*overall, *watched}]
    whose = "Parameters given by hand" if summary.subject is None else f"Trial {summary.subject}"
    title = f"{whose}, {count(summary.folds, 'fold')} of up to {count(summary.epochs, 'epoch')}"
    monitored = summary.metrics.get(watched[0]) if watched else None
    return CrossValidation(
        title=title,
        sentence=_sentence(summary, monitored),
        fold_columns=(
            "fold", *(f"{name}{when}" for name in watched for when in (", best", ", final")),
            "best epoch", "final epoch", "state",
        ),
        folds=tuple(
            (
                str(run.index),
                *(number(found.get(name, math.nan)) for name in watched for found in (run.best, run.final)),
                str(run.best_epoch or "–"), str(run.final_epoch), str(run.state),
            )
            for run in summary.runs
        ),
        overall=tuple(_row(summary.metrics[name]) for name in told),
        by_group=tuple(_row(summary.metrics[name]) for name in grouped),
        strip=_strip(monitored),
    )  # fmt: skip


def _sentence(summary: FoldSummary, monitored: OverFolds | None) -> str:
    done = sum(run.state is TrialState.COMPLETE for run in summary.runs)
    missing = "" if summary.is_complete else f" Only {done} of {summary.folds} folds are complete."
    if monitored is None:
        return missing.strip()
    spread = "" if monitored.std is None else f" ± {number(monitored.std)}"
    return f"{monitored.metric} is {number(monitored.mean)}{spread} over {count(done, 'fold')}.{missing}"


def _row(over: OverFolds) -> tuple[str, ...]:
    std = "–" if over.std is None else number(over.std)
    return (
        over.metric,
        number(over.mean),
        std,
        number(min(over.values)),
        number(max(over.values)),
        str(len(over.values)),
    )


def _strip(over: OverFolds | None) -> Strip | None:
    if over is None or not all(map(math.isfinite, over.values)):
        return None
    low, high = min(over.values), max(over.values)
    scale = (_WIDTH - 2 * _PAD) / (high - low) if high > low else 0.0

    def at(value: float) -> float:
        return round(_PAD + (value - low) * scale, 1) if scale else _WIDTH / 2

    dots = tuple((at(value), number(value)) for value in over.values)
    return Strip(over.metric, low, high, at(over.mean), dots)


@dataclass(frozen=True)
class Gained:
    """A model beside simpler methods on one part of the data: a row per metric, a column per method."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def gained(facts: Facts) -> list[Gained]:
    """The recommended trial on the validation set, the retrained model (mean of its seeds) on the test set."""
    gates = facts.setting("gates")
    known = [SimpleNamespace(**_GATE | gate) for gate in gates if isinstance(gate, dict)] if gates else []
    main = main_metrics(facts.goals, facts.snapshot.study.monitor, [gate for gate in known if gate.metric])
    told = []
    best = facts.recommended
    if best is not None:
        own = gains(best.metrics, baselines_on(facts, "validation"), main, "val_")
        told.append(_gained(f"Trial {best.number} on the validation set", own))
    means = _test_means(facts)
    if means:
        own = gains(means, baselines_on(facts, "test"), main, "test_")
        told.append(_gained("The retrained model on the test set, mean of its seeds", own))
    return [gained for gained in told if gained.rows]


_GATE: dict[str, Any] = {"metric": "", "over": "test", "at_least": None, "at_most": None}


def _gained(title: str, found: Mapping[str, Sequence[Gain]]) -> Gained:
    baselines = list(dict.fromkeys(gain.baseline for own in found.values() for gain in own))
    rows = []
    for metric, own in found.items():
        told = {gain.baseline: f"{gain.words} (than {number(gain.reference)})" for gain in own}
        rows.append((metric, number(own[0].value), *(told.get(name, "–") for name in baselines)))
    return Gained(title, ("metric", "model", *(f"beside {name}" for name in baselines)), tuple(rows))


def baselines_on(facts: Facts, part: str) -> dict[str, Metrics]:
    """The newest recorded figures of simpler methods on a part; an event that names none is of the test set."""
    found = [
        e.details for e in facts.snapshot.events if e.kind == "baselines" and e.details.get("part", "test") == part
    ]
    known = dict(found[-1].get("metrics", {})) if found else {}
    wanted = facts.setting("baselines")
    return {name: known[name] for name in wanted if name in known} if isinstance(wanted, list) else known


def _test_means(facts: Facts) -> Metrics:
    records = facts.snapshot.others.get(RETRAIN, ())
    newest = max(records, key=lambda record: record.number, default=None)
    same = newest_runs(record for record in records if newest and record.subject == newest.subject)
    names = {name for record in same for name in record.metrics}
    found = {name: [record.metrics[name] for record in same if name in record.metrics] for name in names}
    return {name: fmean(values) for name, values in found.items()}


def intervals(facts: Facts) -> dict[str, str]:
    """Test metric → ``0.89 to 0.93``, of the newest shipped run; empty before any was computed."""
    found = [event.details.get("metrics", {}) for event in facts.snapshot.events if event.kind == "intervals"]
    newest = found[-1] if found else {}
    return {name: f"{number(told['low'])} to {number(told['high'])}" for name, told in newest.items()}


GATE_COLUMNS = ("gate", "value", "verdict", "")


def gate_rows(manifest: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The gates of a bundle's manifest, as its README tells them."""
    words = {True: "met", False: "NOT MET", None: "not measured"}
    return tuple(
        (
            gate["rule"] if gate["name"] == gate["rule"] else f"{gate['name']}: {gate['rule']}",
            shown(gate["value"]) if gate["value"] is not None else "–",
            words[gate["met"]],
            gate.get("why", ""),
        )
        for gate in manifest.get("gates", ())
    )
