"""The page's tables: trials, repeats, models, environment, events. Text and numbers only, no HTML."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from hpo.reports.facts import Facts
from hpo.reports.summary import Repeated
from hpo.reports.warnings import FLAGS, HEALTH, TROUBLES
from hpo.reports.wording import clock, duration, number, shown
from hpo.trial import TrialRecord

_MOST_EVENTS = 500


@dataclass(frozen=True)
class Cell:
    """What stands in a cell; ``sort`` is what it is ordered by (None goes last); ``full`` is told on hover."""

    text: str
    sort: float | str | None = None
    full: str = ""
    is_number: bool = False
    unfolds: bool = False  # ``full`` is text to read, not a tip


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
    return ["best epoch", "epochs", *goals, "duration", "reason", *facts.param_names]


def trial_rows(facts: Facts) -> list[TrialRow]:
    """Every trial, in number order."""
    front = set(facts.front.numbers)
    best = facts.recommended
    rows = []
    for trial in facts.trials:
        values = trial.values or (None,) * len(facts.goals)
        cells = [figure(trial.best_step), figure(trial.last_step), *(figure(value) for value in values)]
        seconds = facts.worked_s.get(trial.number)
        cells += [Cell(duration(seconds), seconds, is_number=True), _reason(trial)]
        cells += [_param(trial.params.get(name, math.nan), name in trial.params) for name in facts.param_names]
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
    """The first line, short; the whole message unfolds."""
    message = trial.reason.message.strip() if trial.reason else ""
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


def repeated_rows(rows: list[Repeated]) -> list[tuple[str, str, str, str, str, str]]:
    """Trial, goal, promised, mean ± std, seeds, luck."""
    return [
        (
            "–" if row.number is None else str(row.number),
            row.goal.metric,
            number(row.promised),
            spread(row.mean, row.std),
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


def commands(facts: Facts) -> list[tuple[str, str]]:
    """How to come back to this: a command, and what it does."""
    name = shlex.quote(facts.snapshot.study.name)
    told = [("hpo launch study.yaml", "runs the study file below, or goes on with it")]
    pick = f" --pick {shlex.quote(facts.policy)}" if isinstance(facts.policy, str) else ""
    told.append((f"hpo best {name}{pick}", "the recommended trial, and how much of it was luck"))
    if len(facts.goals) > 1:
        told.append((f"hpo front {name}", "every trial on the front"))
    if facts.recommended is not None:
        retrain = f"hpo retrain {name} --trial {facts.recommended.number}"
        told.append((retrain, "trains it again with several seeds, on the full budget"))
    return [*told, (f"hpo report {name} --out report", "makes this page again")]
