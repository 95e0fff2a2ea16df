"""How good the model is: on the test set with intervals, over seeds, by group, beside simple methods, as promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.evaluation.gains import gains, main_metrics
from hpo.evaluation.gates import bare
from hpo.evaluation.groups import split_by_group
from hpo.export.card.markdown import bullets, code, count, number, table, text
from hpo.export.manifest import Manifest
from hpo.trial import Direction, Goal

_ARROWS = {Direction.MAXIMIZE: "↑", Direction.MINIMIZE: "↓"}
_PART = "test_"


def figures(manifest: Manifest, metrics: Mapping[str, Any]) -> list[str]:
    """All there is to say of it; of a model that was not retrained, the numbers that it came with."""
    if not isinstance(metrics.get("shipped"), Mapping):
        return _plain(manifest, metrics)
    overall, grouped = split_by_group([name for name in metrics["shipped"] if name.startswith(_PART)])
    return [
        *_seeds(metrics),
        *(_on_test(manifest, metrics, overall) if overall else ["No test set was read."]),
        *(_beside_baselines(manifest, metrics) if metrics.get("baselines") else []),
        *(_by_group(manifest, metrics, overall, grouped) if grouped else []),
        *_promise(manifest, metrics),
        "Every figure of every seed stands in `metrics.json`.",
    ]


def _plain(manifest: Manifest, metrics: Mapping[str, Any]) -> list[str]:
    said = []
    if "checkpoint" in manifest.origin:
        said.append(
            "As they were at the checkpoint's epoch, on the validation set. The test set was not read: there are no "
            "intervals, no other seeds and no simple methods beside it."
        )
    numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    lines = [f"{text(name)}: {value:.6g}" for name, value in numbers.items()]
    return [*said, bullets(lines) if lines else "None came with the model."]


def watched(manifest: Manifest) -> list[Goal]:
    """What the study cares about, by bare names: its goals, its monitored metric, what its gates look at."""
    origin = manifest.origin
    told = [Goal(g["metric"], Direction(g["direction"])) for g in origin.get("goals", ())]
    if manifest.goal is not None:
        told.append(Goal(manifest.goal.metric, manifest.goal.direction))
    if origin.get("monitor"):
        told.append(Goal(origin["monitor"]["metric"], Direction(origin["monitor"]["direction"])))
    return main_metrics(told, told[0]) if told else []


def apart(name: str, overall: Sequence[str]) -> tuple[str, str]:
    """``test_mae_text`` as (``test_mae``, ``text``); the longest metric wins."""
    metric = max((other for other in overall if name.startswith(f"{other}_")), key=len)
    return metric, name.removeprefix(f"{metric}_")


def _title(manifest: Manifest, metrics: Mapping[str, Any], name: str) -> str:
    """A metric's name with the direction in which it is better; what the study wants most stands out."""
    directions = {f"{_PART}{goal.metric}": str(goal.direction) for goal in watched(manifest)}
    directions |= metrics.get("directions", {})
    arrow = _ARROWS[Direction(directions[name])] if name in directions else ""
    shown = f"{code(name)} {arrow}".strip()
    return f"**{shown}**" if manifest.goal is not None and manifest.goal.metric == name else shown


def _seeds(metrics: Mapping[str, Any]) -> list[str]:
    summary = metrics.get("seeds") or {}
    runs = summary.get("seeds") or []
    ships = next((run for run in runs if run["number"] == summary.get("shipped")), None)
    if ships is None:
        return []
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return [
        f"Trial {summary['trial']} of the search was trained again with {count(len(runs), 'seed')} ({seeds}). The "
        f"weights of seed {ships['seed']} ship, at epoch {ships['best_step']}: the best on the validation set. "
        "↑ means that higher is better, ↓ lower."
    ]


def _on_test(manifest: Manifest, metrics: Mapping[str, Any], overall: Sequence[str]) -> list[str]:
    split = manifest.origin.get("split", {})
    rows = f" ({count(split['test'], 'sample')})" if "test" in split else ""
    spreads = metrics.get("seeds", {}).get("spreads", {})
    header = ["metric", "this model", "95 % interval", "mean over seeds", "± std"]
    lines = []
    for name in overall:
        spread = spreads.get(name, {})
        lines.append([
            _title(manifest, metrics, name), number(metrics["shipped"][name]), _interval(metrics, name) or "–",
            number(spread.get("mean")), number(spread.get("std")),
        ])  # fmt: skip
    return [
        f"### On the test set{rows}",
        "The search never read it. The interval says how far the figure could be from that of another test set of the "
        "same kind (bootstrap); the spread over seeds, how far another training is.",
        table(header, lines, numbers=4),
    ]


def _interval(metrics: Mapping[str, Any], name: str) -> str:
    sure = metrics.get("intervals", {}).get(name)
    if sure is None or sure["low"] is None or sure["high"] is None:
        return ""
    return f"{number(sure['low'])} to {number(sure['high'])}"


def _beside_baselines(manifest: Manifest, metrics: Mapping[str, Any]) -> list[str]:
    baselines = {name: dict(found) for name, found in metrics["baselines"].items()}
    finite = {name: value for name, value in metrics["shipped"].items() if value is not None}
    known = {name: {m: v for m, v in found.items() if v is not None} for name, found in baselines.items()}
    found = gains(finite, known, watched(manifest), _PART)
    if not found:
        return []
    names = list(dict.fromkeys(gain.baseline for own in found.values() for gain in own))
    lines = []
    for metric, own in found.items():
        words = {gain.baseline: f"{number(gain.reference)} ({gain.words})" for gain in own}
        title = _title(manifest, metrics, f"{_PART}{metric}")
        lines.append([title, number(own[0].value), *(words.get(name, "–") for name in names)])
    return [
        "### Beside simple methods",
        "On the same test set; in parentheses how this model stands to the method.",
        table(["metric", "this model", *map(text, names)], lines, numbers=len(names) + 1),
    ]


def _by_group(
    manifest: Manifest, metrics: Mapping[str, Any], overall: Sequence[str], grouped: Sequence[str]
) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for name in grouped:
        metric, group = apart(name, overall)
        rows.setdefault(group, {})[metric] = name
    wanted = {f"{_PART}{goal.metric}" for goal in watched(manifest)}
    wanted |= {f"{_PART}{bare(gate.metric)}" for gate in manifest.gates if gate.over in ("test", "groups")}
    there = [metric for metric in overall if any(metric in own for own in rows.values())]
    columns = [metric for metric in there if metric in wanted] or there
    lines = [
        [text(group), *(_with_interval(metrics, own[column]) if column in own else "–" for column in columns)]
        for group, own in rows.items()
    ]
    return [
        "### By group",
        "This model on the test samples of each group, with 95 % intervals.",
        table(["group", *(_title(manifest, metrics, column) for column in columns)], lines, numbers=len(columns)),
    ]


def _with_interval(metrics: Mapping[str, Any], name: str) -> str:
    interval = _interval(metrics, name)
    return number(metrics["shipped"][name]) + (f" ({interval})" if interval else "")


def _promise(manifest: Manifest, metrics: Mapping[str, Any]) -> list[str]:
    """What the search promised on the validation set, what the seeds made of it, and what the test set says."""
    promised, spreads = metrics.get("promised", {}), metrics.get("seeds", {}).get("spreads", {})
    lines = []
    for goal in watched(manifest):
        name, test = f"val_{goal.metric}", f"{_PART}{goal.metric}"
        name = name if name in promised else goal.metric
        if name not in promised:
            continue
        spread, on_test = spreads.get(name, {}), spreads.get(test, {})
        lines.append([
            f"{code(goal.metric)} {_ARROWS[goal.direction]}", number(promised[name]),
            _mean(spread), number(metrics["shipped"].get(test)), _mean(on_test),
        ])  # fmt: skip
    if not lines:
        return []
    header = ["metric", "promised by the search", "validation, over seeds", "test, this model", "test, over seeds"]
    return ["### What the search promised", table(header, lines, numbers=4)]


def _mean(spread: Mapping[str, Any]) -> str:
    if not spread:
        return "–"
    return number(spread["mean"]) + (f" ± {number(spread['std'])}" if spread.get("std") is not None else "")
