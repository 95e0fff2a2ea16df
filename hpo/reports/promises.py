"""What trials promised and what fresh seeds gave: confirmation, retraining, and how much was luck."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from hpo.reports.facts import Facts, newest_runs
from hpo.reports.luck import Luck
from hpo.reports.wording import better, count, listed, number, percent
from hpo.trial import Goal, TrialRecord, goal_values
from storage.records import CONFIRM


@dataclass(frozen=True)
class Repeated:
    """A trial run again with fresh seeds: what it promised for one goal, and what the seeds gave.

    ``luck`` is how much worse the mean of the fresh seeds is than the promise, as a share
    of the promise: above 0 the search had been lucky.
    """

    number: int | None  # the search's trial, when one has these parameters
    goal: Goal
    promised: float | None
    n_seeds: int
    mean: float
    std: float | None

    @property
    def luck(self) -> float | None:
        if not self.promised:
            return None
        gap = self.mean - self.promised if better(self.goal) == "lower" else self.promised - self.mean
        return gap / abs(self.promised)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the mean over all seeds lies with 95 % confidence, by Student's t; None below three seeds."""
        if self.std is None or self.n_seeds < 3:
            return None
        from scipy.stats import t

        half = float(t.ppf(0.975, self.n_seeds - 1)) * self.std / math.sqrt(self.n_seeds)
        return self.mean - half, self.mean + half

    @property
    def verdict(self) -> str:
        """``luck`` in words: a share up to the whole promise, and beyond it the gap itself."""
        if self.luck is None or self.promised is None:
            return "–"
        if math.isclose(self.mean, self.promised, rel_tol=1e-9):
            return "no different"
        size = percent(abs(self.luck)) if abs(self.luck) <= 1 else number(abs(self.mean - self.promised))
        return f"{size} {'worse' if self.luck > 0 else 'better'}"


def repeated(facts: Facts, series: str) -> list[Repeated]:
    """One row per repeated trial and goal of a series (confirm, retrain), in the order they were run."""
    rows = []
    for records in _by_subject(facts.snapshot.others.get(series, ())):
        runs = newest_runs(records)
        vectors = [v for run in runs if (v := run.values or goal_values(facts.goals, run.metrics))]
        origin = _origin(facts, records[0])
        for index, goal in enumerate(facts.goals):
            values = [vector[index] for vector in vectors if math.isfinite(vector[index])]
            if values:
                promised = origin.values[index] if origin and origin.values else None
                spread = stdev(values) if len(values) > 1 else None
                n = origin.number if origin else None
                rows.append(Repeated(n, goal, promised, len(values), mean(values), spread))
    return rows


def _by_subject(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    groups: dict[str, list[TrialRecord]] = {}
    for record in sorted(records, key=lambda record: record.number):
        key = record.params if record.subject is None else record.subject
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(record)
    return list(groups.values())


def _origin(facts: Facts, record: TrialRecord) -> TrialRecord | None:
    """The search's trial that this one repeats; where it does not say, one with these parameters, front first."""
    if record.subject is not None:
        return facts.by_number.get(record.subject)
    same = [trial for trial in facts.placed if trial.params == record.params]
    return min(same, key=lambda trial: (trial.number not in facts.front.numbers, trial.number), default=None)


def kept_promise(rows: Sequence[Repeated]) -> str:
    """Whether retraining kept what the search promised, goal by goal."""
    text = "The picked trial, trained again on the full budget with several seeds; the interval is Student's."
    told = []
    for row in rows:
        if row.promised is None or row.interval is None or row.number != rows[-1].number:
            continue
        low, high = row.interval
        lower_is_better = better(row.goal) == "lower"
        if low <= row.promised <= high:
            told.append(f"{row.goal.metric} was kept (it lies within the interval)")
        elif (row.promised > high) is lower_is_better:
            told.append(f"{row.goal.metric} came out better")
        else:
            told.append(f"{row.goal.metric} came out worse")
    return f"{text} Of what trial {rows[-1].number} promised: {listed(told)}." if told else text


def luck_sentence(facts: Facts, bounds: Sequence[Luck] = ()) -> str:
    """How much of a promise was luck, in one sentence: measured by fresh seeds, else bounded; empty if neither can be.

    ``bounds`` are those of the recommended trial, one per goal.
    """
    goal = facts.goals[0]
    rows = [row for row in repeated(facts, CONFIRM) if row.goal == goal and row.luck is not None]
    if not rows:
        return _bounded(facts, bounds)
    turn = -1 if better(goal) == "higher" else 1
    best = min(rows, key=lambda row: turn * (row.promised or 0.0))
    luck = best.luck or 0.0
    if abs(luck) <= 0.005:
        verdict = "as promised"
    elif luck < 0:
        verdict = f"{best.verdict}: it was no luck"
    else:
        verdict = f"{best.verdict}: that much of it was luck" if luck <= 1 else f"{best.verdict} than promised"
    chosen = facts.recommended
    own = [
        row for row in repeated(facts, CONFIRM) if chosen and row.number == chosen.number != best.number and row.luck
    ]
    also = (
        f" Trial {own[0].number} gave {listed([f'{r.goal.metric} {r.verdict}' for r in own])} than promised."
        if own
        else ""
    )
    return (
        f"The best {goal.metric} among the trials run again ({number(best.promised or 0.0)}, trial {best.number}) "
        f"came out at {number(best.mean)} over {count(best.n_seeds, 'fresh seed')}, {verdict}.{also}"
    )


def _bounded(facts: Facts, bounds: Sequence[Luck]) -> str:
    """What the best of many may owe to chance, by an estimate that says where it comes from."""
    best = facts.recommended
    if best is None:
        return ""
    again = "with retrain.confirm in the study file, fresh seeds measure it"
    if not bounds:
        return f"How much of trial {best.number}'s value is luck cannot be said from so few trials: {again}."
    told = [
        f"{luck.goal.metric} by {number(luck.bound)} ({number(luck.honest)} instead of {number(luck.value)})"
        for luck in bounds
        if luck.bound >= 0.002 * abs(luck.value)
    ]
    among = count(bounds[0].n_trials, "trial")
    if not told:
        return f"Luck hardly matters here: chance moves the values of {among} by next to nothing."
    first = "The best of many on one validation set is partly luck; no run with fresh seeds has measured it."
    if all(luck.is_seeds for luck in bounds):
        how = f"if the {among} scatter as the retrained seeds did"
    else:
        how = f"if chance is all that the parameters of {among} do not explain, which is the most it can be"
    return f"{first} Estimated: {how}, trial {best.number} flatters itself in {listed(told)}; {again}."
