"""The use case behind ``hpo rerun``: one trial again, alone, held against what it was, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpo.errors import UserError
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.roles import Listener, Store
from hpo.service.looking import get_trial
from hpo.service.running import MakeListeners
from hpo.session import open_session, stored_plan
from hpo.study import FixedJobs, FixedRun
from hpo.trial import Metric, Point, StopReason, TrialRecord, TrialState
from objectives import registry
from storage.database import Database
from storage.records import RERUN
from storage.studies import Studies


@dataclass(frozen=True)
class Difference:
    """Where a trial and its rerun first differ. ``step`` None: a metric that is measured once.

    ``was`` and ``now`` are None where one of the two has no such value.
    """

    step: int | None
    metric: str
    was: float | None
    now: float | None


@dataclass(frozen=True)
class Rerun:
    """A trial, its rerun, and what was found between them.

    ``compared`` metrics were held against each other; ``left_out`` depend on the clock.
    """

    study: str
    trial: TrialRecord
    again: TrialRecord
    difference: Difference | None
    compared: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        return self.difference is None and self.again.state is self.trial.state


class _Again(FixedJobs):
    """One run of a known trial, which ends where a pruner ended the trial."""

    def __init__(
        self, plan: Plan, store: Store, folder: str, trial: TrialRecord, listeners: Sequence[Listener]
    ) -> None:
        wanted = [FixedRun(trial.number, trial.params, trial.seed)]
        super().__init__(plan, store, folder, RERUN, wanted, epochs=trial.epochs, anew=True, listeners=listeners)
        self._trial = trial

    def _judge(self, number: int, point: Point) -> StopReason | None:
        is_there = self._trial.state is TrialState.PRUNED and point.step >= self._trial.last_step
        return self._trial.reason if is_there else None


def rerun(
    storage: str,
    name: str,
    number: int,
    *,
    runner: str | None = None,
    ray_address: str | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
) -> Rerun | None:
    """Run a trial of a study's search again, with its parameters and its seed, and compare.

    Every time anew; only a rerun that was interrupted goes on. The record stays in the
    series ``rerun``. None when interrupted.

    Raises:
        StorageError, UnknownName: there is no such database or study.
        UserError: no such trial, or it has not ended; the data changed; the study is being run.
    """
    interrupt = interrupt or Interrupt()
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        trial = get_trial(studies.snapshot(name), number)
        if not trial.state.is_finished:
            raise UserError(
                f"Trial {number} of {name!r} is {trial.state}; only one that has ended can be held against."
            )
        plan = stored_plan(study)
        with open_session(database, studies, study, plan, runner, 1, interrupt, ray_address) as session:
            session = replace(session, listeners=(*session.listeners, *listeners(plan, ())))
            store = studies.trials(study, RERUN, session.launch)
            source = _Again(plan, store, study.folder, trial, session.listeners)
            session.run(source)
        if interrupt.requested:
            return None
        metrics = registry.find(plan.spec.objective, plan.import_from).metrics_for(plan.data)
        return compare(name, trial, source.results()[0], metrics)


def compare(study: str, trial: TrialRecord, again: TrialRecord, metrics: Mapping[str, Metric]) -> Rerun:
    """Two runs step by step, then what was measured once; timings are left out, NaN equals NaN.

    ``metrics`` are those that the objective declares; of others nobody says that they are timings.
    """
    reported = {name for record in (trial, again) for point in record.points for name in point.metrics}
    names = reported | set(trial.metrics) | set(again.metrics)
    timings = {name for name in names if name in metrics and metrics[name].timing}
    compared = sorted(names - timings)
    return Rerun(study, trial, again, _first(trial, again, compared), tuple(compared), tuple(sorted(timings)))


def _first(trial: TrialRecord, again: TrialRecord, names: Sequence[str]) -> Difference | None:
    was = {point.step: point.metrics for point in trial.points}
    now = {point.step: point.metrics for point in again.points}
    rows = [(step, was.get(step, {}), now.get(step, {})) for step in sorted(was.keys() | now.keys())]
    for step, left, right in [*rows, (None, trial.metrics, again.metrics)]:
        for name in names:
            if not _equal(left.get(name), right.get(name)):
                return Difference(step, name, left.get(name), right.get(name))
    return None


def _equal(was: float | None, now: float | None) -> bool:
    if was is None or now is None:
        return was is now
    return was == now or (math.isnan(was) and math.isnan(now))
