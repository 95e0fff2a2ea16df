"""What failed, by kind, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from hpo.failures import sameness
from hpo.reports.facts import Ending, Facts
from hpo.reports.wording import count, listed
from hpo.trial import StopKind, StopReason, TrialRecord

_MOST_KINDS = 10
_MOST_NAMED = 6
_MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Failure:
    """One kind of failure: how often, whose, what the latest one said, and what usually helps."""

    n_trials: int
    which: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Failed:
    """The section; ``commands`` are what to type next, and what each does."""

    sentence: str
    kinds: tuple[Failure, ...]
    commands: tuple[tuple[str, str], ...]


def failed(facts: Facts) -> Failed | None:
    """None where nothing failed."""
    trials = facts.ended(Ending.FAILED)
    if not trials:
        return None
    alike: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        alike.setdefault(sameness(trial.reason) if trial.reason else "", []).append(trial)
    kinds = sorted(alike.values(), key=lambda same: -len(same))
    return Failed(_sentence(facts, kinds), tuple(map(_failure, kinds[:_MOST_KINDS])), _commands(facts, kinds[0][-1]))


def _sentence(facts: Facts, kinds: list[list[TrialRecord]]) -> str:
    n = sum(map(len, kinds))
    whose = "Every trial" if n == len(facts.trials) and n > 1 else f"{n:,} of {count(len(facts.trials), 'trial')}"
    text = f"{whose} failed"
    if len(kinds) > 1:
        shown = f"; the {_MOST_KINDS} most common are listed" if len(kinds) > _MOST_KINDS else ""
        return f"{text}, in {len(kinds):,} different ways{shown}."
    return text + (", each in the same way." if n > 1 else ".")


def _failure(same: list[TrialRecord]) -> Failure:
    reason = same[-1].reason
    message = reason.message.strip() if reason else ""
    lines = message.splitlines() or ["no reason was kept"]
    # A traceback's last line is the error; where the reason leads with the error it is the first one.
    first = lines[0] if len(lines[0]) <= _MOST_CHARACTERS else lines[0][: _MOST_CHARACTERS - 1] + "…"
    names = [f"trial {trial.number}" for trial in same]
    more = [f"{len(names) - _MOST_NAMED:,} more"] if len(names) > _MOST_NAMED else []
    return Failure(len(same), listed([*names[:_MOST_NAMED], *more]), first, _remedy(reason))


def _remedy(reason: StopReason | None) -> str:
    if reason is None:
        return "Run one again and look."
    text = reason.message.lower()
    if reason.kind is StopKind.OUT_OF_MEMORY or "out of memory" in text:
        return "A smaller batch or model in the space, fewer trials at once on a device, or a constraint on memory."
    if "finite" in text or "nan" in text.split():
        return "A lower upper end of the learning rate, gradient clipping, or full precision."
    if "modulenotfounderror" in text or "importerror" in text:
        return "Install what is missing in the workers' environment; hpo check tells before a launch."
    if "filenotfounderror" in text or "no such file" in text:
        return "The path must exist where the workers run."
    if reason.kind is StopKind.TIME_LIMIT or "silen" in text or "timed out" in text:
        return "A longer limit, or fewer trials at once."
    return "The message names the place; run one trial again alone to look closer."


def _commands(facts: Facts, trial: TrialRecord) -> tuple[tuple[str, str], ...]:
    name = shlex.quote(facts.snapshot.study.name)
    return (
        (f"hpo why {name} {trial.number}", "the whole message of one of them"),
        (f"hpo rerun {name} --trial {trial.number}", "runs it again, with its seed"),
        ("hpo check study.yaml", "tries one batch before anything is launched"),
    )
