"""Studies side by side as one HTML page that needs nothing else, and as PNG plots beside it: the report's sibling."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpo.errors import UserError
from hpo.reports.comparison import figures, tables, words
from hpo.reports.comparison.plots import FILES, plots
from hpo.reports.comparison.sides import SideBySide
from hpo.reports.comparison.tables import Row
from hpo.reports.html import script_json, templates, write_files
from hpo.reports.wording import number, shown


def write_page(side: SideBySide, out: Path) -> list[Path]:
    """Write ``index.html`` and the plots that have something to show into ``out``.

    Each file appears whole or not at all; a plot of an earlier comparison there that this one lacks is removed.

    Returns:
        The paths written, ``index.html`` first.

    Raises:
        UserError: ``out`` cannot be a folder, or cannot be written to.
    """
    pictures = plots(side)
    files = {"index.html": render(side, list(pictures)).encode(), **pictures}
    try:
        paths = write_files(out, files)
        for name in FILES.values():
            if name not in files:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the comparison into {out}: {error.strerror}.") from error
    return paths


def render(side: SideBySide, pictures: list[str]) -> str:
    """The page's HTML."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = templates()
    environment.filters["linked"] = lambda text: text  # a report links the trials it names; here are none to lead to
    drawn = [figures.curves(side), figures.finals(side)]
    return environment.get_template("comparison.html.j2").render(
        curves=drawn[0],
        finals=drawn[1],
        pictures=pictures,
        figures_json=Markup(script_json({figure.name: list(figure.views.values()) for figure in drawn})),
        plotly_js=Markup(get_plotlyjs()),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **_content(side),
    )


def _content(side: SideBySide) -> dict[str, Any]:
    """Everything the template says, figures apart."""
    return {
        "title": words.title(side),
        "objectives": ", ".join(sorted({entrant.data[0] for entrant in side.entrants})),
        "goals": side.goals,
        "aim": words.aim(side),
        "warnings": words.warnings(side),
        "outcomes": words.outcomes(side),
        "cards": tables.cards(side),
        "speeds_told": [words.speed_sentence(s) for s in side.speed(side.unit) if s.measure == side.measures[0]],
        "notes": words.notes(side),
        "rematch": words.rematch_sentence(side),
        "first": side.groups[0].label,
        "standings": _table(tables.standings(side)),
        "differences": _table(tables.differences(side)),
        "rematches": _table(tables.rematches(side)),
        "speeds": _table(tables.speeds(side)),
        "studies": _table(tables.studies(side)),
        "differing": _table(tables.differing(side)),
        "picked": _table(tables.picked(side)),
    }


def _table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells as text."""
    headings = list(rows[0]) if rows else []
    return headings, [[_cell(row[heading], heading) for heading in headings] for row in rows]


def _cell(value: Any, heading: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if heading == "trial" else f"{value:,}"
    return shown(value)
