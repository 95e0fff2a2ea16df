"""Where the model comes from and how far it can be trusted: data, parameters, limits, training it again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.environment import commit_words
from hpo.evaluation.groups import split_by_group
from hpo.export.card.figures import apart, watched
from hpo.export.card.markdown import bullets, code, count, number, table, text
from hpo.export.card.running import module_option
from hpo.export.manifest import Manifest
from hpo.training.settings import TrainerSettings

FEW_ROWS = 100  # of a test set: below, an interval is wide whatever the metric
WIDE = 2.0  # times as wide as that of all rows, an interval of a group says little


def data(manifest: Manifest) -> list[str]:
    """Which data, how much of it, and how it was split."""
    origin = manifest.origin
    rows = [[code(name), code(value)] for name, value in (origin.get("data") or {}).items()]
    if origin.get("data_fingerprint"):
        rows.append(["fingerprint", code(origin["data_fingerprint"])])
    split = origin.get("split") or {}
    lines = []
    if origin.get("data_counts"):
        counted = ", ".join(f"{n:,} {text(what)}" for what, n in origin["data_counts"].items())
        lines.append(f"In it: {counted}.")
    if origin.get("left_out"):
        lines.append(f"Left out because they could not be used: {count(origin['left_out'], 'record')}.")
    lines += [text(note) for note in origin.get("data_notes", ())]
    if split:
        whole = sum(split.values())
        shares = ", ".join(f"{n:,} {part} ({n / whole:.0%})" for part, n in split.items())
        lines.append(f"Split of the samples by data seed {origin.get('data_seed', '?')}: {shares}.")
        ids = origin.get("split_ids") or split
        if ids != split:
            told = ", ".join(f"{n:,} {text(part)}" for part, n in ids.items())
            lines.append(f"It was drawn over what belongs together, and no two parts share any of that: {told}.")
    elif origin.get("data_seed") is not None:
        lines.append(f"Split by data seed {origin['data_seed']}; how many samples each part has was not recorded.")
    if not origin.get("data_fingerprint"):
        lines.append("Whether that data is still the same cannot be told: no fingerprint of it was recorded.")
    return [*([table(["field", "value"], rows)] if rows else []), *([bullets(lines)] if lines else [])]


def parameters(manifest: Manifest) -> list[str]:
    """What was searched, and the trainer's settings that are not its own defaults."""
    origin = manifest.origin
    searched = origin.get("searched")
    by_hand = {name: _shown(value) for name, value in (origin.get("by_hand") or {}).items()}
    parts = []
    if searched is None:
        rows = [[code(name), code(_shown(value))] for name, value in manifest.params.items()]
        parts += [table(["parameter", "value"], rows)] if rows else []
    elif manifest.params:
        rows = [
            [code(name), code(_shown(value)), text(searched.get(name, "fixed")), code(by_hand.get(name, "")) or "–"]
            for name, value in manifest.params.items()
        ]
        parts.append(table(["parameter", "value", "searched", "picked by hand"], rows))
    settings = origin.get("trainer")
    if settings is None:
        return [*parts, "The trainer's settings were not recorded; those of the study file stand in `config.yaml`."]
    usual = TrainerSettings().model_dump(mode="json")
    own = {name: value for name, value in settings.items() if name not in manifest.params and value != usual.get(name)}
    told = ", ".join(f"{code(name)} {code(_shown(value))}" for name, value in own.items())
    return [*parts, f"Settings of the trainer besides these, where they are not its defaults: {told or 'none'}."]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def limits(manifest: Manifest, metrics: Mapping[str, Any]) -> list[str]:
    """The objective's own words, then what the figures themselves give away."""
    found = [*map(text, manifest.limits), *_few_rows(manifest), *_wide_groups(manifest, metrics), *_not_met(manifest)]
    if "checkpoint" in manifest.origin:
        found.append("No test set was read, so how it does on new data is not known.")
    return [bullets(found) if found else "None is known. That is no proof that there are none."]


def _few_rows(manifest: Manifest) -> Iterator[str]:
    rows = (manifest.origin.get("split") or {}).get("test")
    if rows is not None and rows < FEW_ROWS:
        yield f"The test set has {count(rows, 'sample')}: read its figures with their intervals."


def _wide_groups(manifest: Manifest, metrics: Mapping[str, Any]) -> Iterator[str]:
    intervals = metrics.get("intervals") or {}
    names = [name for name in metrics.get("shipped") or {} if name.startswith("test_")]
    overall, grouped = split_by_group(names)
    wanted = {f"test_{goal.metric}" for goal in watched(manifest)}
    groups = [(*apart(name, overall), _width(intervals.get(name))) for name in grouped]
    for metric in (name for name in overall if name in wanted):
        whole = _width(intervals.get(metric))
        wide = [text(group) for of, group, width in groups if of == metric and width > WIDE * whole]
        if wide:
            yield (
                f"Little is sure of {code(metric)} in {', '.join(wide)}: the interval is over {WIDE:g} times as wide "
                "as that of all samples."
            )


def _width(interval: Mapping[str, Any] | None) -> float:
    if interval is None or interval["low"] is None or interval["high"] is None:
        return math.nan
    return float(interval["high"] - interval["low"])


def _not_met(manifest: Manifest) -> Iterator[str]:
    for gate in manifest.gates:
        if gate.met is not True:
            yield f"Gate {text(gate.line)}."
    for name, entry in manifest.formats.items():
        if not entry.released:
            yield f"It does not ship as {code(name)}."
        elif entry.unverified:
            yield f"{code(name)} was made and never run: {text(entry.unverified)}"


def reproduce(manifest: Manifest) -> list[str]:
    """What led to these weights, and the command that does it again."""
    origin = manifest.origin
    if "checkpoint" in origin:
        how = (
            "`hpo reproduce` cannot train this model again: a checkpoint tells neither the fingerprint of its data nor "
            "whether its trial came to its end. `config.yaml` is a study file of that one trial, for `hpo launch`."
        )
    elif not origin.get("study"):
        how = "What led to these weights was not recorded."
    else:
        sure = (
            "The study is deterministic: on the same processor and versions the weights come out equal."
            if origin.get("deterministic")
            else "The study is not `deterministic: true`: equality is not promised, and usual on one processor."
        )
        how = (
            f"`hpo reproduce .{module_option(manifest)}` trains it again from this folder alone and says whether the "
            f"weights are equal, bit for bit; `--data path=FILE` where the data has moved. {sure} `config.yaml` is the "
            "study file: `hpo launch config.yaml` searches anew."
        )
    rows = [[title, value] for title, value in _facts(manifest) if value]
    return [how, *([table(["", ""], rows)] if rows else [])]


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    origin, around = manifest.origin, manifest.origin.get("environment") or {}
    packages = around.get("packages") or {}
    yield "study", code(origin.get("study", ""))
    yield "study's digest", code(origin.get("digest", ""))
    yield "checkpoint", code(origin.get("checkpoint", ""))
    yield "its SHA-256", code(origin.get("checkpoint_sha256", ""))
    yield "trial", number(origin["trial"]) if "trial" in origin else _trial(origin)
    yield "run", f"{origin['run']} of the retraining" if "run" in origin else ""
    yield "seeds", f"{origin['seed']}; of the data {origin.get('data_seed', '?')}" if "seed" in origin else ""
    yield "epochs", _epochs(origin)
    yield "weights' SHA-256", code(manifest.weights_sha256 or "")
    yield "hpo's code", code(commit_words(around.get("git_hpo")) or "")
    yield "the study's code", code(commit_words(around.get("git_objective") or around.get("git")) or "")
    trained = [f"Python {around.get('python')}"] if around.get("python") else []
    trained += [f"{name} {packages[name]}" for name in ("torch", "numpy", "transformers", "timm") if name in packages]
    yield ("known of" if "checkpoint" in origin else "trained with"), text(", ".join(trained))
    yield "on", text(", ".join([*filter(None, [around.get("cpu")]), *(around.get("gpus") or [])]))
    yield "exported with", text(", ".join(f"{name} {version}" for name, version in manifest.environment.items()))


def _trial(origin: Mapping[str, Any]) -> str:
    return f"{origin['number']} of the series {text(origin['series'])}" if "number" in origin else ""


def _epochs(origin: Mapping[str, Any]) -> str:
    if "epoch" in origin:
        return f"{origin['epoch']} of {origin.get('epochs', '?')}"
    if "epochs" not in origin:
        return ""
    told = [f"at most {origin['epochs']}"]
    told += [f"ended after {origin['last_epoch']}"] if origin.get("last_epoch") else []
    told += [f"the weights are those of {origin['best_epoch']}"] if origin.get("best_epoch") else []
    return "; ".join(told) + (f" ({text(origin['ended'])})" if origin.get("ended") else "")
