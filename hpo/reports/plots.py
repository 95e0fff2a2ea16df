"""The same pictures as PNG, for slides and READMEs: drawn by matplotlib on a white ground.

Uses ``Figure`` objects without pyplot, which keeps global state and would leak figures.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.reports.facts import Ending, Facts, last_vector
from hpo.reports.figures import drawn_curves
from hpo.reports.fronts import edge_shape
from hpo.reports.importance import Importance
from hpo.reports.looks import ACCENT, INFEASIBLE, LOOKS, MUTED, SERIES, Look, clipped, wants_log
from hpo.reports.timeline import Timeline, joined
from hpo.reports.wording import axis, with_unit
from hpo.trial import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.family": "sans-serif", "font.sans-serif": ["Inter", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 10.5, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9aa2ad",
    "axes.labelcolor": "#3a4350", "xtick.color": "#5b6572", "ytick.color": "#5b6572", "axes.grid": True,
    "grid.color": "#e4e7ec", "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False,
    "axes.titlelocation": "left", "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlepad": 10,
    "text.parse_math": False,  # a study called a$b$c must not be typeset
}  # fmt: skip

FILES = ("history.png", "curves.png", "front.png", "importance.png", "timeline.png")


def plots(facts: Facts, found: list[Importance], shown: Timeline) -> dict[str, bytes]:
    """The PNG files that have something to show, by file name; drawn at 160 dots per inch."""
    import matplotlib as mpl

    study = facts.snapshot.study.name
    drawers: dict[str, Callable[[], Figure | None]] = {
        "history.png": lambda: _history(facts),
        "curves.png": lambda: _curves(facts),
        "front.png": lambda: _front(facts),
        "importance.png": lambda: _importance(found),
        "timeline.png": lambda: _timeline(study, shown),
    }
    drawn = {}
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A name in a script that no font here has is drawn as boxes; the page shows it well.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        for name, draw in drawers.items():
            figure = draw()
            if figure is not None:
                drawn[name] = png(figure, study)
    return drawn


def png(figure: Figure, title: str) -> bytes:
    """A figure as PNG; without date and version inside, so that the same study gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Title": title, "Software": None})
    return buffer.getvalue()


def _canvas(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def _scale(ax: Axes, which: str, values: Sequence[float]) -> None:
    if wants_log(values):
        log_scale(ax, which)
    elif ends := clipped(values):
        (ax.set_xlim if which == "x" else ax.set_ylim)(*ends)


def log_scale(ax: Axes, which: str) -> None:
    """A log axis with plain numbers, since powers of ten would be typeset, which STYLE forbids."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if low > 0 else 3
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades >= 2 else (1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def shortened(text: str, most: int = 28) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _below(figure: Figure, ax: Axes) -> None:
    """One legend under all axes, where it can cover no data."""
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        # An entry takes about 5 characters more than its label; a legend wider than the figure would be cut off.
        fits = int(figure.get_figwidth() * 11 / (max(map(len, labels)) + 5))
        figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(fits, len(labels))), fontsize=9.5)


def _history(facts: Facts) -> Figure | None:
    if not facts.placed:
        return None
    several = len(facts.goals) > 1
    n = len(facts.goals) + several
    figure, axes = _canvas(n, 1, 8, 1.2 + (3.4 if n == 1 else 2.3 * n))
    if several:
        volume = facts.hypervolume
        axes[0].step(volume.numbers, volume.best, where="post", color=ACCENT.colour, lw=2.2)
        axes[0].set_ylabel("hypervolume,\nhigher is better")
        axes[0].set_title(shortened(f"{facts.snapshot.study.name}: hypervolume and values by trial", 70))
    else:
        axes[0].set_title(shortened(f"{facts.snapshot.study.name}: values by trial", 70))
    for index, ax in enumerate(axes[several:]):
        past = facts.history(index)
        for ending in (Ending.COMPLETE, Ending.EARLY, Ending.TIME_LIMIT):
            pairs = [(a, b) for a, b in zip(past.numbers, past.values, strict=True) if facts.endings[a] is ending]
            if pairs:
                _dots(ax, [p[0] for p in pairs], [p[1] for p in pairs], LOOKS[ending], ending.value, 26, 0.8)
        ax.step(past.numbers, past.best, where="post", color=ACCENT.colour, lw=2.2, label="best so far")
        _scale(ax, "y", past.values)
        ax.set_ylabel(axis(facts.goals[index]).replace(", ", ",\n") if several else axis(facts.goals[index]))
    for ax in axes:
        ax.locator_params(axis="x", integer=True)
    axes[-1].set_xlabel("trial number")
    _below(figure, axes[-1])
    return figure


def _dots(ax: Axes, x: Sequence[float], y: Sequence[float], look: Look, label: str, size: float, alpha: float) -> None:
    hollow = look.symbol.endswith("-open")
    face: dict[str, Any] = {"facecolors": "none", "edgecolors": look.colour} if hollow else {"color": look.colour}
    width = 1.4 if hollow or look.marker == "x" else 0
    ax.scatter(x, y, s=size, marker=look.marker, alpha=alpha, label=label, linewidths=width, zorder=3, **face)


def _curves(facts: Facts) -> Figure | None:
    metric = facts.snapshot.study.monitor.metric
    values = facts.finite_values(metric)
    if not values:
        return None
    figure, (ax,) = _canvas(1, 1, 8, 5)
    alpha = 0.7 if len(facts.trials) <= 40 else 0.35 if len(facts.trials) <= 200 else 0.15
    for ending in (Ending.PRUNED, Ending.FAILED, Ending.RUNNING, Ending.QUEUED, Ending.COMPLETE, Ending.TIME_LIMIT,
                   Ending.EARLY):  # fmt: skip
        curves = [c for t in drawn_curves(facts, ending) if len((c := _curve(t, metric))[0])]
        for x, y in curves:
            marker = "o" if len(x) == 1 else ""
            ax.plot(x, y, color=LOOKS[ending].colour, lw=1.1, alpha=alpha, marker=marker, ms=3)
        if curves and ending is Ending.COMPLETE:
            ax.plot([], [], color=LOOKS[ending].colour, lw=1.4, label=f"complete ({len(curves)})")
        elif curves:
            label = f"{ending.value} ({len(curves)})"
            _dots(ax, [c[0][-1] for c in curves], [c[1][-1] for c in curves], LOOKS[ending], label, 26, 0.9)
    best = facts.recommended
    if best is not None and best.points:
        ax.plot(*_curve(best, metric), color=ACCENT.colour, lw=2.4, label=f"trial {best.number}, recommended")
    _scale(ax, "y", values)
    ax.set_title(shortened(f"{facts.snapshot.study.name}: learning curves", 70))
    ax.set_xlabel("epoch")
    ax.locator_params(axis="x", integer=True)
    ax.set_ylabel(with_unit(metric))
    _below(figure, ax)
    return figure


def _curve(trial: TrialRecord, metric: str) -> tuple[list[int], list[float]]:
    points = [point for point in trial.points if metric in point.metrics]
    return [point.step for point in points], [point.metrics[metric] for point in points]


def _front(facts: Facts) -> Figure | None:
    if len(facts.goals) < 2 or not facts.placed:
        return None
    pairs = list(combinations(range(len(facts.goals)), 2))[:6]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = _canvas(rows, columns, 7.5 if columns == 1 else 4.6 * columns, 5.4 if columns == 1 else 4.4 * rows)
    for ax, (x, y) in zip(axes, pairs, strict=False):
        _plane(facts, ax, x, y)
    title = shortened(f"{facts.snapshot.study.name}: the front", 70)
    figure.suptitle(title, fontweight="bold", x=0.02, ha="left", size=12)
    # Which kinds of trial there are is the same in every plane.
    _below(figure, axes[0])
    return figure


def _plane(facts: Facts, ax: Axes, x: int, y: int) -> None:
    members = set(facts.front.numbers)
    stopped = [v for t in facts.ended(Ending.PRUNED) if (v := last_vector(t, facts.goals))]
    others = [t.values for t in facts.placed if t.values is not None and t.number not in members]
    broke = [t.values for t in facts.infeasible if t.values is not None]
    front = [tuple(float(v) for v in row) for row in facts.front.values]
    if len(facts.goals) == 2:
        line = sorted((v[x], v[y]) for v in front)
        ax.step([p[0] for p in line], [p[1] for p in line], color=LOOKS[Ending.COMPLETE].colour, lw=1.8,
                where="post" if edge_shape(facts.goals[x].direction) == "hv" else "pre")  # fmt: skip
    for vectors, look, label, size, alpha in (
        (stopped, LOOKS[Ending.PRUNED], "pruned, where it stopped", 20, 0.35),
        (broke, INFEASIBLE, "not feasible", 26, 0.5),
        (others, MUTED, "dominated", 26, 0.5),
        (front, LOOKS[Ending.COMPLETE], "front", 46, 1.0),
    ):
        if vectors:
            _dots(ax, [v[x] for v in vectors], [v[y] for v in vectors], look, label, size, alpha)
    best = facts.recommended
    if best is not None and best.values is not None:
        label = f"trial {best.number}, recommended"
        ax.scatter([best.values[x]], [best.values[y]], s=240, marker="*", color=ACCENT.colour, edgecolors="white",
                   linewidths=1, zorder=4, label=label)  # fmt: skip
    shown = (*stopped, *broke, *others, *front)
    _scale(ax, "x", [v[x] for v in shown])
    _scale(ax, "y", [v[y] for v in shown])
    if ax.get_xscale() == "linear":
        ax.locator_params(axis="x", nbins=4)  # small panels: more ticks run into each other
    ax.set_xlabel(axis(facts.goals[x]))
    ax.set_ylabel(axis(facts.goals[y]))


def _importance(found: list[Importance]) -> Figure | None:
    if not found:
        return None
    most = 15
    height = 1.5 + 0.34 * min(most, max(len(i.names) for i in found))
    figure, axes = _canvas(1, len(found), max(6.5, 4.4 * len(found)), height)
    for ax, one, look in zip(axes, found, SERIES * len(found), strict=False):
        names = [shortened(name) for name in one.names[:most]]
        shares = [share * 100 for share in one.shares[:most]]
        bars = ax.barh(range(len(names)), shares, color=look.colour, alpha=1.0 if one.is_telling else 0.3, height=0.68)
        ax.bar_label(bars, fmt="%.0f %%", padding=3, color="#5b6572", fontsize=10)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.set_xlim(0, max([*shares, 1]) * 1.15)
        ax.set_xlabel("share of the importance (%)")
        below = f"held-out R² {one.explained:.2f}, {one.n_trials} trials"
        ax.set_title(f"{shortened(one.goal.metric)}\n{below}", fontsize=10.5)
    return figure


def _timeline(study: str, shown: Timeline) -> Figure | None:
    if not shown.bars:
        return None
    scale, unit = shown.scale
    lanes, drawn = len(shown.lanes), joined(shown)
    figure, (ax,) = _canvas(1, 1, 9, 2.1 + 0.42 * min(lanes, 24))
    for ending in Ending:
        bars = [bar for bar in drawn if bar.ending is ending]
        if bars:
            ax.barh([b.lane for b in bars], [b.length / scale for b in bars], left=[b.start / scale for b in bars],
                    color=LOOKS[ending].colour, edgecolor="white", linewidth=0.7 if len(drawn) < 200 else 0.1,
                    height=0.74, label=ending.value)  # fmt: skip
    ax.set_title(shortened(f"{study}: who worked when", 70))
    for bar in drawn:
        if bar.joins == 1 and bar.length > shown.length / 45:  # else the number is wider than its bar
            middle = (bar.start + bar.length / 2) / scale
            ax.text(middle, bar.lane, str(bar.number), ha="center", va="center", color="white", fontsize=8)
    for cut in shown.cuts:
        ax.axvline(cut.at / scale, color=MUTED.colour, ls=":", lw=1.4)
    ax.set_yticks(range(lanes), [shortened(lane) for lane in shown.lanes])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(0, shown.length / scale or 1)
    ax.set_xlabel(f"time since the first start ({unit})" + (", pauses cut out" if shown.cuts else ""))
    _below(figure, ax)
    return figure
