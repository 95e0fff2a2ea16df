"""What stopping early saved, by rule, and what it may have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from hpo import pareto
from hpo.reports.facts import Ending, Facts
from hpo.reports.thinning import evenly
from hpo.reports.wording import count, duration, listed, percent
from hpo.trial import Goal, StopKind, TrialRecord

_LUCKY = 0.9  # a trial might have improved as much as this share of the completed ones at most did
_FEW = 5  # completed trials below which that says nothing
_MOST_JUDGED = 2000
_MOST_NAMED = 6


@dataclass(frozen=True)
class Saved:
    """One rule: how many trials it stopped, half of them by which epoch, and what they did not take."""

    rule: str
    n_trials: int
    middle: int
    epochs: int
    seconds: float | None


@dataclass(frozen=True)
class Savings:
    """The section: a sentence on what was saved, one on what it may have cost, a row per rule."""

    saved: str
    cost: str
    rows: tuple[tuple[str, ...], ...]


COLUMNS = ("what stopped them", "trials", "half of them by epoch", "epochs saved", "work saved")


def savings(facts: Facts) -> Savings | None:
    """None where nothing was stopped before its time, or nobody knows how long a trial was to be."""
    if facts.horizon is None or facts.spending is None:
        return None
    stopped = _by_rule(facts)
    if not stopped:
        return None
    rules = sorted((_saved(facts, rule, trials) for rule, trials in stopped.items()), key=lambda rule: -rule.epochs)
    rows = tuple(
        (rule.rule, f"{rule.n_trials:,}", str(rule.middle), f"{rule.epochs:,}", duration(rule.seconds))
        for rule in rules
    )
    return Savings(_sentence(facts, rules), _cost(facts), rows)


def _by_rule(facts: Facts) -> dict[str, list[TrialRecord]]:
    known = {
        event.number: str(event.details["rule"])
        for event in facts.snapshot.events
        if event.kind == StopKind.PRUNED and event.series == "search" and "rule" in event.details
    }
    usual = facts.setting("pruner", "name") or facts.setting("pruner")
    fallback = usual if isinstance(usual, str) and usual != "none" else "a rule not recorded"
    stopped: dict[str, list[TrialRecord]] = {}
    for trial in facts.ended(Ending.PRUNED):
        stopped.setdefault(f"pruner {known.get(trial.number, fallback)}", []).append(trial)
    early = facts.ended(Ending.EARLY)
    return stopped | ({"early stopping, each by itself": early} if early else {})


def _saved(facts: Facts, rule: str, trials: Sequence[TrialRecord]) -> Saved:
    left = {trial.number: max(0, (facts.horizon or 0) - trial.last_step) for trial in trials}
    # A trial that reported nothing says nothing of how long its epochs take.
    seconds = [
        left[trial.number] * facts.worked_s[trial.number] / trial.last_step
        for trial in trials
        if trial.last_step and trial.number in facts.worked_s
    ]
    middle = int(median(trial.last_step for trial in trials))
    return Saved(rule, len(trials), middle, sum(left.values()), math.fsum(seconds) if seconds else None)


def _sentence(facts: Facts, rules: Sequence[Saved]) -> str:
    spent = facts.spending
    saved = sum(rule.epochs for rule in rules)
    seconds = [rule.seconds for rule in rules if rule.seconds is not None]
    time = f", about {duration(math.fsum(seconds))} of work by how long each trial's own epochs took" if seconds else ""
    of = f" of {spent.planned:,} planned ({percent(saved / spent.planned)})" if spent and spent.planned else ""
    who = count(sum(rule.n_trials for rule in rules), "trial")
    return f"{who} ended early, which saved {saved:,} epochs{of}{time}."


def _cost(facts: Facts) -> str:
    """Which pruned trials could have mattered, had they gone on as luckily as the luckiest tenth."""
    pruned = [trial for trial in facts.ended(Ending.PRUNED) if trial.points]
    whole = evenly([trial for trial in facts.placed if trial.points], _MOST_JUDGED)
    if not pruned:
        return ""
    if len(whole) < _FEW:
        return f"What pruning cost cannot be told: only {count(len(whole), 'trial')} completed with a curve."
    gains: dict[int, tuple[float, ...]] = {}
    could, judged = [], 0
    for trial in evenly(pruned, _MOST_JUDGED):
        now = _so_far(trial, trial.last_step, facts.goals)
        if now is None:
            continue
        if trial.last_step not in gains:
            gains[trial.last_step] = _lucky_gains(whole, trial.last_step, facts.goals)
        hoped = np.array(now) - np.array(gains[trial.last_step]) * pareto.signs(facts.goals)
        if not np.isfinite(hoped).all():
            continue
        judged += 1
        rows = np.vstack([facts.front.values, hoped])
        if pareto.nondominated(rows, facts.goals)[-1]:
            could.append(trial.number)
    if not judged:
        return "What pruning cost cannot be told: no pruned trial had told every goal when it stopped."
    target = "have reached the front" if len(facts.goals) > 1 else f"have beaten the best {facts.goals[0].metric}"
    share = f"{1 - _LUCKY:.0%}".replace("%", " %")
    basis = (
        f"had each gone on to improve as much as the luckiest {share} of the completed trials did from its last epoch"
    )
    if not could:
        return f"It probably cost nothing: {basis}, none of {judged:,} pruned trials would {target}."
    named = listed([f"trial {n}" for n in could[:_MOST_NAMED]])
    more = f" and {len(could) - _MOST_NAMED:,} more" if len(could) > _MOST_NAMED else ""
    return f"What it may have cost: {basis}, {len(could):,} of {judged:,} pruned trials would {target} ({named}{more})."


def _so_far(trial: TrialRecord, step: int, goals: Sequence[Goal]) -> tuple[float, ...] | None:
    """The best of each goal up to a step; what is measured once counts as it is. None while one is missing."""
    found = []
    for goal in goals:
        told = [
            point.metrics[goal.metric] for point in trial.points if point.step <= step and goal.metric in point.metrics
        ]
        finite = [value for value in told if math.isfinite(value)] or [trial.metrics.get(goal.metric, math.nan)]
        found.append(min(finite) if pareto.signs([goal])[0] > 0 else max(finite))
    return tuple(found) if all(map(math.isfinite, found)) else None


def _lucky_gains(whole: Sequence[TrialRecord], step: int, goals: Sequence[Goal]) -> tuple[float, ...]:
    """(n_goals,): what a share of ``_LUCKY`` of the completed trials at most gained from a step on; else NaN."""
    gained = []
    for trial in whole:
        then = _so_far(trial, step, goals) if trial.last_step >= step else None
        if then is not None and trial.values is not None:
            gained.append((np.array(then) - np.array(trial.values)) * pareto.signs(goals))
    if not gained:
        return (math.nan,) * len(goals)
    return tuple(float(v) for v in np.maximum(0.0, np.quantile(gained, _LUCKY, axis=0, method="inverted_cdf")))
