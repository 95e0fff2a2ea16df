"""What ``hpo why`` prints: a trial's end, and the trials it was held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpo.printing.launches import cost_words
from hpo.printing.tables import Row, cell, params_text, print_json, show

if TYPE_CHECKING:
    from hpo.service import Why

_SHOWN_APART = {"rule", "step", "vector", "against", "against_count", "dominated_by"}


def show_why(why: Why, as_json: bool) -> None:
    """How a trial ended; if it was pruned, the vector it was judged on and what it was held against."""
    trial = why.trial
    if as_json:
        print_json(
            {
                "study": why.study,
                "trial": trial.number,
                "state": trial.state,
                "reason": trial.reason and {"kind": trial.reason.kind, "message": trial.reason.message},
                "steps": trial.last_step,
                "values": trial.values,
                "judged": why.judged,
                "cost": vars(why.cost),
                "attempts": why.attempts,
                "events": why.events,
            }
        )
        return
    print(f"Trial {trial.number} of {why.study}, {trial.state}: {_reason(why)}")
    print(f"  {_steps(why)}")
    if trial.values is not None:
        print(f"  {params_text(dict(zip((goal.metric for goal in why.goals), trial.values, strict=True)))}")
    if why.judged is not None:
        _show_judged(trial.number, why.judged)
    if len(why.attempts) > 1:
        print("\nAttempts")
        show([{"attempt": a.attempt, "began": a.started_at[:19], "ended": a.ended_how} for a in why.attempts])
    if why.events:
        print("\nEvents")
        show([{"at": event.at[:19], "kind": event.kind, "message": event.message} for event in why.events])


def _reason(why: Why) -> str:
    if why.trial.reason is None:
        return "no reason was kept" if why.trial.state.is_finished else "it has not ended yet"
    return why.trial.reason.message.removeprefix(f"{why.trial.state} ")


def _steps(why: Why) -> str:
    trial = why.trial
    best = f", the best {trial.best_step}" if trial.best_step is not None else ""
    attempts = f"{trial.attempts} attempt{'' if trial.attempts == 1 else 's'}"
    return f"{trial.last_step} of {trial.epochs} steps{best}; {attempts}, {cost_words(why.cost)}"


def _show_judged(number: int, judged: Mapping[str, Any]) -> None:
    facts = {name: value for name, value in judged.items() if name not in _SHOWN_APART}
    print(f"\nRule {judged['rule']} at step {judged['step']}, judged on {params_text(judged['vector'])}")
    for name, value in facts.items():
        print(f"  {name.replace('_', ' ')}: {params_text(value) if isinstance(value, dict) else cell(value)}")
    against = judged["against"]
    if not against:
        return
    left_out = judged["against_count"] - len(against)
    print(f"\nHeld against, the best first{f' ({left_out} more are not kept)' if left_out else ''}")
    show(_rows(number, judged))


def _rows(number: int, judged: Mapping[str, Any]) -> list[Row]:
    """The trial itself, then those it was held against; who dominates it is marked."""
    dominating = set(judged["dominated_by"])
    rows: list[Row] = [{"trial": f"{number} itself", **judged["vector"], "dominates it": ""}]
    if "assumed" in judged:
        rows = [{"trial": f"{number} assumed", **judged["assumed"], "dominates it": ""}]
    for other, vector in judged["against"].items():
        rows.append({"trial": other, **vector, "dominates it": "yes" if int(other) in dominating else ""})
    return rows
