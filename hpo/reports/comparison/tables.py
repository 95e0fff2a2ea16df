"""The tables of a comparison, for the terminal and the page: rows of equal keys, values as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from hpo.reports.comparison import words
from hpo.reports.comparison.sides import Entrant, Group, SideBySide
from hpo.reports.facts import Ending
from hpo.reports.spending import Unit, spent
from hpo.reports.summary import Card
from hpo.reports.wording import count, duration, number, percent, shown
from hpo.trial import Goal

Row = dict[str, Any]
_MOST = 60  # characters of a value that differs


def studies(side: SideBySide) -> list[Row]:
    """Every study at its own end: what it spent and what it found."""
    in_groups = any(len(group.entrants) > 1 for group in side.groups)
    return [
        {**({"group": group.label} if in_groups else {}), "study": entrant.label, **_study(side, entrant)}
        for group in side.groups for entrant in group.entrants
    ]  # fmt: skip


def _study(side: SideBySide, entrant: Entrant) -> Row:
    facts = entrant.facts
    epochs, seconds, worked = (total(entrant, unit) for unit in (Unit.EPOCHS, Unit.TIME, Unit.WORK))
    curves = [side.curve(entrant, measure, Unit.TRIALS) for measure in side.measures]
    return {
        "trials": len(facts.trials),
        "completed": len(facts.ended(Ending.COMPLETE, Ending.EARLY, Ending.TIME_LIMIT)),
        "pruned": len(facts.ended(Ending.PRUNED)),
        "failed": len(facts.ended(Ending.FAILED)),
        "epochs": None if epochs is None else int(epochs),
        "wall-clock": duration(seconds),
        "work": duration(worked),
        **({"on the front": len(facts.front)} if len(side.goals) > 1 else {}),
        **{
            label(measure): None if curve is None else curve.values[-1]
            for measure, curve in zip(side.measures, curves, strict=True)
        },
    }


def total(entrant: Entrant, unit: Unit) -> float | None:
    """All that a study has spent; None where it is not known."""
    amounts = spent(entrant.facts, unit)
    return amounts[-1] if amounts else None


def standings(side: SideBySide) -> list[Row]:
    """Every measure at equal spending of each kind, the groups side by side."""
    rows = []
    for unit in side.units:
        budget = side.budget(unit)
        if budget is None:
            continue
        for measure in side.measures:
            cells = {group.label: _standing(side, group, measure, unit) for group in side.groups}
            rows.append({"after": unit.shown(budget), "what": label(measure), **cells})
    return rows


def _standing(side: SideBySide, group: Group, measure: Goal, unit: Unit) -> str:
    """``0.42 ± 0.03``: mean and standard deviation over the studies of a group."""
    values = side.values(group, measure, unit)
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {number(stdev(known))}" if len(known) > 1 else ""
    lost = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    return number(mean(known)) + spread + lost


def cards(side: SideBySide) -> list[Card]:
    """What matters most of each group, at equal spending."""
    measure, found = side.measures[0], []
    for group in side.groups:
        known = [value for value in side.values(group, measure, side.unit) if value is not None]
        runs = f" over {count(len(group.entrants), 'study', 'studies')}" if len(group.entrants) > 1 else ""
        spread = f" ± {number(stdev(known))}" if len(known) > 1 else ""
        found.append(Card(group.label, number(mean(known)) if known else "–", f"{label(measure)}{spread}{runs}"))
    return found


def differences(side: SideBySide) -> list[Row]:
    """Every other group beside the first, at the equal spending of the comparison's unit."""
    rows = []
    for contest in side.contests:
        found = contest.found
        share = None if found is None or max(found.n) == 1 else words.better_share(contest.measure, found)
        rows.append({
            "what": label(contest.measure),
            "pair": f"{contest.second} − {contest.first}",
            "difference": None if found is None else _rounded(found.mean),
            "95 % interval": "–" if found is None else words.interval(found),
            "better in": "–" if share is None else f"{percent(share)} of pairs",
            "p of ranks": None if found is None or share is None else _rounded(found.p_ranks),
            "verdict": contest.why_not or _VERDICTS[words.verdict(contest)],
        })  # fmt: skip
    return rows


_VERDICTS = {"clear": "clear", "chance": "may be chance", "among many": "may be chance among so many", "–": "–"}


def rematches(side: SideBySide) -> list[Row]:
    """The picked trials of single studies over fresh seeds."""
    return [
        {
            "what": each.measure.metric,
            "pair": f"{each.second}'s trial {each.trials[1]} − {each.first}'s trial {each.trials[0]}",
            "runs": each.series + (" (pairs of equal seeds)" if each.found.paired else ""),
            "seeds": " / ".join(str(n) for n in dict.fromkeys(each.found.n)),
            "epochs": " / ".join(str(n) for n in dict.fromkeys(each.epochs)),
            "difference": _rounded(each.found.mean),
            "95 % interval": words.interval(each.found),
            "verdict": _VERDICTS[words.verdict(each)],
        }
        for each in side.rematches
    ]


def speeds(side: SideBySide) -> list[Row]:
    """What each group needed to be as good as the first at its end."""
    return [
        {
            "what": label(speed.measure),
            "target": _rounded(speed.target),
            "group": speed.second,
            "reached after": "never" if speed.needed is None else unit.shown(speed.needed),
            speed_column(side): unit.shown(speed.own),
            "ratio": "–" if speed.ratio is None else words.ratio(speed.ratio),
        }
        for unit in side.units for speed in side.speed(unit)
    ]  # fmt: skip


def speed_column(side: SideBySide) -> str:
    return f"{side.groups[0].label} itself"


def differing(side: SideBySide) -> list[Row]:
    """What is not the same in all: of the study files, the launches, the machines."""
    told = {entrant.label: _description(entrant) for entrant in side.entrants}
    names = list(dict.fromkeys(name for found in told.values() for name in found))
    rows = []
    for name in names:
        if len({json.dumps(found.get(name), default=str) for found in told.values()}) > 1:
            cells = {group.label: [told[e.label].get(name) for e in group.entrants] for group in side.groups}
            rows.append({"what": name, **{group: _joined(values) for group, values in cells.items()}})
    return rows


def _description(entrant: Entrant) -> dict[str, Any]:
    identity = {**entrant.identity, "data": entrant.data[1][:12]}
    found = {**_leaves(identity), "budget.trials": entrant.facts.setting("budget", "trials")}
    for launch in entrant.snapshot.launches[-1:]:
        found |= {"runner": launch.runner, "workers": launch.workers, "host": launch.host}
        found |= _leaves(launch.environment, "environment.")
    return found


def _leaves(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _leaves(inner, f"{path}{name}.") if isinstance(inner, Mapping) else {f"{path}{name}": inner}
    return found


def _joined(values: Sequence[Any]) -> str:
    """One value, or the different ones of a group in the order of its studies."""
    different = list(dict.fromkeys("–" if value is None else _text(value) for value in values))
    text = ", ".join(different)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def _text(value: Any) -> str:
    return shown(value) if isinstance(value, (str, int, float)) else json.dumps(value, default=str)


def picked(side: SideBySide) -> list[Row]:
    """The trial that each study's own policy picks, with its values and parameters."""
    names = list(dict.fromkeys(name for entrant in side.entrants for name in entrant.facts.param_names))
    rows = []
    for entrant in side.entrants:
        trial = entrant.facts.recommended
        if trial is None or entrant.picked is None:
            continue
        values = trial.values or (None,) * len(side.goals)
        goals = {goal.metric: value for goal, value in zip(side.goals, values, strict=True)}
        params = {name: trial.params.get(name) for name in names}
        rows.append({"study": entrant.label, "trial": trial.number, **goals, **params})
    return rows


def label(measure: Goal) -> str:
    return measure.metric if measure.metric == "hypervolume" else f"best {measure.metric}"


def _rounded(value: float) -> float:
    """Four significant digits: what a table needs; JSON has all."""
    return float(f"{value:.4g}")
