"""A study in words: what came out, what it cost, what to take, and how far to trust it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from hpo import costs
from hpo.constraints import broken, least_violated, spoken
from hpo.evaluation.groups import split_by_group
from hpo.failures import sameness
from hpo.reports.facts import Ending, Facts, newest_runs, seconds_between
from hpo.reports.trust import baselines_on, intervals
from hpo.reports.wording import count, duration, listed, number, percent, superlative, with_unit
from hpo.trial import TrialRecord
from storage.records import RETRAIN


@dataclass(frozen=True)
class Card:
    """One key figure."""

    title: str
    figure: str
    note: str = ""


def sentences(facts: Facts) -> list[str]:
    """The summary's sentences, in reading order."""
    said = [_aim(facts), _outcome(facts), _saved(facts), _failures(facts)]
    return [sentence for sentence in said if sentence]


def status(facts: Facts) -> str:
    """What a reader must know before any figure: that the study is not over, failed as a whole, or ran elsewhere."""
    if facts.snapshot.study.objective == "recorded":
        return "These trials were run elsewhere and imported: what is not shown was not recorded there."
    running = len(facts.ended(Ending.RUNNING))
    if running:
        return f"Still running, with {count(running, 'trial')} at work: figures are of what had ended."
    if facts.trials and len(facts.ended(Ending.FAILED)) == len(facts.trials):
        return "No trial has come through, so there is no result: see what failed, and what to do next."
    return ""


def next_steps(facts: Facts) -> list[tuple[str, str]]:
    """What to type where there is nothing to recommend yet."""
    name = shlex.quote(facts.snapshot.study.name)
    if facts.recommended is not None:
        return []
    if not facts.trials:
        return [
            ("hpo check study.yaml", "validates the study file and tries one batch"),
            ("hpo launch study.yaml", "begins the search"),
        ]
    if facts.ended(Ending.RUNNING, Ending.QUEUED):
        return [(f"hpo watch {name}", "follows it live"), (f"hpo report {name}", "makes this page again, later")]
    if facts.ended(Ending.FAILED):
        return []  # the section on failures says what
    return [
        (f"hpo show {name}", "every trial, and why it stopped"),
        ("hpo launch study.yaml", "goes on, with a larger budget"),
    ]


def _aim(facts: Facts) -> str:
    study = facts.snapshot.study
    aims = listed([f"the {superlative(goal)} {goal.metric}" for goal in facts.goals])
    searched = f" over {count(len(facts.param_names), 'parameter')}" if facts.param_names else ""
    sampler = facts.setting("sampler", "name") or facts.setting("sampler")
    by = f" with the {sampler} sampler" if isinstance(sampler, str) else ""
    return f"{study.name} tunes {study.objective} for {aims}{searched}{by}."


def _outcome(facts: Facts) -> str:
    if not facts.trials:
        return "No trial has been started yet."
    n = {ending: len(facts.ended(ending)) for ending in Ending}
    whole = n[Ending.COMPLETE] + n[Ending.EARLY] + n[Ending.TIME_LIMIT]
    parts = [f"{whole:,} completed" + _of_these(n)]
    parts += [
        f"{n[ending]:,} {word}"
        for ending, word in (
            (Ending.PRUNED, "pruned"),
            (Ending.FAILED, "failed"),
            (Ending.RUNNING, "running"),
            (Ending.QUEUED, "queued"),
        )
        if n[ending]
    ]
    unplaced = whole - len(facts.measured)
    lost = f" {unplaced:,} of the completed have no finite value for every goal and stand aside." if unplaced else ""
    broke = len(facts.infeasible)
    lost += f" {broke:,} of the completed {'breaks' if broke == 1 else 'break'} a constraint." if broke else ""
    if broke and broke == len(facts.measured):
        nearest = least_violated(facts.infeasible)
        by = spoken(broken(facts.snapshot.study.constraints, nearest))
        lost += f" So there is none to recommend; the nearest is trial {nearest.number}, which breaks {by}."
    return f"Of {count(len(facts.trials), 'trial')}, {listed(parts)}.{lost}"


def _of_these(n: dict[Ending, int]) -> str:
    parts = [
        f"{n[ending]:,} {word}"
        for ending, word in ((Ending.EARLY, "ended by early stopping"), (Ending.TIME_LIMIT, "at their time limit"))
        if n[ending]
    ]
    return f" ({listed(parts)})" if parts else ""


def _saved(facts: Facts) -> str:
    spent = facts.spending
    if spent is None or not spent.run:
        return ""
    whole = f"{spent.horizon} epochs each" + (" (judged by the longest completed trial)" if spent.assumed else "")
    text = f"{spent.run:,} of {spent.planned:,} epochs were run ({whole})"
    parts = [
        f"{who} saved {saved:,} ({percent(saved / spent.planned)})"
        for who, saved in (
            ("pruning", spent.saved_by_pruning),
            ("early stopping", spent.saved_by_early_stopping),
        )
        if saved
    ]
    return text + (f": {listed(parts)}." if parts else "; nothing was saved by pruning.")


def _failures(facts: Facts) -> str:
    failed = facts.ended(Ending.FAILED)
    if not failed:
        return ""
    reasons = [trial.reason for trial in failed if trial.reason]
    if not reasons:
        return f"{count(len(failed), 'trial')} failed without a stated reason."
    alike = [sameness(reason) for reason in reasons]
    most = max(dict.fromkeys(alike), key=alike.count)
    told = _first_line(reasons[alike.index(most)].message)
    if len(failed) == 1:
        return f"Trial {failed[0].number} failed: {told}"
    return f"The most common failure ({alike.count(most)} of {len(failed)}): {told}"


def _first_line(text: str) -> str:
    line = (text.strip().splitlines() or ["no message"])[0]
    line = line if len(line) <= 200 else line[:197] + "…"
    return line if line.endswith((".", "!", "?", "…")) else line + "."


def recommendation(facts: Facts) -> str:
    """Why the recommended trial is the one; empty while there is none."""
    trial = facts.recommended
    if trial is None:
        return ""
    at = f", at epoch {trial.best_step} of {trial.last_step}" if trial.best_step else ""
    among = count(len(facts.placed), "completed trial")
    if facts.promising is not None and trial.number != facts.promising.number:
        first = facts.promising.number
        return f"Trial {trial.number} held up best with fresh seeds; by first values alone it would be trial {first}."
    if len(facts.goals) == 1:
        return f"Trial {trial.number} has the {superlative(facts.goals[0])} {facts.goals[0].metric} of {among}{at}."
    if len(facts.front) == 1:
        return f"Trial {trial.number} is the whole front: it is at least as good as {among} on every goal{at}."
    where = f"Of the {len(facts.front)} trials on the front, trial {trial.number}"
    if facts.policy == "knee":
        return (
            f"{where} is the knee: the nearest to the ideal point when every goal is scaled "
            f"to its range over the front{at}."
        )
    if isinstance(facts.policy, str):
        goal = next(goal for goal in facts.goals if goal.metric == facts.policy)
        return f"{where} has the {superlative(goal)} {goal.metric}, which the study file picks by{at}."
    weights = listed([f"{name} {weight:g}" for name, weight in facts.policy.items()])
    return f"{where} is the nearest to the ideal point with the study file's weights ({weights}){at}."


def cards(facts: Facts) -> list[Card]:
    """The key figures at the top."""
    finished = [trial for trial in facts.trials if trial.state.is_finished]
    cards = [*_result_cards(facts)]
    states = [
        f"{n} {word}"
        for ending, word in ((Ending.PRUNED, "pruned"), (Ending.FAILED, "failed"), (Ending.RUNNING, "running"))
        if (n := len(facts.ended(ending)))
    ]
    completed = len(facts.ended(Ending.COMPLETE, Ending.EARLY, Ending.TIME_LIMIT))
    cards.append(Card("Trials", f"{len(facts.trials):,}", ", ".join([f"{completed} completed", *states])))
    epochs = sum(trial.last_step for trial in facts.trials)
    less = 1 - facts.spending.run / facts.spending.planned if facts.spending else 0.0
    saved = f"{percent(less)} less than planned" if less > 0 else ""
    cards.append(Card("Epochs run", f"{epochs:,}", saved))
    worked = sum(facts.worked_s.values())
    if worked:
        each = f"{duration(worked / len(finished))} a trial" if finished else ""
        held = costs.total(facts.costs.values())
        if held.gpu_s:
            each += f", {duration(held.gpu_s)} of GPUs"
        cards.append(Card("Time worked", duration(worked), each))
    return cards


def _result_cards(facts: Facts) -> list[Card]:
    best = facts.promising
    if best is None or best.values is None:
        why = "no trial keeps to every constraint" if facts.infeasible else "no completed trial yet"
        return [Card("Best" if len(facts.goals) == 1 else "Front", "–", why)]
    if len(facts.goals) == 1:
        goal = facts.goals[0]
        return [Card(f"Best {with_unit(goal.metric)}", number(best.values[0]), f"trial {best.number}")]
    size = Card("On the front", f"{len(facts.front):,}", f"of {count(len(facts.placed), 'completed trial')}")
    gain = facts.hypervolume.gain_of_last(10)
    note = "" if gain is None else f"last 10 trials: +{percent(gain)}" if gain else "no gain in the last 10 trials"
    return [size, Card("Hypervolume", number(facts.hypervolume.best[-1]), note)]


@dataclass(frozen=True)
class OnTestSet:
    """What the retrained models reached on the test set, beside simpler methods.

    Rows are a metric's name, its mean and spread, then one cell per baseline; the metrics
    of single groups (``test_mae_text``) stand in rows of their own.
    """

    columns: tuple[str, ...]
    overall: tuple[tuple[str, ...], ...]
    by_group: tuple[tuple[str, ...], ...]


def on_test_set(facts: Facts) -> OnTestSet | None:
    """The test figures of the newest retrained trial; None without any."""
    records = facts.snapshot.others.get(RETRAIN, ())
    newest = max(records, key=lambda record: record.number, default=None)
    records = newest_runs(record for record in records if newest and record.subject == newest.subject)
    names = sorted({name for record in records for name in record.metrics if name.startswith("test_")})
    told = {name: row for name in names if (row := _spread_of(name, records))}
    if not told:
        return None
    baselines, sure = baselines_on(facts, "test"), intervals(facts)
    rows = {
        name: (
            name, row, *([sure.get(name, "–")] if sure else []),
            *(number(figures[name]) if name in figures else "–" for figures in baselines.values()),
        )
        for name, row in told.items()
    }  # fmt: skip
    overall, grouped = split_by_group(list(told))
    seeds = count(len(records), "seed")
    return OnTestSet(
        ("metric", f"mean ± std over {seeds}", *(["95 % interval of what ships"] if sure else []), *baselines),
        tuple(rows[name] for name in overall),
        tuple(rows[name] for name in grouped),
    )


def _spread_of(name: str, records: Sequence[TrialRecord]) -> str:
    values = [record.metrics[name] for record in records if math.isfinite(record.metrics.get(name, math.nan))]
    if not values:
        return ""
    return number(mean(values)) + (f" ± {number(stdev(values))}" if len(values) > 1 else "")


def took(facts: Facts) -> str:
    """From the first launch's start to the last one's end, or empty."""
    starts = [launch.started_at for launch in facts.snapshot.launches]
    ends = [launch.ended_at for launch in facts.snapshot.launches if launch.ended_at]
    seconds = seconds_between(min(starts), max(ends)) if starts and ends else None
    return duration(seconds) if seconds is not None else ""
