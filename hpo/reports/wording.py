"""Numbers, times and names as people read them. Knows nothing of studies but ``Goal``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hpo.trial import Direction, Goal

# "_per_s" stands before "_s", which it ends in.
_UNITS = {
    "_ms": "ms", "_us": "µs", "_ns": "ns", "_mb": "MB", "_gb": "GB", "_kb": "kB", "_percent": "%", "_per_s": "1/s",
    "_s": "s",
}  # fmt: skip


def number(value: float | None) -> str:
    """Four significant digits, thousands grouped; a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def shown(value: Any) -> str:
    """A parameter's value in a table cell."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """A share (0.031) as ``3.1 %``; a digit after the point only where it tells something."""
    if not math.isfinite(share):
        return "–"
    value = share * 100
    digits = 0 if abs(value) >= 10 or value == 0 else 1 if abs(value) >= 0.95 else 2
    return f"{value:.{digits}f}".removesuffix(".0") + " %"


def count(n: int, one: str, many: str | None = None) -> str:
    """``1 trial``, ``2 trials``, ``no trial``."""
    if n == 0:
        return f"no {one}"
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``41 s``, ``12 min 5 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for big, small, per_big, per_small in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= per_big:
            rest = whole % per_big // per_small
            return f"{whole // per_big} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def moment(text: str | None) -> datetime | None:
    """An ISO 8601 time; one without a zone is taken as UTC. None when it is no time."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def clock(text: str | None) -> str:
    """``2026-03-01 14:05:09 UTC``."""
    parsed = moment(text)
    return parsed.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if parsed else (text or "–")


def unit(metric: str) -> str | None:
    """The unit that stands in a metric's name: ``latency_ms`` is in ms."""
    return next((unit for ending, unit in _UNITS.items() if metric.lower().endswith(ending)), None)


def with_unit(metric: str) -> str:
    """``latency_ms (ms)``: the name as commands know it, and its unit spelled out."""
    return f"{metric} ({unit(metric)})" if unit(metric) else metric


def axis(goal: Goal) -> str:
    """An axis title that says which way is better."""
    return f"{with_unit(goal.metric)}, {better(goal)} is better"


def better(goal: Goal) -> str:
    return "lower" if goal.direction is Direction.MINIMIZE else "higher"


def superlative(goal: Goal) -> str:
    return "lowest" if goal.direction is Direction.MINIMIZE else "highest"
