"""The verbs of a study over a given list: confirmations, retrain seeds, folds, reruns."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from hpo.plan import Plan
from hpo.roles import Listener, Store
from hpo.study.source import Source
from hpo.trial import (
    Done,
    Job,
    Params,
    TrialRecord,
    TrialState,
    Wait,
)


@dataclass(frozen=True)
class FixedRun:
    """A wanted run of known parameters, and the seed it gets.

    ``subject`` is the search's trial that it repeats; None when the parameters are
    nobody's. ``fold`` (index from 0, of how many) makes it one part of a cross-validation.
    """

    subject: int | None
    params: Params
    seed: int
    fold: tuple[int, int] | None = None


class FixedJobs(Source):
    """A given list of runs of known parameters: confirmations, retrain seeds, folds.

    What the store already holds finished is not run again, unless it is wanted ``anew``.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        folder: str,
        series: str,
        wanted: Sequence[FixedRun],
        *,
        epochs: int,
        use_test: bool = False,
        anew: bool = False,
        listeners: Sequence[Listener] = (),
    ) -> None:
        super().__init__(plan, store, folder, series, listeners)
        self._epochs = epochs
        self._use_test = use_test
        records = self.resume()
        self._next = len(records)
        self._keys = [_key(run) for run in wanted]
        mine = [r for r in records if _key(r) in self._keys and r.epochs == epochs]
        self._queued = [r for r in self._queued if r in mine]
        settled = {_key(r) for r in (self._queued if anew else mine) if r.state is not TrialState.FAIL}
        self._wanted = [run for run in wanted if _key(run) not in settled]

    def ask(self) -> Job | Wait | Done:
        if asked := self._asked_to_stop():
            return asked
        if self._queued:
            return self._again()
        if spent := self._streak.spent(self._next):
            return Done(spent)
        if not self._wanted:
            return Done("all runs have been started")
        run = self._wanted.pop(0)
        number, self._next = self._next, self._next + 1
        record = self._store.start(
            number, run.params, seed=run.seed, epochs=self._epochs, subject=run.subject, fold=run.fold
        )
        return self._run(record, self._job(record))

    def results(self) -> list[TrialRecord]:
        """The newest finished run of each wanted entry, in the order they were given."""
        found: dict[Hashable, TrialRecord] = {}
        for record in self._store.records(points=True):
            if record.epochs == self._epochs and record.state.is_finished:
                found[_key(record)] = record
        return [found[key] for key in self._keys if key in found]

    def _job(self, record: TrialRecord, *, resume: bool = False) -> Job:
        return replace(super()._job(record, resume=resume), use_test=self._use_test)


def _key(run: FixedRun | TrialRecord) -> Hashable:
    """What makes two runs the same; a subject stands for its parameters."""
    params = json.dumps(run.params, sort_keys=True) if run.subject is None else ""
    return run.subject, params, run.seed, run.fold
