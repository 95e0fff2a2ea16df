"""A study as a small picture for its card: the best so far, or the plane of the first two goals. SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from hpo.reports import captions
from hpo.reports.facts import Facts
from hpo.reports.looks import clipped, wants_log
from hpo.trial import Goal

_WIDTH, _HEIGHT, _PAD, _FOOT = 260, 130, 6, 16  # px
_MOST = 400  # dots: a card stays small
_BEST = "#3b82d6"  # stands out 4:1 on white and on black, as the next does
_CHOSEN = "#d9468f"

Point = tuple[float, float]


def picture(facts: Facts) -> str:
    """An ``<svg>`` that says in words what it shows; nothing before a trial has completed."""
    if not facts.placed:
        return ""
    if len(facts.goals) == 1:
        return _history(facts)
    return _plane(facts)


def _history(facts: Facts) -> str:
    """Each trial's value as a dot, the best so far as a line."""
    past = facts.history(0)
    heights = _scaled(past.values, past.values)
    best = _scaled(past.best, past.values)
    across = _scaled(past.numbers, past.numbers, log=False)
    moves = [i for i in range(len(best)) if i == 0 or best[i] != best[i - 1]]
    steps = "".join(f"H{_x(across[i])} V{_y(best[i])} " for i in moves)
    start = f"M{_x(across[0])},{_y(best[0])} "
    line = f'<path d="{start}{steps}H{_x(across[-1])}" fill="none" stroke="{_BEST}" stroke-width="2"/>'
    spots = dict(zip(past.numbers, zip(across, heights, strict=True), strict=True))
    dots = _dots(list(spots.values()), "currentColor", 1.8, 0.4)
    return _svg(captions.history(facts), dots + line + _chosen(facts, spots), "trial", facts.goals[0])


def _plane(facts: Facts) -> str:
    """Every completed trial as a dot, the front's the larger ones."""
    front = set(facts.front.numbers)
    vectors = [(trial.number, trial.values) for trial in facts.placed if trial.values is not None]
    axes = [[values[i] for _, values in vectors] for i in (0, 1)]
    spots = dict(zip((n for n, _ in vectors), zip(*(_scaled(axis, axis) for axis in axes), strict=True), strict=True))
    others = _dots([spot for n, spot in spots.items() if n not in front], "currentColor", 1.8, 0.4)
    members = _dots([spot for n, spot in spots.items() if n in front], _BEST, 3, 1.0)
    drawn = others + members + _chosen(facts, spots)
    return _svg(captions.front(facts), drawn, str(facts.goals[0]), facts.goals[1])


def _svg(said: str, drawn: str, below: str, beside: Goal) -> str:
    label = 'font-size="11" fill="currentColor" opacity=".8"'
    return (
        f'<svg role="img" aria-label="{escape(said)}" width="{_WIDTH}" height="{_HEIGHT + 2 * _FOOT}" '
        f'viewBox="0 {-_FOOT} {_WIDTH} {_HEIGHT + 2 * _FOOT}"><title>{escape(said)}</title>'
        f'<path d="M.5,0 V{_HEIGHT}.5 H{_WIDTH}" fill="none" stroke="currentColor" opacity=".4"/>{drawn}'
        f'<text x="0" y="-5" {label}>{escape(str(beside))}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 13}" text-anchor="end" {label}>{escape(below)}</text></svg>'
    )


def _scaled(values: Sequence[float], all_values: Sequence[float], log: bool | None = None) -> list[float]:
    """From 0 to 1 over ``all_values``: on a log scale, or with diverged values at the edge, where that shows more."""
    is_log = wants_log(all_values) if log is None else log
    ends = (min(all_values), max(all_values)) if is_log else clipped(all_values) or (min(all_values), max(all_values))
    low, high = (math.log(end) for end in ends) if is_log else ends
    span = (high - low) or 1.0
    return [min(1.0, max(0.0, ((math.log(value) if is_log else value) - low) / span)) for value in values]


def _dots(spots: Sequence[Point], colour: str, radius: float, opacity: float) -> str:
    every = math.ceil(len(spots) / _MOST)
    dots = "".join(f'<circle cx="{_x(x)}" cy="{_y(y)}" r="{radius}"/>' for x, y in spots[:: every or 1])
    return f'<g fill="{colour}" opacity="{opacity}">{dots}</g>'


def _chosen(facts: Facts, spots: Mapping[int, Point]) -> str:
    """The recommended trial."""
    best = facts.recommended
    return _dots([spots[best.number]], _CHOSEN, 4, 1.0) if best is not None and best.number in spots else ""


def _x(share: float) -> str:
    return f"{_PAD + share * (_WIDTH - 2 * _PAD):.1f}"


def _y(share: float) -> str:
    return f"{_HEIGHT - _PAD - share * (_HEIGHT - 2 * _PAD):.1f}"
