"""What ``hpo models diff`` prints: sentences first, then every metric of both versions side by side."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from hpo.printing.tables import Row, print_json, show

if TYPE_CHECKING:
    from hpo.evaluation.versions import Figure
    from hpo.service.registry.diff import ModelDiff


def show_model_diff(found: ModelDiff, as_json: bool) -> None:
    """How two versions compare on the same test samples."""
    if as_json:
        print_json(_facts(found))
        return
    print("\n".join(found.lines))
    grouped = found.groups
    for title, figures in (
        ("On all samples", [figure for figure in found.figures if figure not in grouped]),
        ("By group", grouped),
    ):
        if figures:
            print(f"\n{title}")
            show([_row(figure) for figure in figures])


def _row(figure: Figure) -> Row:
    return {
        "metric": figure.metric,
        "old": figure.old,
        "new": figure.new,
        "change": "not comparable" if not math.isfinite(figure.change) else _turned(figure),
    }


def _turned(figure: Figure) -> str:
    if figure.change == 0:
        return "the same"
    if figure.direction is None:
        return f"{figure.change:+.3g}"
    return f"{abs(figure.change):.3g} {'better' if figure.change > 0 else 'worse'}"


def _facts(found: ModelDiff) -> Row:
    return {
        "fall": found.fall,
        "reason": found.reason,
        "goal": None if found.goal is None else found.goal.model_dump(),
        "samples": found.samples,
        "left_out": found.left_out,
        "wins": [asdict(wins) for wins in found.wins],
        "figures": [{**asdict(figure), "change": figure.change, "fall": figure.fall} for figure in found.figures],
        "notes": found.notes,
        "lines": found.lines,
    }
