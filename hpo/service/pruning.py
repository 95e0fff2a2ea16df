"""The use case behind ``hpo why``: how one trial of a search ended, and what it was judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo import costs
from hpo.costs import Cost
from hpo.service.looking import get_trial, snapshot
from hpo.trial import Goal, StopKind, TrialRecord, TrialState
from storage.records import SEARCH, AttemptRecord, EventRecord


@dataclass(frozen=True)
class Why:
    """How a trial ended.

    ``judged`` are the facts of its pruning (``hpo.search.pruners.judge.Verdict.details``);
    None where it was not pruned, or by a program that kept none.
    """

    study: str
    goals: tuple[Goal, ...]
    trial: TrialRecord
    judged: Mapping[str, Any] | None
    attempts: tuple[AttemptRecord, ...]
    events: tuple[EventRecord, ...]
    cost: Cost  # over all its attempts


def why(storage: str, name: str, number: int) -> Why:
    """Why a trial of a study's search ended.

    Raises:
        StorageError, UnknownName, UserError: there is no such database, study or trial.
    """
    found = snapshot(storage, name)
    trial = get_trial(found, number)
    events = [event for event in found.events if (event.series, event.number) == (SEARCH, number)]
    judged = [event.details for event in events if event.kind == StopKind.PRUNED and "rule" in event.details]
    return Why(
        name,
        found.study.goals,
        trial,
        judged[-1] if judged and trial.state is TrialState.PRUNED else None,
        tuple(attempt for attempt in found.attempts if attempt.number == number),
        tuple(event for event in events if event.kind != StopKind.PRUNED),
        costs.of_trials(found).get(number, Cost()),
    )
