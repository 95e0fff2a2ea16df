"""The curves of a comparison as PNG: a file per kind of spending, a panel per measure."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from hpo.reports.comparison.figures import DASHES, longest, look, scaled, value_title
from hpo.reports.comparison.sides import SideBySide
from hpo.reports.comparison.words import title
from hpo.reports.looks import MUTED, wants_log
from hpo.reports.plots import STYLE, log_scale, png, shortened
from hpo.reports.spending import Curve, Unit
from hpo.trial import Goal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILES = {unit: f"against-{unit}.png" for unit in Unit}
_STYLES = dict(zip(DASHES, ("-", "--", ":", "-."), strict=True))


def plots(side: SideBySide) -> dict[str, bytes]:
    """The PNG files that have something to show, by file name."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = {}
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        for unit in side.units if side.able else ():
            height = 1.2 + (3.6 if len(side.measures) == 1 else 2.5 * len(side.measures))
            figure = Figure(figsize=(8, height), layout="constrained", facecolor="white")
            axes = figure.subplots(len(side.measures), 1, squeeze=False)[:, 0]
            for ax, measure in zip(axes, side.measures, strict=True):
                _panel(side, ax, measure, unit)
            axes[0].set_title(shortened(f"{title(side)}: the best by {unit.spelled} spent", 70))
            axes[-1].set_xlabel(scaled(unit, longest(side, unit))[1])
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels))), fontsize=9.5)
            drawn[FILES[unit]] = png(figure, title(side))
    return drawn


def _panel(side: SideBySide, ax: Axes, measure: Goal, unit: Unit) -> None:
    scale, _ = scaled(unit, longest(side, unit))
    values: list[float] = []
    for place, group in enumerate(side.groups):
        colour, dash = look(place)
        for entrant in group.entrants:
            curve = side.curve(entrant, measure, unit)
            if curve is not None:
                values += curve.values
                if len(group.entrants) > 1:
                    ax.step(*_points(curve, scale), where="post", color=colour.colour, lw=0.8, alpha=0.35)
        middle = side.middle(group, measure, unit)
        if middle is not None:
            ax.step(*_points(middle, scale), where="post", color=colour.colour, ls=_STYLES[dash], lw=2.2,
                    label=shortened(group.label, 40))  # fmt: skip
    budget = side.budget(unit)
    if budget is not None:
        ax.axvline(budget / scale, color=MUTED.colour, ls=":", lw=1.4)
    if wants_log(values):
        log_scale(ax, "y")
    ax.set_ylabel(value_title(measure).replace(", ", ",\n"))


def _points(curve: Curve, scale: float) -> tuple[list[float], list[float]]:
    return [at / scale for at in (*curve.at, curve.end)], [*curve.values, curve.values[-1]]
