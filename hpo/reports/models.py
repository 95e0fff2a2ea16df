"""A model's manifest as the page tells it: read without knowing which formats there are.

Of each format every plain figure is a column; a comparison and a latency, which hold many
figures, are each told in one cell; whatever else is nested stands among the details.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.reports.trust import gate_rows
from hpo.reports.wording import clock, count, number, shown
from storage.records import ModelRecord


@dataclass(frozen=True)
class Model:
    """A bundle's figures: one row per format, and everything else as details."""

    path: str
    made: str
    trial: int | None
    verdict: str
    columns: tuple[str, ...]
    formats: tuple[tuple[str, tuple[str, ...]], ...]
    details: tuple[tuple[str, str], ...]
    gates: tuple[tuple[str, ...], ...] = ()
    released: bool = True


def model(record: ModelRecord) -> Model:
    manifest = dict(record.manifest)
    formats = _by_name(manifest.get("formats"))
    table = {name: _row(told) for name, told in formats.items()}
    columns = list(dict.fromkeys(key for told in table.values() for key in told))
    rows = tuple((name, tuple(told.get(key, "") for key in columns)) for name, told in table.items())
    verdict, gates, released = manifest.pop("verdict", None), gate_rows(manifest), manifest.pop("released", True)
    manifest.pop("gates", None)
    return Model(
        record.path, clock(record.created_at), record.trial, shown(verdict) if verdict else _shipped(formats),
        tuple(column.replace("_", " ") for column in columns), rows, tuple(flat(manifest)),
        gates, bool(released),
    )  # fmt: skip


def _by_name(formats: Any) -> dict[str, Mapping[str, Any]]:
    """``{name: figures}``, from a mapping or from a list of mappings with a name."""
    if isinstance(formats, (list, tuple)):
        formats = {str(f.get("name", i)) if isinstance(f, Mapping) else str(f): f for i, f in enumerate(formats)}
    if not isinstance(formats, Mapping):
        return {}
    return {str(name): told if isinstance(told, Mapping) else {"": told} for name, told in formats.items()}


def _shipped(formats: Mapping[str, Mapping[str, Any]]) -> str:
    released = [told["released"] for told in formats.values() if isinstance(told.get("released"), bool)]
    return f"{sum(released)} of {count(len(released), 'format')} released" if released else ""


def _row(told: Mapping[str, Any]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for key, value in told.items():
        if key == "comparison" and isinstance(value, Mapping):
            cells["largest difference"] = _difference(value)
        elif key == "relative_error" and isinstance(value, Mapping):
            cells["relative error"] = _difference({"difference": value.get("error"), "allowed": value.get("allowed")})
        elif key == "latency" and isinstance(value, (list, tuple)):
            cells["median latency"] = _latency(value)
        elif value is None:
            cells.setdefault(key, "")
        elif not isinstance(value, (list, tuple, Mapping)):
            cells[str(key)] = shown(value)
    return cells


def _difference(comparison: Mapping[str, Any]) -> str:
    found, allowed = comparison.get("difference"), comparison.get("allowed")
    if not isinstance(found, (int, float)):
        return "not finite"
    return number(float(found)) + (f" of {number(float(allowed))} allowed" if isinstance(allowed, (int, float)) else "")


def _latency(measured: Sequence[Any]) -> str:
    """``0.41 ms (batch 1), 2.3 ms (batch 32)``."""
    parts = []
    for one in measured:
        if isinstance(one, Mapping) and isinstance(one.get("p50_ms"), (int, float)):
            batch = f" (batch {one['batch']})" if "batch" in one else ""
            parts.append(f"{number(float(one['p50_ms']))} ms{batch}")
    return ", ".join(parts)


def flat(told: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested figures as rows: ``packages.torch``, ``2.13.0``."""
    if isinstance(told, Mapping):
        pairs = [(f"{prefix}.{key}" if prefix else str(key), value) for key, value in told.items()]
    elif isinstance(told, (list, tuple)) and any(isinstance(value, (list, tuple, Mapping)) for value in told):
        pairs = [(f"{prefix}.{i}", value) for i, value in enumerate(told)]
    elif isinstance(told, (list, tuple)):
        return [(prefix, ", ".join(shown(value) for value in told))]
    else:
        return [(prefix, shown(told))]
    return [row for name, value in pairs for row in flat(value, name)]
