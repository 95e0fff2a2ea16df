"""One study as one HTML page that needs nothing else, and as PNG plots beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpo.errors import UserError
from hpo.reports import (
    figures,
    fronts,
    models,
    notes,
    plots,
    progress,
    promises,
    record,
    savings,
    slices,
    stops,
    summary,
    tables,
    trust,
)
from hpo.reports.facts import Facts
from hpo.reports.failed import failed
from hpo.reports.forest import Evidence
from hpo.reports.health import health
from hpo.reports.html import script_json, templates, write_files
from hpo.reports.importance import Importance, importances
from hpo.reports.luck import expected_luck
from hpo.reports.progress import Progress
from hpo.reports.timeline import timeline
from hpo.reports.wording import axis, clock, number, shown
from storage.records import CONFIRM, RETRAIN, SEARCH, Snapshot


def write_report(
    snapshot: Snapshot, out: Path, *, chosen: int | None = None, runs: Mapping[str, bytes] | None = None
) -> list[Path]:
    """Write ``index.html`` and the plots that have something to show into ``out``.

    ``chosen`` is the trial to recommend; by default the one that the study file's policy
    picks by the search's own values, before any confirmation. ``runs`` are pictures of
    single runs as PNG, by ``SERIES-NUMBER``, for the page and as files beside it.

    Each file appears whole or not at all. A plot of an earlier report that this study no
    longer has is removed, so that the folder tells one story.

    Returns:
        The paths written, ``index.html`` first.

    Raises:
        UserError: ``out`` cannot be a folder, or cannot be written to.
    """
    facts = Facts(snapshot, chosen)
    found, shown_times = importances(facts), timeline(facts)
    pictures = plots.plots(facts, found, shown_times)
    evidence = Evidence.of(facts)
    drawn = {
        "front": fronts.front(facts),
        "history": [figures.history(facts)],
        "curves": [figures.curves(facts)],
        "importance": [figures.importance(facts, found)],
        "slices": slices.slices(facts, found),
        "maps": slices.maps(facts, evidence, found),
        "parallel": [fronts.parallel(facts)],
        "timeline": [figures.timeline(facts, shown_times)],
    }
    runs = {f"run-{name}.png": picture for name, picture in (runs or {}).items()}
    page = render(facts, found, drawn, [*pictures, *runs], list(runs.values()))
    files = {"index.html": page.encode(), **pictures, **runs}
    try:
        paths = write_files(out, files)
        earlier = [path.name for series in (SEARCH, RETRAIN) for path in out.glob(f"run-{series}-*.png")]
        for name in (*plots.FILES, *earlier):
            if name not in files:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the report into {out}: {error.strerror}.") from error
    return paths


def render(
    facts: Facts,
    found: Sequence[Importance],
    drawn: dict[str, list[figures.Figure]],
    pictures: list[str],
    runs: Sequence[bytes] = (),
) -> str:
    """The page's HTML."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = templates()
    environment.filters.update(number=number, clock=clock, shown=shown)
    known = {trial.number for trial in facts.trials}

    def linked(text: str) -> Markup:
        """Our own sentences, with each trial they name leading to its row."""
        return Markup(re.sub(r"\b([Tt]rial) (\d+)\b", lambda m: _link(m, known), str(Markup.escape(text))))

    environment.filters["linked"] = linked
    every = [figure for group in drawn.values() for figure in group]
    return environment.get_template("report.html.j2").render(
        figures=drawn,
        pictures=pictures,
        run_pictures=[base64.b64encode(picture).decode() for picture in runs],
        figures_json=Markup(script_json({figure.name: list(figure.views.values()) for figure in every})),
        plotly_js=Markup(get_plotlyjs()),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **_content(facts, found),
        **_trials(facts),
        **_record(facts),
    )


def _content(facts: Facts, found: Sequence[Importance]) -> dict[str, Any]:
    """What the template says of results; figures, trials and the record apart."""
    from markupsafe import Markup

    snapshot = facts.snapshot
    confirmed, retrained = promises.repeated(facts, CONFIRM), promises.repeated(facts, RETRAIN)
    best, spent, told = facts.recommended, Progress.of(facts), snapshot.annotations
    return {
        "study": snapshot.study,
        "n_placed": len(facts.placed),
        "tags": told.tags,
        "note": Markup(notes.rendered(told.note)) if told.note.strip() else "",
        "goals": [{"goal": goal, "axis": axis(goal)} for goal in facts.goals],
        "status": summary.status(facts),
        "cards": summary.cards(facts),
        "sentences": summary.sentences(facts),
        "next_steps": summary.next_steps(facts),
        "took": summary.took(facts),
        "best": best,
        "best_values": list(zip(facts.goals, best.values, strict=True)) if best and best.values else [],
        "why": summary.recommendation(facts),
        "luck": promises.luck_sentence(facts, expected_luck(facts, Evidence.of(facts), found)),
        "confirmed": tables.repeated_rows(confirmed),
        "retrained": tables.repeated_rows(retrained),
        "repeated_columns": tables.REPEATED_COLUMNS,
        "kept_promise": promises.kept_promise(retrained),
        "tested": summary.on_test_set(facts),
        "crossed": trust.cross_validations(facts),
        "fold_metric_columns": trust.METRIC_COLUMNS,
        "gained": trust.gained(facts),
        "gate_columns": trust.GATE_COLUMNS,
        "failed": failed(facts),
        "health": health(facts),
        "improvements": progress.rows(spent),
        "improvements_caption": progress.caption(spent),
        "improvement_columns": progress.columns(spent),
        "savings": savings.savings(facts),
        "savings_columns": savings.COLUMNS,
        "stops": stops.rows(facts),
        "stop_columns": stops.COLUMNS,
        "models": [models.model(record) for record in snapshot.models],
    }


def _trials(facts: Facts) -> dict[str, Any]:
    """The trial table: every row, or the first ones and all as data for the browser to make rows of."""
    from markupsafe import Markup

    rows, paged = tables.trial_rows(facts), tables.is_paged(facts)
    numeric = [any(row.cells[column].is_number for row in rows) for column in range(len(rows[0].cells))] if rows else []
    return {
        "trial_columns": tables.trial_columns(facts),
        "trials": rows[: tables.FIRST_ROWS] if paged else rows,
        "paged": paged,
        "n_trials": f"{len(rows):,}",
        "first_rows": tables.FIRST_ROWS,
        "rows_json": Markup(script_json({"rows": tables.packed(rows), "numeric": numeric})) if paged else "",
        "trial_notes": [(n, Markup(told)) for n, told in notes.noted(facts.snapshot.annotations.trial_notes)],
    }


def _record(facts: Facts) -> dict[str, Any]:
    """How the study came about."""
    rows, hidden = tables.events(facts)
    files, files_sentence = tables.files(facts)
    return {
        "launches": record.launches(facts),
        "launch_columns": record.LAUNCH_COLUMNS,
        "imported": facts.snapshot.study.objective == "recorded",
        "events": rows,
        "events_hidden": hidden,
        "files": files,
        "files_sentence": files_sentence,
        "environment": record.environment(facts),
        "identity": record.identity(facts),
        "reproduce": record.commands(facts),
    }


def _link(match: re.Match[str], known: set[int]) -> str:
    word, n = match.groups()
    return f'<a href="#trial-{n}">{word} {n}</a>' if int(n) in known else match[0]
