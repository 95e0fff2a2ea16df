"""The figures of a comparison as plotly JSON: what each group had found by what it had spent, and where it ended.

Curves are steps, because nothing is known between two ended trials. Groups differ in colour and in how
their lines are dashed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpo.reports.comparison.sides import Group, SideBySide
from hpo.reports.comparison.tables import label
from hpo.reports.figures import Figure, Json, plain, value_axis
from hpo.reports.looks import MUTED, SERIES, Look
from hpo.reports.spending import HYPERVOLUME, Curve, Unit
from hpo.reports.timeline import time_scale
from hpo.reports.wording import axis
from hpo.trial import Goal

DASHES = ("solid", "dash", "dot", "dashdot")  # plotly's names
_COLOURS = [SERIES[0], SERIES[3], SERIES[1], SERIES[2]]  # neighbours as different as they can be
SYMBOLS = ("circle", "diamond", "square", "triangle-up")


def look(place: int) -> tuple[Look, str]:
    """Colour and dash of the group at this place; sixteen differ from each other."""
    return _COLOURS[place % 4], DASHES[(place + place // 4) % 4]


def curves(side: SideBySide) -> Figure:
    """Every measure against every kind of spending that is known of all."""
    views = {
        f"{label(measure)} against {unit.spelled}": _curves_view(side, measure, unit)
        for measure in side.measures for unit in side.units if side.able
    }  # fmt: skip
    switches = (tuple(label(measure) for measure in side.measures), tuple(unit.spelled for unit in side.units))
    return Figure("curves", _caption(side), views, height=460, switches=switches)


def finals(side: SideBySide) -> Figure:
    """The values behind the differences: one mark per study, at the equal spending."""
    views = {label(measure): _finals_view(side, measure) for measure in side.measures if side.able}
    budget = side.budget(side.unit)
    if budget is None:
        return Figure("finals", "")
    caption = f"Each mark is a study, after {side.unit.shown(budget)}; the bars are the means of the groups."
    return Figure("finals", caption, views, height=340)


def scaled(unit: Unit, end: float) -> tuple[float, str]:
    """Amounts per unit of an axis, and the axis's title."""
    if not unit.is_seconds:
        return 1.0, f"{unit.spelled} that had ended" if unit is Unit.TRIALS else f"{unit.spelled} of ended trials"
    scale, name = time_scale(end)
    return scale, f"{unit.spelled} ({name})"


def longest(side: SideBySide, unit: Unit) -> float:
    return max((c.end for e in side.able if (c := side.curve(e, side.goals[0], unit)) is not None), default=0.0)


def value_title(measure: Goal) -> str:
    return "hypervolume, higher is better" if measure == HYPERVOLUME else f"best {axis(measure)}"


def _caption(side: SideBySide) -> str:
    if not side.able:
        return "No study has a completed trial that could be drawn."
    several = any(len(group.entrants) > 1 for group in side.groups)
    thick = " A thick line is the middle (median) of a group, thin ones are its studies." if several else ""
    return f"The best so far, in steps: a trial counts once it has ended.{thick} The dotted line is the equal spending."


def _curves_view(side: SideBySide, measure: Goal, unit: Unit) -> Json:
    scale, title = scaled(unit, longest(side, unit))
    data: list[Json] = []
    values: list[float] = []
    for place, group in enumerate(side.groups):
        single = [curve for e in group.entrants if (curve := side.curve(e, measure, unit)) is not None]
        values += [value for curve in single for value in curve.values]
        if len(group.entrants) > 1:
            data += [
                {**_line(curve, place, scale), "name": plain(entrant.label), "legendgroup": group.label, "opacity": 0.4,
                 "line": {**_line(curve, place, scale)["line"], "width": 1}, "showlegend": False}
                for entrant in group.entrants if (curve := side.curve(entrant, measure, unit)) is not None
            ]  # fmt: skip
        middle = side.middle(group, measure, unit)
        if middle is not None:
            data.append({**_line(middle, place, scale), "name": plain(group.label), "legendgroup": group.label})
    budget = side.budget(unit)
    shapes = [] if budget is None else [
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": budget / scale, "x1": budget / scale,
         "line": {"color": MUTED.css, "width": 1.5, "dash": "dot"}}
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": title}, "rangemode": "tozero"},
        "yaxis": value_axis(value_title(measure), values),
        "shapes": shapes, "showlegend": True,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _line(curve: Curve, place: int, scale: float) -> Json:
    colour, dash = look(place)
    return {
        "type": "scatter", "mode": "lines", "x": [at / scale for at in (*curve.at, curve.end)],
        "y": [*curve.values, curve.values[-1]],
        "line": {"shape": "hv", "color": colour.css, "dash": dash, "width": 2.5},
        "hovertemplate": "%{x:.5g}: %{y:.4g}",
    }  # fmt: skip


def _finals_view(side: SideBySide, measure: Goal) -> Json:
    data: list[Json] = []
    shapes: list[Json] = []
    every: list[float] = []
    for place, group in enumerate(side.groups):
        known = _known(side, group, measure)
        every += [value for _, value in known]
        if known:
            data.append({
                "type": "scatter", "mode": "markers", "name": plain(group.label), "x": [place] * len(known),
                "y": [value for _, value in known], "text": [plain(name) for name, _ in known],
                "marker": {"color": look(place)[0].css, "symbol": SYMBOLS[place % 4], "size": 11, "opacity": 0.75},
                "hovertemplate": "%{text}: %{y:.4g}<extra></extra>",
            })  # fmt: skip
            mean = sum(value for _, value in known) / len(known)
            shapes.append({"type": "line", "x0": place - 0.2, "x1": place + 0.2, "y0": mean, "y1": mean,
                           "line": {"color": look(place)[0].css, "width": 2.5}})  # fmt: skip
    ticks = list(range(len(side.groups)))
    layout = {
        "xaxis": {"tickmode": "array", "tickvals": ticks, "ticktext": [plain(g.label) for g in side.groups],
                  "range": [-0.6, len(ticks) - 0.4], "showgrid": False},
        "yaxis": value_axis(value_title(measure), every), "shapes": shapes, "showlegend": False,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _known(side: SideBySide, group: Group, measure: Goal) -> Sequence[tuple[str, float]]:
    values = side.values(group, measure, side.unit)
    return [(e.label, value) for e, value in zip(group.entrants, values, strict=True) if value is not None]
