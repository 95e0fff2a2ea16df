"""How a study and its best trial look in a notebook's cell, and as one line of text.

Colours are the notebook's own (``currentColor``), so that a cell may be light or dark; whatever a study file or
an objective named is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from hpo.notebook.picture import picture
from hpo.reports.facts import Facts
from hpo.reports.wording import count, listed, number, shown
from hpo.trial import Metrics, Params, TrialState

_CARD = (
    "display:inline-block;border:1px solid rgba(128,128,128,.45);border-radius:6px;padding:.7em 1em;max-width:62em;"
    "color:inherit;text-align:left"
)
_ROW = "display:flex;flex-wrap:wrap;gap:.4em 1.5em;align-items:flex-start"
_TABLE = "border-collapse:collapse;margin:.4em 0;color:inherit;font:inherit;flex:{}"
_CELL = "text-align:left;vertical-align:top;padding:.1em .8em .1em 0;background:none"
_HEAD = f"{_CELL};font-weight:600;white-space:nowrap"


def text(facts: Facts) -> str:
    """One line: name, goals, how many trials ended how, the recommended one."""
    study = facts.snapshot.study
    best = f"; best trial {facts.recommended.number}: {_values(facts)}" if facts.recommended else ""
    return f"StudyView({study.name!r}: {_goals(facts)}; {_counts(facts)}{best})"


def html(facts: Facts) -> str:
    """A card: the same, with the best trial's parameters, what people said, and a small picture."""
    study, best, said = facts.snapshot.study, facts.recommended, facts.snapshot.annotations
    rows = {"objective": study.objective, "goals": _goals(facts), "trials": _counts(facts)}
    if best is not None:
        rows[f"best: trial {best.number}"] = _values(facts)
        rows["with"] = ", ".join(f"{name} = {shown(value)}" for name, value in best.params.items())
    elif failed := [trial for trial in facts.trials if trial.state is TrialState.FAIL]:
        reason = failed[0].reason
        rows["why they failed"] = reason.message.splitlines()[0] if reason and reason.message else "no reason was kept"
    rows |= {"tags": ", ".join(said.tags)} if said.tags else {}
    rows |= {"note": said.note.splitlines()[0]} if said.note else {}
    return _card(study.name, _table(rows, "1 1 22em") + picture(facts))


def best_html(trial: int, params: Params, values: Metrics, confirmed: Metrics | None) -> str:
    """A card of one trial: its goals, and beside them its parameters."""
    goals = {name: number(value) for name, value in values.items()}
    for name, mean in (confirmed or {}).items():
        goals[name] += f" ({number(mean)} with fresh seeds)"
    return _card(f"Trial {trial}", _table(goals) + _table({name: shown(value) for name, value in params.items()}))


def _card(title: str, inside: str) -> str:
    heading = f'<div style="font-size:1.1em;font-weight:600">{escape(title)}</div>'
    return f'<div style="{_CARD}">{heading}<div style="{_ROW}">{inside}</div></div>'


def _table(rows: Mapping[str, str], flex: str = "none") -> str:
    lines = (
        f'<tr style="background:none"><th scope="row" style="{_HEAD}">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table style="{_TABLE.format(flex)}">{"".join(lines)}</table>'


def _goals(facts: Facts) -> str:
    return ", ".join(map(str, facts.goals))


def _counts(facts: Facts) -> str:
    states = [trial.state for trial in facts.trials]
    there = [f"{states.count(state):,} {state}" for state in TrialState if state in states]
    return f"{count(len(states), 'trial')} ({listed(there)})" if there else "no trial yet"


def _values(facts: Facts) -> str:
    best = facts.recommended
    pairs = zip(facts.goals, (best.values if best else None) or (), strict=False)
    return ", ".join(f"{goal.metric} {number(value)}" for goal, value in pairs)
