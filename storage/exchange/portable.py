"""A study as it travels: finished trials, and as much of the rest as every form can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpo.errors import DataError, UnknownName
from hpo.trial import Direction, Goal, Metrics, Params, StopKind, StopReason, TrialState
from search_spaces import SearchSpace

_UNTOLD = {
    TrialState.COMPLETE: StopReason(StopKind.FINISHED, "completed elsewhere"),
    TrialState.PRUNED: StopReason(StopKind.PRUNED, "pruned elsewhere"),
    TrialState.FAIL: StopReason(StopKind.ERROR, "failed elsewhere"),
}


@dataclass(frozen=True)
class PortableTrial:
    """A finished trial.

    ``values`` are in the order of the study's goals, and only a COMPLETE trial has them; unlike
    those of a trial run here, they may be infinite. ``metrics`` holds all that is known of
    it as a whole, the goals among them. ``curve`` is by step. ``attributes`` are the user's
    own (JSON values). ``violations`` are by constraint, above 0 where it is broken. Times
    are ISO 8601 in UTC.
    """

    state: TrialState
    params: Params
    values: tuple[float, ...] | None = None
    metrics: Metrics = field(default_factory=dict)
    curve: Mapping[int, Metrics] = field(default_factory=dict)
    reason: StopReason | None = None
    best_step: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def ending(self) -> StopReason:
        """Why it stopped, in words that claim no more than its state where nothing was told."""
        return self.reason or _UNTOLD[self.state]

    @property
    def last_step(self) -> int:
        return max(self.curve, default=0)


@dataclass(frozen=True)
class PortableStudy:
    """Finished trials in number order, and what is known of their study.

    ``notes`` say what was assumed; ``left_out`` counts what had no place, by a phrase that
    follows its number ("trials that had not finished").
    """

    name: str
    goals: tuple[Goal, ...]
    space: SearchSpace
    trials: tuple[PortableTrial, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)


def state_of(word: object, where: str) -> TrialState | None:
    """The state that ``word`` names, as hpo or Optuna spell it; None for one that is no end.

    Raises:
        DataError: it is no state.
    """
    text = str(word).lower().removeprefix("trialstate.")
    if text in ("waiting", TrialState.QUEUED, TrialState.RUNNING):
        return None
    try:
        return TrialState(text)
    except ValueError:
        raise DataError(f"{where}: a state is complete, pruned or fail; got {word!r}.") from None


def goals_of(names: list[str], maximize: tuple[str, ...]) -> tuple[Goal, ...]:
    """Goals of a source that does not say which way each is better.

    Raises:
        DataError: a name in ``maximize`` is none of them.
    """
    for name in maximize:
        if name not in names:
            raise DataError(f"--maximize: there is no value {name!r}; there is {', '.join(names) or 'none'}.")
    return tuple(Goal(n, Direction.MAXIMIZE if n in maximize else Direction.MINIMIZE) for n in names)


def chosen(names: list[str], name: str | None) -> str:
    """The study to read: ``name``, or the only one there is.

    Raises:
        UnknownName: there is none of that name. DataError: ``name`` is needed to choose.
    """
    if name is not None and name in names:
        return name
    if name is None and len(names) == 1:
        return names[0]
    if name is None and names:
        raise DataError(f"The source holds several studies; choose one with --study: {', '.join(sorted(names))}.")
    raise UnknownName("study", name or "", names)
