"""Which events of a trial are warnings, and their short names: for the live table, lists and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEALTH = "health"  # a rule has become true
FLAGS = "health_flags"  # how all of them stood at the end of a run
TROUBLES = {
    "recovery": "recovery",
    "checkpoint_failed": "checkpoint failed",
    "mirror_failed": "mirror failed",
    "broken_checkpoint": "broken checkpoint",
}


def health_warning(kind: str, details: Mapping[str, Any]) -> str | None:
    """The rule that warned, or None when the event is no warning of a health rule."""
    if kind != HEALTH or details.get("good"):
        return None
    return str(details.get("rule", "unnamed rule"))


def warning(kind: str, details: Mapping[str, Any]) -> str | None:
    """A short name for what is worth a glance: a health warning, or a trouble that was handled."""
    rule = health_warning(kind, details)
    return TROUBLES.get(kind) if rule is None else rule.replace("_", " ")
