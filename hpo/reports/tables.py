"""The page's tables: trials, repeats, events. Text and numbers only, no HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpo.costs import Cost
from hpo.reports.facts import Facts
from hpo.reports.promises import Repeated
from hpo.reports.warnings import FLAGS, HEALTH, TROUBLES
from hpo.reports.wording import clock, count, duration, number, shown
from hpo.trial import TrialRecord
from storage.records import SEARCH

_MOST_EVENTS = 500
_MOST_ROWS = 500  # of the trial table as HTML; above it the browser makes the rows that are looked at
FIRST_ROWS = 200  # of a paged table, written as HTML for a reader without scripts, and for paper


@dataclass(frozen=True)
class Cell:
    """What stands in a cell; ``sort`` is what it is ordered by (None goes last); ``full`` is told on hover."""

    text: str
    sort: float | str | None = None
    full: str = ""
    is_number: bool = False
    unfolds: bool = False  # ``full`` is text to read, not a tip

    @property
    def is_told(self) -> bool:
        """Whether the text says what it is ordered by."""
        return self.sort is None or self.text in (self.sort, f"{self.sort:g}" if self.is_number else None)


@dataclass(frozen=True)
class TrialRow:
    number: int
    slug: str
    state: str
    on_front: bool
    is_recommended: bool
    cells: tuple[Cell, ...]


def trial_columns(facts: Facts) -> list[str]:
    """The headings after number and state."""
    goals = [goal.metric for goal in facts.goals]
    return ["best epoch", "epochs", *goals, "duration", *_device(facts), "reason", *facts.param_names, *_said(facts)]


def _device(facts: Facts) -> list[str]:
    """The heading of what devices worked, where that is not the duration itself."""
    held = [cost for cost in facts.costs.values() if cost.device_s and cost.device_s != cost.seconds]
    return [] if not held else ["GPU time" if any(cost.gpu_s for cost in held) else "CPU time"]


def _said(facts: Facts) -> dict[str, dict[int, str]]:
    """What people and programs left with single trials, by heading and number: only what there is."""
    told = facts.snapshot.annotations
    files: dict[int, list[str]] = {}
    for artifact in facts.snapshot.artifacts:
        if artifact.series == SEARCH and artifact.number is not None:
            files.setdefault(artifact.number, []).append(artifact.filename)
    tags = {number: ", ".join(tags) for number, tags in told.trial_tags.items() if tags}
    notes = {number: note for number, note in told.trial_notes.items() if note.strip()}
    named = {number: "\n".join(sorted(names)) for number, names in files.items()}
    return {heading: found for heading, found in (("tags", tags), ("note", notes), ("files", named)) if found}


def trial_rows(facts: Facts) -> list[TrialRow]:
    """Every trial, in number order."""
    front = set(facts.front.numbers)
    best = facts.recommended
    said, device = _said(facts), _device(facts)
    rows = []
    for trial in facts.trials:
        values = trial.values or (None,) * len(facts.goals)
        cells = [figure(trial.best_step), figure(trial.last_step), *(figure(value) for value in values)]
        seconds = facts.worked_s.get(trial.number)
        held = [facts.costs.get(trial.number, Cost()).device_s for _ in device]
        cells += [Cell(duration(one), one, is_number=True) for one in (seconds, *held)] + [_reason(trial)]
        cells += [_param(trial.params.get(name, math.nan), name in trial.params) for name in facts.param_names]
        cells += [_text(found.get(trial.number, "")) for found in said.values()]
        again = f" ({trial.attempts} attempts)" if trial.attempts > 1 else ""
        again += "" if trial.is_feasible else ", not feasible"
        ending = facts.endings[trial.number]
        rows.append(
            TrialRow(
                trial.number, ending.slug, ending.value + again, trial.number in front,
                best is not None and trial.number == best.number, tuple(cells),
            )
        )  # fmt: skip
    return rows


def figure(value: float | None) -> Cell:
    """A number's cell; NaN sorts last, as nothing does."""
    sort = float(value) if value is not None and math.isfinite(value) else None
    full = repr(value) if isinstance(value, float) and number(value) != repr(value) else ""
    return Cell(number(value), sort, full, is_number=True)


def _reason(trial: TrialRecord) -> Cell:
    return _text(trial.reason.message if trial.reason else "")


def _text(text: str) -> Cell:
    """The first line, short; the whole text unfolds."""
    message = text.strip()
    first = (message.splitlines() or [""])[0]
    short = first if len(first) <= 56 else first[:55] + "…"
    return Cell(short, short or None, message if message != short else "", unfolds=True)


def _param(value: Any, is_set: bool) -> Cell:
    if not is_set:
        return Cell("", None, "does not apply to this trial")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        full = repr(value) if shown(value) != repr(value) else ""
        return Cell(shown(value), float(value) if math.isfinite(value) else None, full, is_number=True)
    return Cell(shown(value), shown(value))


def is_paged(facts: Facts) -> bool:
    """Whether there are too many trials for a browser to hold them all as rows."""
    return len(facts.trials) > _MOST_ROWS


def packed(rows: Sequence[TrialRow]) -> list[list[Any]]:
    """Rows for ``templates/tables.js``: number, CSS class, state, mark (2 recommended, 1 on the front), cells.

    A cell is its text, or text and what it is ordered by where the text does not tell.
    """
    return [
        [row.number, row.slug, row.state, 2 if row.is_recommended else int(row.on_front)]
        + [cell.text if cell.is_told else [cell.text, cell.sort] for cell in row.cells]
        for row in rows
    ]


REPEATED_COLUMNS = ("trial", "goal", "promised", "mean ± std", "95 % interval of the mean", "seeds", "than promised")


def repeated_rows(rows: list[Repeated]) -> list[tuple[str, ...]]:
    """What repeated trials promised and gave."""
    return [
        (
            "–" if row.number is None else str(row.number),
            row.goal.metric,
            number(row.promised),
            spread(row.mean, row.std),
            "–" if row.interval is None else f"{number(row.interval[0])} to {number(row.interval[1])}",
            str(row.n_seeds),
            row.verdict,
        )
        for row in rows
    ]


def spread(mean: float, std: float | None) -> str:
    return number(mean) + (f" ± {number(std)}" if std is not None else "")


def events(facts: Facts) -> tuple[list[tuple[str, str, str, str]], int]:
    """When, whose, what kind, what; and how many more there are than the page holds (the latest stay).

    What the section on health tells is left to it.
    """
    told = (HEALTH, FLAGS, *TROUBLES)
    found = sorted((event for event in facts.snapshot.events if event.kind not in told), key=lambda event: event.at)
    kept = found[-_MOST_EVENTS:]
    rows = []
    for event in kept:
        where = "" if event.series == "search" else f"{event.series} "
        who = "study" if event.number is None else f"{where}trial {event.number}"
        rows.append((clock(event.at), who, event.kind, event.message))
    return rows, len(found) - len(kept)


def files(facts: Facts) -> tuple[list[tuple[str, ...]], str]:
    """The artifacts of the study, the newest first, and how much they are."""
    kept = sorted(facts.snapshot.artifacts, key=lambda artifact: artifact.created_at, reverse=True)
    rows: list[tuple[str, ...]] = []
    for artifact in kept[:_MOST_EVENTS]:
        where = "" if artifact.series == SEARCH else f"{artifact.series} "
        who = "study" if artifact.number is None else f"{where}trial {artifact.number}"
        rows.append((who, artifact.filename, artifact.kind, f"{artifact.bytes / 2**20:.2f} MB", artifact.place))
    size = sum(artifact.bytes for artifact in kept) / 2**20
    hidden = f"; the newest {len(rows)} are listed" if len(kept) > len(rows) else ""
    return rows, f"{count(len(kept), 'file')}, {number(size)} MB in all{hidden}."
