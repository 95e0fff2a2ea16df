"""The page's figures as plotly JSON: history, learning curves, importance, timeline.

Plain dictionaries instead of ``plotly.graph_objects``: the import and its validation cost
more than everything else on the page (the tests validate them once instead). Colours are
CSS variables that ``templates/report.js`` fills in. Nothing here holds NaN in the end:
``page`` writes them as null.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo.reports import captions
from hpo.reports.facts import Ending, Facts, History
from hpo.reports.importance import Importance
from hpo.reports.looks import ACCENT, LOOKS, MUTED, SERIES, clipped, wants_log
from hpo.reports.timeline import Timeline
from hpo.reports.wording import axis, clock, duration, number, with_unit
from hpo.trial import TrialRecord

_MOST_NUMBERS = 200_000  # of all curve views together: keeps a page of 1,000 trials within a few MB
_TOP = 15  # parameters in the importance figure

Json = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One place on the page: ``views`` by name (data and layout), the first one shown."""

    name: str
    caption: str
    views: dict[str, Json] = field(default_factory=dict)
    height: int = 420
    min_width: int = 0  # px; on a narrower screen the figure scrolls sideways
    title: str = ""


def plain(text: object) -> str:
    """Text that plotly shows as it is: it reads a subset of HTML."""
    return html.escape(str(text), quote=False)


def value_axis(title: str, values: Iterable[float]) -> Json:
    """An axis with a title; on a log scale, or ended before diverged values, where that shows more."""
    found = list(values)
    if wants_log(found):
        return {"title": {"text": plain(title)}, "type": "log", "exponentformat": "power"}
    ends = clipped(found)
    if ends:
        return {"title": {"text": plain(title) + " (some lie beyond)"}, "range": list(ends)}
    return {"title": {"text": plain(title)}}


def count_axis(title: str, last: int) -> Json:
    """An axis of whole numbers up to ``last``: no trial 2.5, no epoch 0.5."""
    return {"title": {"text": title}, **({"dtick": 1, "tick0": 0} if last < 10 else {})}


def history(facts: Facts) -> Figure:
    """One goal: values and the best so far. Several: the hypervolume, and the same per goal."""
    views: dict[str, Json] = {}
    if facts.placed and len(facts.goals) > 1:
        views["hypervolume"] = _volume_view(facts.hypervolume)
    if facts.placed:
        for index, goal in enumerate(facts.goals):
            views[goal.metric] = _history_view(facts, index)
    return Figure("history", captions.history(facts), views)


def _volume_view(volume: History) -> Json:
    line = {
        "type": "scatter", "mode": "lines", "name": "hypervolume", "x": volume.numbers, "y": volume.best,
        "line": {"shape": "hv", "color": ACCENT.css, "width": 2.5},
        "hovertemplate": "after trial %{x}: %{y:.4g}<extra></extra>",
    }  # fmt: skip
    title = {"text": "hypervolume, higher is better"}
    layout = {"xaxis": count_axis("trial number", volume.numbers[-1]), "yaxis": {"title": title}}
    return {"data": [line], "layout": layout}


def _history_view(facts: Facts, index: int) -> Json:
    goal, past = facts.goals[index], facts.history(index)
    data = []
    for ending in (Ending.COMPLETE, Ending.EARLY, Ending.TIME_LIMIT):
        pairs = [(n, v) for n, v in zip(past.numbers, past.values, strict=True) if facts.endings[n] is ending]
        if pairs:
            data.append({
                "type": "scatter", "mode": "markers", "name": ending.value,
                "x": [n for n, _ in pairs], "y": [v for _, v in pairs],
                "marker": {"color": LOOKS[ending].css, "symbol": LOOKS[ending].symbol, "size": 7, "opacity": 0.8},
                "hovertemplate": "trial %{x}: %{y:.4g}<extra></extra>",
            })  # fmt: skip
    data.append({
        "type": "scatter", "mode": "lines", "name": "best so far", "x": past.numbers, "y": past.best,
        "line": {"shape": "hv", "color": ACCENT.css, "width": 2.5}, "hoverinfo": "skip",
    })  # fmt: skip
    layout = {"xaxis": count_axis("trial number", past.numbers[-1]), "yaxis": value_axis(axis(goal), past.values)}
    return {"data": data, "layout": layout}


def curves(facts: Facts) -> Figure:
    """Learning curves per metric, as many metrics as the page can carry, the monitored one first."""
    views: dict[str, Json] = {}
    left = _MOST_NUMBERS
    for metric in facts.epoch_metrics:
        left -= sum(len(trial.points) for trial in facts.trials)
        if left < 0 and views:
            break
        if facts.finite_values(metric):
            views[metric] = _curves_view(facts, metric)
    return Figure("curves", captions.curves(facts), views, height=460)


def _curves_view(facts: Facts, metric: str) -> Json:
    data: list[Json] = []
    opacity = 0.75 if len(facts.trials) <= 20 else 0.5 if len(facts.trials) <= 100 else 0.22
    # Pruned and failed ones first, so that they lie under the others.
    for ending in (Ending.PRUNED, Ending.FAILED, Ending.RUNNING, Ending.QUEUED, Ending.COMPLETE, Ending.TIME_LIMIT,
                   Ending.EARLY):  # fmt: skip
        trials = [t for t in facts.ended(ending) if any(metric in p.metrics for p in t.points)]
        if trials:
            data.append(_bundle(trials, metric, ending, opacity))
            if ending is not Ending.COMPLETE:
                data.append(_stops(trials, metric, ending))
    best = facts.recommended
    if best is not None and any(metric in p.metrics for p in best.points):
        trace = _bundle([best], metric, Ending.COMPLETE, 1.0)
        look = {"name": f"trial {best.number}", "legendgroup": "recommended", "line": {"color": ACCENT.css, "width": 3}}
        data.append({**trace, **look})
    last = max((trial.last_step for trial in facts.trials), default=0)
    layout = {"xaxis": count_axis("epoch", last), "yaxis": value_axis(with_unit(metric), facts.finite_values(metric))}
    return {"data": data, "layout": layout}


def _bundle(trials: Sequence[TrialRecord], metric: str, ending: Ending, opacity: float) -> Json:
    """Many curves as one trace with gaps: a thousand traces would take the browser seconds."""
    x: list[int | None] = []
    y: list[float | None] = []
    who: list[int | None] = []
    for trial in trials:
        points = [point for point in trial.points if metric in point.metrics]
        x += [*(point.step for point in points), None]
        y += [*(point.metrics[metric] for point in points), None]
        who += [*(trial.number for _ in points), None]
    return {
        "type": "scatter", "mode": "lines" if len(x) > 2 else "lines+markers", "name": ending.value,
        "x": x, "y": y, "customdata": who,
        "line": {"color": LOOKS[ending].css, "width": 1.3}, "opacity": opacity, "connectgaps": False,
        "legendgroup": ending.value, "hovertemplate": "trial %{customdata}, epoch %{x}: %{y:.4g}<extra></extra>",
    }  # fmt: skip


def _stops(trials: Sequence[TrialRecord], metric: str, ending: Ending) -> Json:
    ends = [([p for p in trial.points if metric in p.metrics][-1], trial) for trial in trials]
    return {
        "type": "scatter", "mode": "markers", "name": ending.value, "showlegend": False, "legendgroup": ending.value,
        "x": [point.step for point, _ in ends], "y": [point.metrics[metric] for point, _ in ends],
        "customdata": [trial.number for _, trial in ends],
        "text": [plain(trial.reason.message.splitlines()[0][:120]) if trial.reason and trial.reason.message else ""
                 for _, trial in ends],
        "marker": {"color": LOOKS[ending].css, "symbol": LOOKS[ending].symbol, "size": 7},
        "hovertemplate": "trial %{customdata}, epoch %{x}: %{y:.4g}<br>%{text}<extra></extra>",
    }  # fmt: skip


def importance(facts: Facts, found: list[Importance]) -> Figure:
    """One bar per parameter and goal."""
    caption = captions.importance(facts, found)
    if not found:
        return Figure("importance", caption)
    total = {name: sum(i.shares[i.names.index(name)] for i in found) for name in found[0].names}
    names = sorted(total, key=lambda name: total[name])[-_TOP:]  # plotly draws from the bottom up
    data = [
        {
            "type": "bar", "orientation": "h", "name": plain(f"{i.goal.metric} (R² {i.explained:.2f})"),
            "y": [plain(name) for name in names], "x": [i.shares[i.names.index(name)] for name in names],
            "marker": {"color": look.css, "opacity": 0.9 if i.is_telling else 0.3},
            "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
        }
        for i, look in reversed(list(zip(found, SERIES * len(found), strict=False)))
    ]  # fmt: skip
    layout = {
        "barmode": "group", "showlegend": True, "legend": {"traceorder": "reversed"},
        "xaxis": {"title": {"text": "share of the importance"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"automargin": True, "type": "category"},
    }  # fmt: skip
    height = 150 + len(names) * (16 + 14 * len(found))
    return Figure("importance", caption, {"importance": {"data": data, "layout": layout}}, height=height)


def timeline(facts: Facts, shown: Timeline) -> Figure:
    """Bars on lanes, coloured by how each stretch of work ended."""
    caption = captions.timeline(shown)
    if not shown.bars:
        return Figure("timeline", caption)
    scale, unit = shown.scale
    data = []
    for ending in Ending:
        bars = [bar for bar in shown.bars if bar.ending is ending]
        if bars:
            data.append({
                "type": "bar", "orientation": "h", "name": ending.value,
                "y": [bar.lane for bar in bars], "x": [bar.length / scale for bar in bars],
                "base": [bar.start / scale for bar in bars],
                "marker": {"color": LOOKS[ending].css, "line": {"color": "var(--surface)", "width": 1}},
                "text": [str(bar.number) for bar in bars] if len(shown.bars) <= 80 else None,
                "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
                "textfont": {"color": "var(--surface)", "size": 11},
                "hovertext": [_bar_hover(facts, bar.number, bar.attempt, bar.length, bar.started_at.isoformat())
                              for bar in bars],
                "hovertemplate": "%{hovertext}<extra>" + ending.value + "</extra>",
            })  # fmt: skip
    title = f"time since the first start ({unit})" + (", pauses cut out" if shown.cuts else "")
    layout = {
        "barmode": "overlay", "bargap": 0.25, "uniformtext": {"minsize": 9, "mode": "hide"}, "showlegend": True,
        "xaxis": {"title": {"text": title}},
        "yaxis": {"tickmode": "array", "tickvals": list(range(len(shown.lanes))), "showgrid": False, "zeroline": False,
                  "ticktext": [plain(lane) for lane in shown.lanes], "autorange": "reversed", "automargin": True},
        "shapes": [
            {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": cut.at / scale, "x1": cut.at / scale,
             "line": {"color": MUTED.css, "width": 1.5, "dash": "dot"}}
            for cut in shown.cuts
        ],
    }  # fmt: skip
    height = 170 + 34 * min(len(shown.lanes), 16)
    return Figure("timeline", caption, {"timeline": {"data": data, "layout": layout}}, height, min_width=560)


def _bar_hover(facts: Facts, trial: int, attempt: int, seconds: float, started: str) -> str:
    record = facts.by_number.get(trial)
    values = record.values if record is not None and record.values else ()
    parts = [f"{goal.metric} {number(value)}" for goal, value in zip(facts.goals, values, strict=False)]
    again = f", attempt {attempt}" if attempt > 1 else ""
    return plain(f"trial {trial}{again}: {duration(seconds)} from {clock(started)}") + "".join(
        f"<br>{plain(part)}" for part in parts
    )
