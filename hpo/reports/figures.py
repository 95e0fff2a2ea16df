"""The page's figures as plotly JSON: history, learning curves, importance, timeline.

Plain dictionaries instead of ``plotly.graph_objects``: the import and its validation cost
more than everything else on the page (the tests validate them once instead). Colours are
CSS variables that ``templates/report.js`` fills in. Nothing here holds NaN in the end:
``page`` writes them as null.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo.reports import captions
from hpo.reports.facts import Ending, Facts
from hpo.reports.importance import Importance
from hpo.reports.looks import ACCENT, LOOKS, MUTED, SERIES, clipped, wants_log
from hpo.reports.progress import Progress
from hpo.reports.thinning import CURVES, MARKS, evenly, thinned
from hpo.reports.timeline import Bar, Timeline, joined, time_scale
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
    switches: tuple[tuple[str, ...], ...] = ()  # where a view is several choices: ``views`` are their product, in order


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
    """The hypervolume (of several goals) and each goal, against trials, epochs and time."""
    if not facts.placed:
        return Figure("history", captions.history(facts))
    progress = Progress.of(facts)
    shown = [goal.metric for goal in facts.goals]
    shown = ["hypervolume", *shown] if len(facts.goals) > 1 else shown
    against: dict[str, tuple[Sequence[float], Json]] = {
        "trials": (tuple(range(1, len(progress.numbers) + 1)), count_axis("completed trials", len(progress.numbers)))
    }
    if progress.epochs and any(trial.last_step > 1 for trial in facts.trials):
        against["epochs"] = (progress.epochs, {"title": {"text": "epochs of all trials that had ended"}})
    if progress.seconds:
        scale, unit = time_scale(progress.seconds[-1])
        title = {"title": {"text": f"wall-clock time ({unit}), without the time between launches"}}
        against["time"] = (tuple(second / scale for second in progress.seconds), title)
    views = {
        f"{what} against {along}": _volume_view(progress, x, title)
        if what == "hypervolume" and len(facts.goals) > 1
        else _history_view(facts, progress, [goal.metric for goal in facts.goals].index(what), x, title)
        for what in shown
        for along, (x, title) in against.items()
    }
    return Figure("history", captions.history(facts), views, switches=(tuple(shown), tuple(against)))


def _volume_view(progress: Progress, x: Sequence[float], title: Json) -> Json:
    turns = _turns(progress.volume)
    line = _steps("hypervolume", [x[row] for row in turns], [progress.volume[row] for row in turns])
    line |= {
        "text": [f"after trial {progress.numbers[row]}" for row in turns],
        "hovertemplate": "%{text}: %{y:.4g}<extra></extra>",
    }
    return {"data": [line], "layout": {"xaxis": title, "yaxis": {"title": {"text": "hypervolume, higher is better"}}}}


def _steps(name: str, x: Sequence[float], y: Sequence[float]) -> Json:
    look = {"shape": "hv", "color": ACCENT.css, "width": 2.5}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": look}


def _turns(values: Sequence[float]) -> list[int]:
    """The places of a step function that draw it: where it moves, and its end."""
    last = len(values) - 1
    return [i for i in range(len(values)) if i in (0, last) or values[i] != values[i - 1]]


def _history_view(facts: Facts, progress: Progress, index: int, x: Sequence[float], title: Json) -> Json:
    values, best = progress.values[:, index].tolist(), progress.best(index)
    turns = _turns(best)
    drawn = {*evenly(range(len(values)), MARKS), *turns}
    data = []
    for ending in (Ending.COMPLETE, Ending.EARLY, Ending.TIME_LIMIT):
        rows = [row for row in sorted(drawn) if facts.endings[progress.numbers[row]] is ending]
        if rows:
            data.append({
                "type": "scatter", "mode": "markers", "name": ending.value,
                "x": [x[row] for row in rows], "y": [values[row] for row in rows],
                "customdata": [progress.numbers[row] for row in rows],
                "marker": {"color": LOOKS[ending].css, "symbol": LOOKS[ending].symbol, "size": 7, "opacity": 0.8},
                "hovertemplate": "trial %{customdata}: %{y:.4g}<extra></extra>",
            })  # fmt: skip
    line = _steps("best so far", [x[row] for row in turns], [best[row] for row in turns])
    data.append({**line, "hoverinfo": "skip"})
    return {"data": data, "layout": {"xaxis": title, "yaxis": value_axis(axis(facts.goals[index]), values)}}


def curves(facts: Facts) -> Figure:
    """Learning curves per metric, as many metrics as the page can carry, the monitored one first."""
    views: dict[str, Json] = {}
    drawn = {ending: drawn_curves(facts, ending) for ending in Ending}
    left = _MOST_NUMBERS
    for metric in facts.epoch_metrics:
        left -= sum(len(trial.points) for trials in drawn.values() for trial in trials)
        if left < 0 and views:
            break
        if facts.finite_values(metric):
            views[metric] = _curves_view(facts, drawn, metric)
    return Figure("curves", captions.curves(facts), views, height=460)


def drawn_curves(facts: Facts, ending: Ending) -> list[TrialRecord]:
    """The trials of one ending whose curves are drawn: those of the front, and as many others as a picture holds."""
    keep = {*facts.front.numbers} if len(facts.front) < CURVES else set()
    return thinned([trial for trial in facts.ended(ending) if trial.points], CURVES, keep)


def _curves_view(facts: Facts, drawn: Mapping[Ending, Sequence[TrialRecord]], metric: str) -> Json:
    data: list[Json] = []
    n = sum(map(len, drawn.values()))
    opacity = 0.75 if n <= 20 else 0.5 if n <= 100 else 0.22
    # Pruned and failed ones first, so that they lie under the others.
    for ending in (Ending.PRUNED, Ending.FAILED, Ending.RUNNING, Ending.QUEUED, Ending.COMPLETE, Ending.TIME_LIMIT,
                   Ending.EARLY):  # fmt: skip
        trials = [t for t in drawn[ending] if any(metric in p.metrics for p in t.points)]
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
    shown = [name for name in total if total[name] >= 0.005] or list(total)
    names = sorted(shown, key=lambda name: total[name])[-_TOP:]  # plotly draws from the bottom up
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
    caption = captions.timeline(facts, shown)
    if not shown.bars:
        return Figure("timeline", caption)
    scale, unit = shown.scale
    drawn = joined(shown)
    edge = 1 if len(drawn) <= 400 else 0  # px between bars; of very many it would be all there is
    data = []
    for ending in Ending:
        bars = [bar for bar in drawn if bar.ending is ending]
        if bars:
            data.append({
                "type": "bar", "orientation": "h", "name": ending.value,
                "y": [bar.lane for bar in bars], "x": [bar.length / scale for bar in bars],
                "base": [bar.start / scale for bar in bars],
                "marker": {"color": LOOKS[ending].css, "line": {"color": "var(--surface)", "width": edge}},
                "text": [str(bar.number) for bar in bars] if len(shown.bars) <= 80 else None,
                "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
                "textfont": {"color": "var(--surface)", "size": 11},
                "hovertext": [_bar_hover(facts, bar) for bar in bars],
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


def _bar_hover(facts: Facts, bar: Bar) -> str:
    if bar.joins > 1:
        return f"{bar.joins} stretches of work, mostly {bar.ending.value}, from trial {bar.number} on"
    record = facts.by_number.get(bar.number)
    values = record.values if record is not None and record.values else ()
    parts = [f"{goal.metric} {number(value)}" for goal, value in zip(facts.goals, values, strict=False)]
    parts += [record.reason.message.splitlines()[0][:100]] if record and record.reason and record.reason.message else []
    again = f", attempt {bar.attempt}" if bar.attempt > 1 else ""
    return plain(
        f"trial {bar.number}{again}: {duration(bar.length)} from {clock(bar.started_at.isoformat())}"
    ) + "".join(f"<br>{plain(part)}" for part in parts)
