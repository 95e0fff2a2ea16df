"""Why trials stopped: one row per reason, over the whole search."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from hpo.failures import sameness
from hpo.reports.facts import Facts
from hpo.reports.wording import duration, percent
from hpo.trial import TrialRecord

COLUMNS = ("state", "trials", "share", "epochs (median)", "work (median)", "reason of the latest")
_MOST_ROWS = 12


def rows(facts: Facts) -> list[tuple[str, ...]]:
    """How trials ended and in which words; reasons that differ in numbers only are one."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for trial in facts.trials:
        said = sameness(trial.reason) if trial.reason else ""
        groups.setdefault((facts.endings[trial.number].value, said), []).append(trial)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    told = [_row(facts, state, trials) for (state, _), trials in ordered[:_MOST_ROWS]]
    rest = [trial for _, trials in ordered[_MOST_ROWS:] for trial in trials]
    return [*told, *([_row(facts, "others", rest)] if rest else [])]


def _row(facts: Facts, state: str, trials: Sequence[TrialRecord]) -> tuple[str, ...]:
    reason = trials[-1].reason
    message = (reason.message.strip().splitlines() or [""])[0] if reason and state != "others" else ""
    worked = [facts.worked_s[trial.number] for trial in trials if trial.number in facts.worked_s]
    return (
        state,
        f"{len(trials):,}",
        percent(len(trials) / len(facts.trials)),
        f"{median(trial.last_step for trial in trials):g}",
        duration(median(worked)) if worked else "–",
        message if len(message) <= 160 else message[:159] + "…",
    )
