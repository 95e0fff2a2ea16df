"""How each parameter acts: every completed trial over one parameter, and what a forest expects over two.

A slice is the trials themselves, with nothing fitted. A map is the forest of ``forest.py``: its expectation for a
pair of values, averaged over the other parameters of the trials (partial dependence: Friedman 2001,
doi:10.1214/aos/1013203451). A map is drawn only for a goal that the forest can predict, and only near trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hpo import pareto
from hpo.reports.facts import Ending, Facts
from hpo.reports.figures import Figure, Json, plain, value_axis
from hpo.reports.forest import Evidence, is_number
from hpo.reports.fronts import log_ticks
from hpo.reports.importance import Importance
from hpo.reports.looks import ACCENT, LOOKS, MUTED, wants_log
from hpo.reports.thinning import MARKS, evenly, thinned
from hpo.reports.wording import axis, better, count, listed, number, shown, superlative
from hpo.trial import Params, TrialRecord

_SLICES = 6
_KINDS = 6  # whole numbers of so many kinds at most have a place each
_MAPPED = 3  # parameters whose pairs are mapped
_GRID, _AVERAGED = 20, 40
_FEW = 20  # completed trials below which a map would be islands
_NEAR = 0.15  # of an axis: as far as a map reaches from a trial


@dataclass(frozen=True)
class Scale:
    """A parameter as an axis: numbers, on a log scale where the space has one, or one place per kind."""

    name: str
    kinds: tuple[str, ...] | None
    log: bool
    decades: tuple[float, float] = (0.0, 0.0)  # of a log axis, from and to

    @classmethod
    def of(cls, facts: Facts, name: str) -> Scale:
        present = [trial.params[name] for trial in facts.placed if trial.params.get(name) is not None]
        few = len(set(present)) <= (_KINDS if all(isinstance(value, int) for value in present) else 2)
        if few or not all(is_number(value) for value in present):
            return cls(name, tuple(sorted({shown(value) for value in present}, key=_naturally)), False)
        entry = facts.setting("search_space", name)
        log = (isinstance(entry, dict) and bool(entry.get("log"))) or wants_log(present)
        if not log or min(present) <= 0:
            return cls(name, None, False)
        return cls(name, None, True, (math.log10(min(present)), math.log10(max(present))))

    def place(self, value: Any) -> float:
        """Where a value stands on the axis: its number, or the place of its kind."""
        return float(value) if self.kinds is None else float(self.kinds.index(shown(value)))

    def even(self, value: float) -> float:
        """The place as it looks: the logarithm on a log axis."""
        return math.log10(value) if self.log else value

    @property
    def layout(self) -> Json:
        title: Json = {"title": {"text": plain(self.name)}}
        if self.kinds is not None:
            texts = [plain(kind if len(kind) <= 14 else kind[:13] + "…") for kind in self.kinds]
            ends = [-0.5, len(self.kinds) - 0.5]
            return {**title, "tickvals": list(range(len(self.kinds))), "ticktext": texts, "range": ends}
        if self.log:
            ticks = [10**tick for tick in log_ticks(*self.decades)]
            return {**title, "type": "log", "tickvals": ticks, "ticktext": [number(tick) for tick in ticks]}
        return title


def _naturally(kind: str) -> tuple[float, str]:
    try:
        return float(kind), kind
    except ValueError:
        return math.inf, kind


def important(facts: Facts, found: Sequence[Importance]) -> list[str]:
    """The parameters that vary, the most important over all goals first."""
    varying = [n for n in facts.param_names if len({repr(t.params.get(n)) for t in facts.placed}) > 1]
    share = dict.fromkeys(varying, 0.0)
    for one in found:
        for name, value in zip(one.names, one.shares, strict=True):
            share[name] = share.get(name, 0.0) + value * max(0.0, one.explained)
    return sorted(varying, key=lambda name: -share[name])


def slices(facts: Facts, found: Sequence[Importance]) -> list[Figure]:
    """One figure per important parameter, one view per goal; the first has the caption of all."""
    if len(facts.placed) < 2:
        return [Figure("slice", "A slice needs at least two completed trials.")]
    names = important(facts, found)
    if not names:
        return [Figure("slice", "No parameter differs between the completed trials.")]
    caption = _slices_caption(facts, names)
    figures = []
    for nth, name in enumerate(names[:_SLICES]):
        views = {goal.metric: _slice(facts, Scale.of(facts, name), index) for index, goal in enumerate(facts.goals)}
        figures.append(Figure(f"slice-{nth}", "" if nth else caption, views, 300, title=name))
    return figures


def _slice(facts: Facts, scale: Scale, goal: int) -> Json:
    keep = {*facts.front.numbers, *([facts.recommended.number] if facts.recommended else [])}
    trials = [trial for trial in facts.placed if trial.params.get(scale.name) is not None]
    trials = thinned(trials, MARKS // 2, keep)
    values = [trial.values[goal] for trial in trials if trial.values is not None]
    marker = {
        "size": 6.5, "opacity": 0.8, "color": [trial.number for trial in trials],
        "colorscale": [[0, MUTED.css], [1, LOOKS[Ending.COMPLETE].css]],
    }  # fmt: skip
    data = [_points([_spread(scale, trial) for trial in trials], values, trials, scale, marker)]
    best = facts.recommended
    if best is not None and best.values is not None and best.params.get(scale.name) is not None:
        star = {"size": 14, "symbol": "star", "color": ACCENT.css}
        data.append(_points([_spread(scale, best)], [best.values[goal]], [best], scale, star))
    layout = {"xaxis": scale.layout, "yaxis": value_axis(axis(facts.goals[goal]), values), "showlegend": False}
    return {"data": data, "layout": layout}


def _points(x: Sequence[float], y: Sequence[float], trials: Sequence[TrialRecord], scale: Scale, marker: Json) -> Json:
    told = f"trial %{{customdata[0]}}<br>{plain(scale.name)} %{{customdata[1]}}<br>%{{y:.4g}}<extra></extra>"
    return {
        "type": "scatter", "mode": "markers", "x": x, "y": y, "marker": marker, "hovertemplate": told,
        "customdata": [[trial.number, plain(shown(trial.params[scale.name]))] for trial in trials],
    }  # fmt: skip


def _spread(scale: Scale, trial: TrialRecord) -> float:
    """The place of a trial; those of one kind stand side by side, or one would hide the others."""
    place = scale.place(trial.params[scale.name])
    return place if scale.kinds is None else place + ((trial.number * 0.618) % 1 - 0.5) * 0.5


def _slices_caption(facts: Facts, names: Sequence[str]) -> str:
    """Where the best tenth lies: for one goal over its parameters, for several over the first of them."""
    told = []
    for index, goal in enumerate(facts.goals):
        best = _best_tenth(facts, index)
        wanted = names[:3] if len(facts.goals) == 1 else names[:1]
        where = [text for name in wanted if (text := _where(facts, name, best))]
        if where:
            told.append(f"the {len(best)} trials of the {superlative(goal)} {goal.metric} have {listed(where)}")
    text = "Each point is a completed trial, later ones darker: what was measured, with nothing fitted"
    text += f". {told[0][0].upper()}{told[0][1:]}" if told else ""
    text += "".join(f"; {one}" for one in told[1:])
    drawn = (
        f" Of {len(facts.placed):,} trials {MARKS // 2:,} are drawn, the front among them."
        if len(facts.placed) > MARKS // 2
        else ""
    )
    most = f" The {_SLICES} parameters that mattered most of {len(names)}." if len(names) > _SLICES else ""
    return f"{text}.{most}{drawn}"


def _best_tenth(facts: Facts, goal: int) -> list[TrialRecord]:
    sign = float(pareto.signs(facts.goals)[goal])
    order = sorted(facts.placed, key=lambda trial: sign * (trial.values or ())[goal])
    return order[: max(min(3, len(order)), math.ceil(len(order) / 10))]


def _where(facts: Facts, name: str, best: Sequence[TrialRecord]) -> str:
    """``lr 0.001 to 0.004 (of 1e-05 to 0.1 tried)``."""
    present = [trial.params[name] for trial in best if trial.params.get(name) is not None]
    tried = [trial.params[name] for trial in facts.placed if trial.params.get(name) is not None]
    if not present:
        return ""
    if Scale.of(facts, name).kinds is None:
        low, high = shown(min(present)), shown(max(present))
        span = low if low == high else f"{low} to {high}"
        return f"{name} {span} (of {shown(min(tried))} to {shown(max(tried))} tried)"
    kinds = [shown(value) for value in present]
    most = max(dict.fromkeys(kinds), key=kinds.count)
    share = "always" if kinds.count(most) == len(best) else f"in {kinds.count(most)} of {len(best)}"
    return f"{name} {most} ({share})"


def maps(facts: Facts, evidence: Evidence | None, found: Sequence[Importance]) -> list[Figure]:
    """A map of each pair of the most important parameters, one view per goal that can be predicted."""
    telling = [one for one in found if one.is_telling]
    if evidence is None or not found:
        return []
    if not telling:
        return [
            Figure("map", "No goal can be predicted from these trials, so no map of two parameters would be honest.")
        ]
    if len(facts.placed) < _FEW:
        few = count(len(facts.placed), "completed trial")
        return [Figure("map", f"Too early for maps of two parameters: {few}, and a map needs at least {_FEW}.")]
    names = [name for name in important(facts, telling) if name in evidence.names][:_MAPPED]
    pairs = list(combinations(names, 2))
    if not pairs:
        return []
    forests = {one.goal: evidence.forest(facts.goals.index(one.goal)) for one in telling}
    figures: list[Figure] = []
    spots: dict[str, str] = {}
    for nth, (x, y) in enumerate(pairs):
        views = {}
        for one in telling:
            goal = facts.goals.index(one.goal)
            surface = _surface(facts, evidence, forests[one.goal], goal, x, y)
            if surface is not None:
                views[one.goal.metric] = _map(facts, surface, goal)
                spots.setdefault(one.goal.metric, surface.best)
        if views:
            figures.append(Figure(f"map-{nth}", "", views, 340, title=f"{x} × {y}"))
    if not figures:
        return []
    first = figures[0]
    caption = _maps_caption(facts, telling, spots)
    return [Figure(first.name, caption, first.views, first.height, title=first.title), *figures[1:]]


@dataclass(frozen=True)
class _Surface:
    """What the forest expects on a grid: ``places`` (n_y, n_x), 0 the best and 1 the worst, NaN far from any trial."""

    x: Scale
    y: Scale
    at_x: list[float]
    at_y: list[float]
    places: np.ndarray
    values: np.ndarray  # the same in the goal's units
    trials: list[TrialRecord]

    @property
    def best(self) -> str:
        """Where it expects most: ``lr near 0.002 and width near 300``."""
        row, column = np.unravel_index(np.nanargmin(self.places), self.places.shape)
        told = []
        for scale, value in ((self.x, self.at_x[int(column)]), (self.y, self.at_y[int(row)])):
            where = (
                f"{scale.name} near {number(value)}"
                if scale.kinds is None
                else f"{scale.name} {scale.kinds[int(value)]}"
            )
            told.append(where)
        return listed(told)


def _surface(facts: Facts, evidence: Evidence, forest: Any, goal: int, x: str, y: str) -> _Surface | None:
    """None where fewer than three trials have both parameters."""
    both = [t for t in evidence.trials if t.params.get(x) is not None and t.params.get(y) is not None]
    if len(both) < 3:
        return None
    scales = Scale.of(facts, x), Scale.of(facts, y)
    grids = [_grid(scale, [trial.params[scale.name] for trial in both]) for scale in scales]
    points: list[Params] = [
        {**trial.params, x: a, y: b} for b in grids[1] for a in grids[0] for trial in evenly(both, _AVERAGED)
    ]
    shape = (len(grids[1]), len(grids[0]), -1)
    ranks = forest.predict(evidence.encoding.table(points)).reshape(shape).mean(axis=2)
    level = np.unique(evidence.values(goal))
    values = np.interp(ranks, np.arange(len(level)), level)
    share = ranks / max(1, len(level) - 1)
    places = share if better(facts.goals[goal]) == "lower" else 1 - share
    at_x, at_y = ([scale.place(value) for value in grid] for scale, grid in zip(scales, grids, strict=True))
    places = np.where(_near(scales, (at_x, at_y), both), places, np.nan)
    return _Surface(*scales, at_x, at_y, places, values, both)


def _grid(scale: Scale, present: Sequence[Any]) -> list[Any]:
    if scale.kinds is not None:
        by_kind = {shown(value): value for value in present}
        return [by_kind[kind] for kind in scale.kinds if kind in by_kind]
    low, high = min(present), max(present)
    if scale.log:
        return [float(value) for value in np.geomspace(low, high, _GRID)]
    return [float(value) for value in np.linspace(low, high, _GRID)]


def _near(scales: Sequence[Scale], at: Sequence[Sequence[float]], trials: Sequence[TrialRecord]) -> np.ndarray:
    """(n_y, n_x): whether some trial is within ``_NEAR`` of the axes' lengths; of a kind, within the same kind."""
    far = np.zeros((len(at[1]), len(at[0]), len(trials)))
    for axis_, (scale, places) in enumerate(zip(scales, at, strict=True)):
        spots = np.array([scale.even(place) for place in places])
        own = np.array([scale.even(scale.place(trial.params[scale.name])) for trial in trials])
        length = np.ptp(own) if scale.kinds is None and np.ptp(own) > 0 else _NEAR / 2
        gap = np.abs(spots[:, None] - own[None]) / length
        far += (gap**2)[None] if axis_ == 0 else (gap**2)[:, None]
    return np.asarray(far.min(axis=2) <= _NEAR**2)


def _map(facts: Facts, surface: _Surface, goal: int) -> Json:
    name = facts.goals[goal].metric
    numeric = surface.x.kinds is None and surface.y.kinds is None
    told = [[number(float(value)) for value in row] for row in surface.values]
    ground: Json = {
        "x": surface.at_x, "y": surface.at_y, "z": surface.places.tolist(), "text": told,
        "zmin": 0, "zmax": 1, "hovertemplate": f"{plain(name)} about %{{text}}<extra>expected</extra>",
        "colorscale": [[0, LOOKS[Ending.COMPLETE].css], [0.5, "var(--faint)"], [1, "var(--surface)"]],
        "colorbar": {"thickness": 8, "outlinewidth": 0, "tickvals": [0, 1], "ticktext": ["best", "worst"], "len": 0.9},
    }  # fmt: skip
    if numeric:
        ground |= {"type": "contour", "contours": {"start": 0, "end": 1, "size": 0.1}, "line": {"width": 0.5}}
    else:
        ground |= {"type": "heatmap", "xgap": 1, "ygap": 1}
    drawn = thinned(surface.trials, 400, set(facts.front.numbers))
    members = set(facts.front.numbers)
    data = [ground]
    for some, marker in (
        ([t for t in drawn if t.number not in members], {"size": 4, "color": MUTED.css, "opacity": 0.6}),
        ([t for t in drawn if t.number in members], {"size": 7, "color": ACCENT.css, "symbol": "diamond"}),
    ):
        if some:
            x, y = ([_spread(scale, trial) for trial in some] for scale in (surface.x, surface.y))
            data.append({
                "type": "scatter", "mode": "markers", "x": x, "y": y, "marker": marker,
                "customdata": [trial.number for trial in some], "hovertemplate": "trial %{customdata}<extra></extra>",
            })  # fmt: skip
    layout = {"xaxis": surface.x.layout, "yaxis": surface.y.layout, "showlegend": False}
    return {"data": data, "layout": layout}


def _maps_caption(facts: Facts, telling: Sequence[Importance], spots: dict[str, str]) -> str:
    told = [f"the best {one.goal.metric} at {spots[one.goal.metric]}" for one in telling if one.goal.metric in spots]
    mute = [goal.metric for goal in facts.goals if goal not in {one.goal for one in telling}]
    text = (
        "What the forest of “What mattered” expects of two parameters, averaged over the others as the trials have them"
    )
    text += f": {listed(told)}. Dark is good; blank is where no trial came near. "
    text += (
        f"It is a model: of how trials it had not seen rank it explains {listed([_explained(one) for one in telling])}."
    )
    text += f" {listed(mute)} cannot be predicted and {'has' if len(mute) == 1 else 'have'} no map." if mute else ""
    what = "the front" if len(facts.goals) > 1 else "the best"
    return text + f" Diamonds are {what}, dots {count(len(facts.placed) - len(facts.front), 'other completed trial')}."


def _explained(one: Importance) -> str:
    return f"{one.explained:.0%}".replace("%", " %") + f" ({one.goal.metric})"
