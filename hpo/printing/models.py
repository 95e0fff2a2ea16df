"""What commands print of published models: versions, where they come from, labels, what publishing did."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo.evaluation.groups import split_by_group
from hpo.masking import printable
from hpo.printing.shipping import gate_rows, short
from hpo.printing.tables import Row, interval_text, print_json, show

if TYPE_CHECKING:
    from hpo.export.bundle import ModelBundle
    from hpo.export.manifest import FormatEntry, Manifest
    from hpo.service import Labelled, Published, ShownVersion
    from storage.records import LabelMoveRecord, RegisteredModel, VersionRecord

_MB = 2**20
_ORIGIN = {
    "study": "study", "trial": "trial", "run": "retrained run", "checkpoint": "checkpoint", "seed": "seed",
    "data_seed": "data seed", "epochs": "epochs", "best_epoch": "best epoch", "data_fingerprint": "data fingerprint",
    "digest": "study's digest",
}  # fmt: skip
_COMMITS = {"git": "study file's folder", "git_objective": "objective", "git_hpo": "hpo"}


def show_published(published: Published, label_command: str, as_json: bool) -> None:
    """The new version, where it lies, its labels, and why ``latest`` stayed where it did."""
    version = published.version
    for folder in published.left_overs:
        print(f"hpo: An earlier publishing died and left {folder}; it is taken away.", file=sys.stderr)
    for warning in published.warnings:
        print(f"hpo: {warning}", file=sys.stderr)
    if as_json:
        fall = None if published.diff is None else published.diff.fall
        latest = {"moved": published.stays is None, "why": published.stays, "held": published.is_held, "fall": fall}
        print_json({**_facts(version), "labels": published.labels, "latest": latest, "warnings": published.warnings})
        return
    print(f"{version.reference} is published: {version.files} files, {version.bytes / _MB:.2f} MB at {version.place}")
    if version.forced is not None:
        print(f"Forced: {printable(version.forced)}")
    for line in published.diff.lines if published.diff is not None else ():
        print(f"  {line}")
    if published.labels:
        print(f"Labels moved to it: {', '.join(published.labels)}")
    if published.stays is not None:
        print(f"latest stays: {published.stays}.")
    if published.is_held:
        option = label_command.removeprefix("hpo models label")
        print(f"Move it by hand: hpo models label {version.model} {version.name} latest --reason TEXT{option}")


def show_versions(models: Sequence[RegisteredModel], as_json: bool) -> None:
    """One row per version, the highest of each model first."""
    found = [(version, model.labels_of(version)) for model in models for version in reversed(model.versions)]
    if as_json:
        print_json([{**_facts(version), "labels": labels} for version, labels in found])
        return
    show(
        [
            {
                "model": version.model,
                "version": version.name,
                "labels": ", ".join(labels) or None,
                "published": _day(version.created_at),
                "by": version.published_by,
                "study": version.study,
                "trial": version.trial,
                "gates": _gates(version.manifest),
                "MB": short(version.bytes / _MB),
            }
            for version, labels in found
        ]
    )


def show_version(shown: ShownVersion, as_json: bool) -> None:
    """A version: what it is, where it comes from, how good it is, what became of it."""
    version, manifest = shown.version, shown.manifest
    if as_json:
        record = {"labels": shown.labels, "label_moves": shown.moves, "problem": shown.problem}
        print_json({**_facts(version), **record, "manifest": version.manifest, "metrics": shown.metrics})
        return
    print(f"{version.reference}: {manifest.summary or f'a model of {manifest.objective}'}")
    for line in _record_lines(shown):
        print(f"  {line}")
    print("It comes from:")
    for line in _origin_lines(manifest):
        print(f"  {line}")
    if manifest.gates:
        print("Gates before release:")
        show(gate_rows(manifest.gates))
    figures = _figure_rows(manifest, shown.metrics or {})
    if figures:
        print("On its test set:")
        show(figures)
    print("Formats:")
    show([_format_row(name, entry) for name, entry in manifest.formats.items()])
    if shown.moves:
        print("Its labels, as they were moved:")
        show([_move_row(move) for move in shown.moves])
    if shown.problem is not None:
        print(f"hpo: {shown.problem}", file=sys.stderr)


def show_labelled(labelled: Labelled, as_json: bool) -> None:
    """Where a label pointed, and points."""
    for warning in labelled.warnings:
        print(f"hpo: {warning}", file=sys.stderr)
    before, after = (None if version is None else version.name for version in (labelled.before, labelled.after))
    if as_json:
        print_json({"model": labelled.model, "label": labelled.label, "before": before, "after": after})
        return
    for line in labelled.diff.lines if labelled.diff is not None else ():
        print(f"  {line}")
    if after is None:
        print(f"{labelled.label} of {labelled.model} is gone; it pointed at {before}.")
    elif before == after:
        print(f"{labelled.label} of {labelled.model} points at {after} already.")
    else:
        print(f"{labelled.label} of {labelled.model} points at {after} now; before: {before or 'nowhere'}.")


def show_pulled(bundle: ModelBundle, reference: str, as_json: bool) -> None:
    """Where a version's bundle was written."""
    if as_json:
        print_json({"reference": reference, "path": str(bundle.folder), "digest": bundle.digest})
    else:
        print(f"{reference} is at {bundle.folder}, byte by byte as it was published.")


def _facts(version: VersionRecord) -> dict[str, Any]:
    names = ("model", "created_at", "digest", "place", "bytes", "files", "study", "trial", "published_by", "host")
    record = {name: getattr(version, name) for name in (*names, "forced", "notes")}
    return {"reference": version.reference, "version": version.name, **record}


def _record_lines(shown: ShownVersion) -> Iterator[str]:
    version = shown.version
    yield f"published {_day(version.created_at)} by {version.published_by} on {version.host}"
    yield f"labels: {', '.join(shown.labels) or 'none'}"
    yield f"files: {version.files}, {version.bytes / _MB:.2f} MB at {version.place}"
    yield f"digest: {version.digest}"
    if version.forced is not None:
        yield f"forced: {printable(version.forced)}"
    if version.notes is not None:
        yield f"notes: {printable(version.notes)}"
    for limit in shown.manifest.limits:
        yield f"limit: {limit}"


def _origin_lines(manifest: Manifest) -> Iterator[str]:
    origin = manifest.origin
    for key, title in _ORIGIN.items():
        if origin.get(key) is not None:
            yield f"{title}: {origin[key]}"
    made_on = origin.get("environment", {})
    for key, title in _COMMITS.items():
        found = made_on.get(key)
        if found:
            yield f"commit of the {title}: {found.get('commit')}{' with changes' if found.get('dirty') else ''}"
    if made_on:
        yield f"trained with: Python {made_on.get('python')}, {made_on.get('cpu')}, {made_on.get('os')}"
    yield "exported with: " + ", ".join(f"{name} {version}" for name, version in manifest.environment.items())


def _figure_rows(manifest: Manifest, metrics: Mapping[str, Any]) -> list[Row]:
    """The shipped run's metrics over the whole test set, with their intervals, the main one first."""
    shipped, intervals = metrics.get("shipped") or {}, metrics.get("intervals") or {}
    overall, _ = split_by_group([name for name in shipped if name.startswith("test_")])
    main = manifest.goal.metric if manifest.goal else None
    rows = []
    for name in sorted(overall, key=lambda name: name != main):
        sure = intervals.get(name) or {}
        told = interval_text(sure.get("low"), sure.get("high"))
        rows.append({"metric": name, "value": shipped[name], "95 % interval": told})
    return rows


def _format_row(name: str, entry: FormatEntry) -> Row:
    alone = next((latency for latency in entry.latency if latency.batch == 1), None)
    return {
        "format": name,
        "released": "yes" if entry.released else "NO",
        "MB": short(entry.size_mb),
        "ms at batch 1": None if alone is None else short(alone.p50_ms),
        "× eager": None if alone is None else short(alone.speedup),
    }


def _move_row(move: LabelMoveRecord) -> Row:
    row = {"at": _day(move.at), "label": move.label, "from": move.before, "to": move.after, "by": move.by}
    return {**row, "reason": None if move.reason is None else printable(move.reason)}


def _gates(manifest: Mapping[str, Any]) -> str:
    gates = manifest.get("gates", ())
    if not gates:
        return "none" if manifest.get("released") else "not evaluated"
    unmet = sum(gate["met"] is not True for gate in gates)
    return "met" if not unmet else f"{unmet} of {len(gates)} NOT MET"


def _day(moment: str) -> str:
    return f"{moment[:16].replace('T', ' ')} UTC"
