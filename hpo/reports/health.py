"""How healthy a study's runs were: which rules warned, the flags of the chosen runs, and what was recovered from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo.reports.facts import Facts
from hpo.reports.warnings import FLAGS, TROUBLES, health_warning
from hpo.reports.wording import clock, count, listed, number
from storage.records import RETRAIN, SEARCH, EventRecord

_MOST_NAMED = 12  # trials named in a cell
_MOST_TROUBLES = 200

_NOUNS = {  # one, many
    "recovery": ("recovery", "recoveries"),
    "checkpoint_failed": ("checkpoint that could not be written", "checkpoints that could not be written"),
    "mirror_failed": ("copy that did not reach the mirror", "copies that did not reach the mirror"),
    "broken_checkpoint": ("broken checkpoint", "broken checkpoints"),
}


@dataclass(frozen=True)
class Warned:
    """One rule, over all trials of the search: who it warned of, and its newest message there."""

    rule: str
    n_trials: int
    which: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Flag:
    """How a rule stood at the end of one run; ``is_fine``: met, or a warning that does not hold."""

    is_fine: bool
    value: str


@dataclass(frozen=True)
class FlagTable:
    """Rules by runs; a run that a rule does not apply to has None there."""

    runs: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Flag | None, ...]], ...]  # rule, what is wished, one flag per run


@dataclass(frozen=True)
class Health:
    """The section, in reading order."""

    sentence: str
    warned: tuple[Warned, ...]
    flags: FlagTable | None
    troubles: tuple[tuple[str, str, str, str], ...]  # when, whose, what, how it was handled
    troubles_sentence: str
    troubles_hidden: int


def health(facts: Facts) -> Health | None:
    """The section on health; None where nothing was watched and nothing went wrong."""
    events = sorted(facts.snapshot.events, key=lambda event: event.at)
    judged = [event for event in events if event.kind == FLAGS or health_warning(event.kind, event.details)]
    troubles = [event for event in events if event.kind in TROUBLES]
    if not judged and not troubles:
        return None
    warned = _warned(events)
    kept = troubles[-_MOST_TROUBLES:]
    return Health(
        _sentence(facts, events, warned) if judged else "",
        warned,
        _flags(facts, events),
        tuple((clock(event.at), _whose(event), TROUBLES[event.kind], event.message) for event in kept),
        _troubles_sentence(troubles),
        len(troubles) - len(kept),
    )


def _warned(events: Iterable[EventRecord]) -> tuple[Warned, ...]:
    by_rule: dict[str, dict[int, EventRecord]] = {}
    for event in events:
        rule = health_warning(event.kind, event.details)
        if rule is not None and event.series == SEARCH and event.number is not None:
            by_rule.setdefault(rule, {})[event.number] = event
    rows = []
    for rule, found in by_rule.items():
        newest = found[max(found)]
        rows.append(Warned(rule, len(found), _named(found), newest.message, str(newest.details.get("remedy", ""))))
    return tuple(sorted(rows, key=lambda row: (-row.n_trials, row.rule)))


def _named(numbers: Iterable[int]) -> str:
    names = [f"trial {number}" for number in sorted(numbers)]
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return listed([*names[:_MOST_NAMED], *more])


def _sentence(facts: Facts, events: Iterable[EventRecord], warned: Sequence[Warned]) -> str:
    n_trials = len({event.number for event in events if event.series == SEARCH and _warns(event)})
    if not warned:
        return f"None of {count(len(facts.trials), 'trial')} raised a warning."
    most = warned[0]
    text = f"{n_trials:,} of {count(len(facts.trials), 'trial')} raised a warning"
    if len(warned) > 1:
        text += f", most often {most.rule.replace('_', ' ')} ({most.n_trials:,})"
    return text + ". A warning stops nothing: it says where to look."


def _warns(event: EventRecord) -> bool:
    return health_warning(event.kind, event.details) is not None


def _flags(facts: Facts, events: Iterable[EventRecord]) -> FlagTable | None:
    """The flags of the recommended trial and of the retrained runs of the newest retraining."""
    last = {(event.series, event.number): event for event in events if event.kind == FLAGS}
    wanted: list[tuple[str, str, int]] = []
    if facts.recommended is not None:
        wanted.append((f"trial {facts.recommended.number}", SEARCH, facts.recommended.number))
    wanted += [(f"retrained, run {n}", RETRAIN, n) for n in _newest_retrained(facts)]
    shown = [(name, last[series, n].details.get("flags", [])) for name, series, n in wanted if (series, n) in last]
    rules: dict[str, str] = {}
    for _, flags in shown:
        rules.update({flag["rule"]: _wish(flag["condition"], flag["good"]) for flag in flags})
    if not rules:
        return None
    cells = [{f["rule"]: Flag(bool(f["holds"]) is bool(f["good"]), number(f["value"])) for f in fs} for _, fs in shown]
    rows = tuple((rule, wish, tuple(found.get(rule) for found in cells)) for rule, wish in rules.items())
    return FlagTable(tuple(name for name, _ in shown), rows)


def _wish(condition: str, good: bool) -> str:
    return condition if good else f"not: {condition}"


def _newest_retrained(facts: Facts) -> list[int]:
    records = facts.snapshot.others.get(RETRAIN, ())
    if not records:
        return []
    subject = max(records, key=lambda record: record.number).subject
    return sorted(record.number for record in records if record.subject == subject)


def _whose(event: EventRecord) -> str:
    if event.number is None:
        return "study"
    return f"trial {event.number}" if event.series == SEARCH else f"{event.series} run {event.number}"


def _troubles_sentence(troubles: Sequence[EventRecord]) -> str:
    if not troubles:
        return ""
    kinds = [event.kind for event in troubles]
    told = [count(kinds.count(kind), *words) for kind, words in _NOUNS.items() if kind in kinds]
    said = listed(told)
    return f"{said[0].upper()}{said[1:]}. Each was handled: the trial went on, or ended with its reason."
