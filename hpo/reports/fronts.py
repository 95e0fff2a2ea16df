"""The page's figures of several goals and parameters at once: the front, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from hpo import pareto
from hpo.reports import captions
from hpo.reports.facts import Ending, Facts, last_vector
from hpo.reports.figures import Figure, Json, plain, value_axis
from hpo.reports.looks import ACCENT, INFEASIBLE, LOOKS, MUTED, wants_log
from hpo.reports.thinning import LINES, MARKS, evenly, thinned
from hpo.reports.wording import axis, number, shown
from hpo.trial import Direction, TrialRecord

_NOT_SET = "not set"
_MOST_AXES = 24

Layer = tuple[str, list[tuple[TrialRecord, tuple[float, ...]]], Json]


def front(facts: Facts) -> list[Figure]:
    """Nothing for one goal; a plane for two; space and its three planes for three; chosen planes above."""
    if len(facts.goals) < 2:
        return []
    caption = captions.front(facts)
    if not facts.placed:
        return [Figure("front", caption)]
    pairs = list(combinations(range(len(facts.goals)), 2))
    names = {pair: f"{facts.goals[pair[0]].metric} × {facts.goals[pair[1]].metric}" for pair in pairs}
    if len(facts.goals) == 3:
        planes = [
            Figure(f"front-{x}-{y}", "", {"plane": _plane(facts, x, y)}, 340, title=names[x, y]) for x, y in pairs
        ]
        return [Figure("front", caption, {"space": _space(facts)}, 520), *planes]
    return [Figure("front", caption, {names[pair]: _plane(facts, *pair) for pair in pairs}, 480)]


def _layers(facts: Facts) -> list[Layer]:
    """What stands on a front's picture, from the back to the front, and how each looks."""
    members = set(facts.front.numbers)
    stopped = [(t, v) for t in facts.ended(Ending.PRUNED) if (v := last_vector(t, facts.goals))]
    placed = [(trial, trial.values) for trial in facts.placed if trial.values is not None]
    broke = [(trial, trial.values) for trial in facts.infeasible if trial.values is not None]
    best = facts.recommended
    stopped, broke = evenly(stopped, MARKS), evenly(broke, MARKS)
    dominated = evenly([p for p in placed if p[0].number not in members], MARKS)
    layers: list[Layer] = [
        ("pruned, where it stopped", stopped,
         {"color": LOOKS[Ending.PRUNED].css, "symbol": "x", "size": 6, "opacity": 0.35}),
        ("not feasible", broke, {"color": INFEASIBLE.css, "symbol": INFEASIBLE.symbol, "size": 7, "opacity": 0.55}),
        ("dominated", dominated, {"color": MUTED.css, "size": 7, "opacity": 0.55}),
        ("front", [p for p in placed if p[0].number in members], {"color": LOOKS[Ending.COMPLETE].css, "size": 9}),
        ("recommended", [p for p in placed if best is not None and p[0].number == best.number],
         {"color": ACCENT.css, "symbol": "star", "size": 17}),
    ]  # fmt: skip
    return [layer for layer in layers if layer[1]]


def _hover(facts: Facts, members: Sequence[tuple[TrialRecord, tuple[float, ...]]]) -> list[str]:
    return [
        f"trial {trial.number}" + "".join(
            f"<br>{plain(goal.metric)} {number(value)}" for goal, value in zip(facts.goals, vector, strict=True)
        )
        for trial, vector in members
    ]  # fmt: skip


def _plane(facts: Facts, x: int, y: int) -> Json:
    data: list[Json] = []
    layers = _layers(facts)
    for name, members, marker in layers:
        if name == "front" and len(facts.goals) == 2:
            data.append(_edge(facts, x, y))
        data.append({
            "type": "scatter", "mode": "markers", "name": name, "marker": marker,
            "x": [v[x] for _, v in members], "y": [v[y] for _, v in members],
            "hovertext": _hover(facts, members), "hovertemplate": "%{hovertext}<extra></extra>",
        })  # fmt: skip
    vectors = [vector for _, members, _ in layers for _, vector in members]
    layout = {
        "xaxis": value_axis(axis(facts.goals[x]), (v[x] for v in vectors)),
        "yaxis": value_axis(axis(facts.goals[y]), (v[y] for v in vectors)),
        "showlegend": len(facts.goals) != 3,  # three planes stand under their space, which has it
    }
    return {"data": data, "layout": layout}


def _edge(facts: Facts, x: int, y: int) -> Json:
    """The line between what is dominated and what is not: a staircase, which side depends on x's direction."""
    points = sorted((float(v[x]), float(v[y])) for v in facts.front.values)
    return {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "x": [p[0] for p in points], "y": [p[1] for p in points],
        "line": {"color": LOOKS[Ending.COMPLETE].css, "width": 2, "shape": edge_shape(facts.goals[x].direction)},
    }  # fmt: skip


def edge_shape(direction: Direction) -> str:
    """``hv``: from the left, a point's y holds until the next point, as it does where lower x is better."""
    return "hv" if direction is Direction.MINIMIZE else "vh"


def _space(facts: Facts) -> Json:
    data = []
    layers = _layers(facts)
    for name, members, marker in layers:
        # 3-D markers are glyphs of the reader's fonts: no star, and x is a box where a font lacks it.
        look = {**marker, "size": {"recommended": 9, "front": 6}.get(name, 3.5)}
        look["symbol"] = {"recommended": "diamond"}.get(name, "circle")
        data.append({
            "type": "scatter3d", "mode": "markers", "name": name, "marker": look,
            "x": [v[0] for _, v in members], "y": [v[1] for _, v in members], "z": [v[2] for _, v in members],
            "hovertext": _hover(facts, members), "hovertemplate": "%{hovertext}<extra></extra>",
        })  # fmt: skip
    scene: Json = {"camera": {"eye": {"x": 1.55, "y": 1.55, "z": 0.85}, "center": {"x": 0, "y": 0, "z": -0.18}}}
    for index, letter in enumerate("xyz"):
        values = [vector[index] for _, members, _ in layers for _, vector in members]
        goal = facts.goals[index]
        scene[f"{letter}axis"] = {
            "title": {"text": plain(f"{goal.metric} {'↓' if goal.direction is Direction.MINIMIZE else '↑'}")},
            **({"type": "log"} if wants_log(values) else {}),
        }
    return {"data": data, "layout": {"scene": scene, "showlegend": True}}


def parallel(facts: Facts) -> Figure:
    """One line per completed trial through its parameters and goals, coloured by its rank at the first goal."""
    caption = captions.parallel(facts)
    if len(facts.placed) < 2:
        return Figure("parallel", caption)
    placed = thinned(facts.placed, LINES, set(facts.front.numbers))
    space = facts.setting("search_space")
    names = facts.param_names[: _MOST_AXES - len(facts.goals)]
    axes = []
    for name in names:
        column = [trial.params.get(name, _NOT_SET) for trial in placed]
        entry = space.get(name) if isinstance(space, dict) else None
        axes.append(_axis(name, column, isinstance(entry, dict) and bool(entry.get("log"))))
    for index, goal in enumerate(facts.goals):
        axes.append(_axis(goal.metric, [t.values[index] for t in placed if t.values is not None], False))
    firsts = [trial.values[0] * pareto.signs(facts.goals)[0] for trial in placed if trial.values is not None]
    places = {value: place for place, value in enumerate(sorted(set(firsts)))}
    ranks = [places[value] / max(1, len(places) - 1) for value in firsts]
    trace = {
        "type": "parcoords", "dimensions": axes, "labelangle": -18, "labelside": "top",
        "line": {"color": ranks, "cmin": 0, "cmax": 1,
                 "colorscale": [[0, ACCENT.css], [0.4, LOOKS[Ending.COMPLETE].css], [1, "var(--faint)"]]},
    }  # fmt: skip
    layout = {"margin": {"t": 90, "b": 36, "l": 60, "r": 70}}
    view = {"data": [trace], "layout": layout}
    return Figure("parallel", caption, {"parallel": view}, 460, min_width=105 * len(axes) + 120)


def _axis(name: str, column: Sequence[Any], log: bool) -> Json:
    """One upright axis; numbers keep their order, everything else gets one place per value."""
    label = plain(name if len(name) <= 18 else name[:17] + "…")
    present = [v for v in column if v is not _NOT_SET]
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in present)
    if not numeric or not present:
        kinds = sorted({_word(value) for value in column}, key=lambda word: (word != _NOT_SET, word))
        spots = list(range(len(kinds)))
        texts = [plain(kind if len(kind) <= 16 else kind[:15] + "…") for kind in kinds]
        return {"label": label, "values": [kinds.index(_word(v)) for v in column], "tickvals": spots,
                "ticktext": texts, "range": [-0.3, len(kinds) - 0.7]}  # fmt: skip
    log = (log or wants_log(present)) and min(present) > 0
    numbers = [math.log10(v) if log else float(v) for v in present]
    low, high = min(numbers), max(numbers)
    if low == high:
        low, high = low - 0.5, high + 0.5
    ticks = log_ticks(low, high) if log else _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    absent = low - 0.15 * (high - low)
    scaled = iter(numbers)
    values = [absent if v is _NOT_SET else next(scaled) for v in column]
    has_gap = len(present) < len(column)
    texts = [number(10**tick if log else tick) for tick in ticks]
    if has_gap:
        low, ticks, texts = absent, [absent, *ticks], [_NOT_SET, *texts]
    return {"label": label, "values": values, "range": [low, high], "tickvals": ticks, "ticktext": texts}


def _word(value: Any) -> str:
    return shown(value)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that span [low, high]."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Decades that span [low, high], with 2 and 5 between them where there are few."""
    between = (1,) if high - low > 2.5 else (1, 2, 5)
    spots = [d + math.log10(f) for d in range(math.floor(low), math.ceil(high) + 1) for f in between]
    first = max(i for i, spot in enumerate(spots) if spot <= low + 1e-9)
    last = min(i for i, spot in enumerate(spots) if spot >= high - 1e-9)
    return spots[first : last + 1]
