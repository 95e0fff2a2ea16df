"""A figure of the page on its own, as a plotly figure: what a notebook shows.

The page fills in colours and fonts in the browser (``templates/report.js``); here they are filled in once, from
the same style sheet, for a white ground.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import UnknownName
from hpo.reports.figures import Figure, Json, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

_STYLES = Path(__file__).parent / "templates" / "report.css"
_LINE = 110  # characters of a caption's line
_LINE_PX = 19


def standalone(drawn: Sequence[Figure], view: str | None = None) -> PlotlyFigure:
    """One view of what stands in one place of the page, with its caption above it.

    Without a view to show, the figure is empty but for its caption, which says why.

    Args:
        drawn: the figures of the place.
        view: one of their views, such as ``val_loss against epochs``, or its first words, which lead to the first
            of those that begin with them; by default the first of all.

    Raises:
        UnknownName: there is no such view.
    """
    import plotly.graph_objects as go

    views = {_name(figure, name): (figure, shown) for figure in drawn for name, shown in figure.views.items()}
    caption = next((figure.caption for figure in drawn if figure.caption), "")
    if not views:
        return go.Figure(layout=_empty(caption))
    found = next((name for name in views if view is None or name == view), None)
    found = found or next((name for name in views if name.startswith(f"{view} ")), None)
    if found is None:
        raise UnknownName("view", view, views)
    figure, shown = views[found]
    ready = _coloured(shown)
    return go.Figure(ready["data"], _dressed(ready["layout"], caption, figure.height))


def _name(figure: Figure, view: str) -> str:
    """What a view is asked for by: its figure's title comes before it where there is one, or alone."""
    if not figure.title:
        return view
    return figure.title if len(figure.views) == 1 else f"{figure.title}, {view}"


def _dressed(layout: Json, caption: str, height: int) -> Json:
    """The layout with what the page gives to every figure."""
    lines = [plain(line) for line in textwrap.wrap(caption, _LINE)]
    head = 16 + _LINE_PX * len(lines)
    text, muted, grid = _colour("text"), _colour("muted"), _colour("grid")
    margin = {"t": 20, "r": 20, "b": 52, "l": 64, **layout.get("margin", {})}
    axis = {"gridcolor": grid, "linecolor": grid, "zeroline": False, "automargin": True, "ticks": ""}
    made: Json = {
        "paper_bgcolor": _colour("surface"), "plot_bgcolor": _colour("surface"), "font": {"size": 13, "color": text},
        "hoverlabel": {"bgcolor": _colour("surface"), "bordercolor": muted, "align": "left"},
        **layout,
        "height": height + head, "margin": {**margin, "t": margin["t"] + head + 30},
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", **layout.get("legend", {})},
        "title": {
            "text": "<br>".join(lines), "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top",
            "pad": {"t": 14, "l": 14}, "font": {"size": 13},
        },
    }  # fmt: skip
    if "scene" in layout:
        look = {"gridcolor": _colour("faint"), "color": text, "showbackground": False, "zeroline": False}
        axes = {f"{letter}axis": {**look, **layout["scene"].get(f"{letter}axis", {})} for letter in "xyz"}
        return {**made, "scene": {**layout["scene"], **axes}}
    return {**made, **{name: {**axis, **layout.get(name, {})} for name in ("xaxis", "yaxis")}}


def _empty(caption: str) -> Json:
    """Nothing but a sentence."""
    said = {"text": "<br>".join(plain(line) for line in textwrap.wrap(caption, 80)), "showarrow": False}
    none = {"visible": False}
    return {
        "height": 200, "paper_bgcolor": _colour("surface"), "plot_bgcolor": _colour("surface"), "xaxis": none,
        "yaxis": none, "annotations": [{**said, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}],
        "font": {"size": 14, "color": _colour("text")},
    }  # fmt: skip


def _coloured(value: Any) -> Any:
    """The same with every ``var(--name)`` as the colour of that name."""
    if isinstance(value, str):
        return _colour(value[6:-1]) if value.startswith("var(--") else value
    if isinstance(value, dict):
        return {key: _coloured(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_coloured(inner) for inner in value]
    return value


def _colour(name: str) -> str:
    return _palette()[name]


@functools.cache
def _palette() -> dict[str, str]:
    """The light colours of the page, by name: they stand before the dark ones."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"--([\w-]+):\s*([^;]+);", _STYLES.read_text(encoding="utf-8")):
        found.setdefault(name, value)
    return found
