"""A study while it runs: ask · report · finish · resume. And the same verbs over a given list.

Knows neither Optuna nor SQL nor Ray: it speaks to a ``SearchRole`` and a ``Store``, and is
spoken to by a runner through ``JobSource``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpo.constraints import violations
from hpo.failures import Streak
from hpo.plan import Plan
from hpo.roles import Listener, SearchRole, StoppingRole, Store
from hpo.trial import (
    GO_ON,
    Decision,
    Done,
    Event,
    Goal,
    Job,
    Metrics,
    Outcome,
    Params,
    Point,
    StopKind,
    StopReason,
    TrialRecord,
    TrialState,
    Wait,
    best_point,
    derive_seed,
    goal_values,
)

INTERRUPTED = StopReason(StopKind.INTERRUPTED, "asked to stop; goes on when the study is launched again")

FAILURES_IN_A_ROW = 10  # of one kind, after which a launch starts no more trials: something else is wrong
MAX_LOSSES = 3  # workers that may die under a trial in one launch
MAX_DEATHS = 5  # workers and drivers that may die under it in all


class _Source:
    """What a search and a given list share: running trials, their curves, their end.

    Args:
        folder: holds one folder per trial.
    """

    def __init__(self, plan: Plan, store: Store, folder: str, series: str, listeners: Sequence[Listener] = ()) -> None:
        self._plan = plan
        self._store = store
        self._folder = Path(folder)
        self._series = series
        self._listeners = listeners
        self._running: dict[int, TrialRecord] = {}
        self._curves: dict[int, dict[int, Point]] = {}
        self._queued: list[TrialRecord] = []
        self._heard: set[int] = set()  # who has reported in its present attempt
        self._losses: dict[int, int] = {}
        self._retries: dict[int, int] = {}  # how often a failed trial was taken up again, in all launches
        self._workers: dict[int, str] = {}  # who began a trial and has not reported yet
        self._stop_requested = False
        self._is_draining = False
        self._is_deterministic = plan.spec.deterministic
        self._marked: set[int] = set()  # those that are known to break the promise of a deterministic study
        self._streak = self._new_streak()

    @property
    def stop_requested(self) -> bool:
        return self._stop_requested

    def request_stop(self) -> None:
        """Start nothing more; stop what runs at its next step, with a checkpoint."""
        self._stop_requested = True

    def drain(self) -> None:
        """Start nothing more; what runs goes on to its end."""
        self._is_draining = True

    def working(self, number: int, worker: str) -> None:
        """Note who runs a trial; kept with what it reports next, which saves a transaction."""
        self._workers[number] = worker

    def report(self, number: int, point: Point) -> Decision:
        """Keep a step (durably, before anybody judges it) and answer go on or stop."""
        record, curve = self._running[number], self._curves[number]
        point = replace(point, events=self._with_mark(number, point.events))
        first = number not in self._heard
        self._store.add_point(
            number, point, attempt=record.attempts, first=first, worker=self._workers.pop(number, None)
        )
        if first or point.rewinds:
            # What was done after this step, before a crash or a recovery, is void.
            self._heard.add(number)
            for step in [step for step in curve if step >= point.step]:
                del curve[step]
        curve[point.step] = point
        for listener in self._listeners:
            listener.reported(number, point)
        stop = self._judge(number, point)
        if stop is None and self._stop_requested:
            stop = INTERRUPTED
        return Decision(stop) if stop else GO_ON

    def finish(self, number: int, outcome: Outcome) -> None:
        """End a trial's attempt and keep what it came to."""
        record = self._running[number]
        points = tuple(point for _, point in sorted(self._curves[number].items()))
        best = best_point(points, self._plan.monitor, self._plan.spec.report)
        metrics = {**(best.metrics if best else {}), **outcome.metrics}
        reason, values = self._taken_up(number, outcome.reason), None
        if reason.state is TrialState.COMPLETE:
            values = goal_values(self._plan.goals, metrics)
            if values is None:
                reason = StopReason(StopKind.ERROR, _missing(self._plan.goals, metrics, points))
        broken = violations(self._plan.constraints, metrics) if values is not None else ()
        events = self._with_mark(number, outcome.events, reason)
        if reason.kind is StopKind.RETRY:
            events = (*events, Event("retry", reason.message, {"attempt": record.attempts}))
        if reason.details:
            events = (*events, Event(reason.kind, reason.message, dict(reason.details)))
        self._store.finish(
            number, reason, values=values, metrics=metrics, best_step=best.step if best else None,
            attempt=record.attempts, events=events, worker=self._workers.pop(number, None), violations=broken,
        )  # fmt: skip
        # Only now: had the store refused, the trial would still be running.
        del self._running[number], self._curves[number]
        self._heard.discard(number)
        ended = replace(
            record, state=reason.state, reason=reason, values=values, metrics=metrics,
            best_step=best.step if best else None, last_step=points[-1].step if points else 0, points=points,
            violations=broken,
        )  # fmt: skip
        self._ended(ended)
        if ended.state is TrialState.QUEUED and not self._stop_requested:
            self._queued.append(ended)
        for listener in self._listeners:
            listener.finished(ended)

    def resume(self) -> list[TrialRecord]:
        """Settle what an earlier process left: what it was running is queued again.

        Returns the records of all trials, with their points.
        """
        records, losses = self._store.records(points=True), self._store.ended(StopKind.LOST)
        self._retries = self._store.ended(StopKind.RETRY)
        for i, record in enumerate(records):
            if record.state is TrialState.RUNNING:
                reason = _after_death(losses.get(record.number, 0) + 1)
                self._store.finish(
                    record.number, reason, values=None, metrics=record.metrics, best_step=None, attempt=record.attempts
                )
                records[i] = record = replace(record, state=reason.state, reason=reason)
            if record.state is TrialState.QUEUED:
                self._queued.append(record)
        return records

    def _taken_up(self, number: int, reason: StopReason) -> StopReason:
        """The reason as it is, or as it becomes because the trial is taken up again, or no longer is."""
        if reason.kind is StopKind.ERROR:
            return self._after_error(number, reason)
        if reason.kind is not StopKind.LOST and (reason.kind is not StopKind.INTERRUPTED or self._stop_requested):
            return reason
        self._losses[number] = self._losses.get(number, 0) + 1
        if self._losses[number] < MAX_LOSSES:
            return reason
        return StopReason(StopKind.ERROR, f"lost its worker {MAX_LOSSES} times; the last time: {reason.message}")

    def _after_error(self, number: int, reason: StopReason) -> StopReason:
        """A trial that failed is taken up again as often as ``limits.failures`` allows."""
        allowed, before = self._plan.spec.limits.failures, self._retries.get(number, 0)
        if before < allowed:
            self._retries[number] = before + 1
            again = f"goes on from its last checkpoint, time {before + 1} of {allowed}"
            return StopReason(StopKind.RETRY, f"{reason.message}; {again}")
        if not before:
            return reason
        return StopReason(StopKind.ERROR, f"failed {before + 1} times; the last time: {reason.message}")

    def _with_mark(self, number: int, events: tuple[Event, ...], reason: StopReason | None = None) -> tuple[Event, ...]:
        """``events``, and one more when a deterministic study can no longer promise this trial."""
        is_short = reason is not None and reason.kind is StopKind.OUT_OF_MEMORY
        is_changed = is_short or any(event.kind == "recovery" for event in events)
        if not self._is_deterministic or not is_changed or number in self._marked:
            return events
        self._marked.add(number)
        what = "it ran out of memory" if is_short else "it recovered"
        return (*events, Event("promise_broken", f"{what}, which need not happen again when the study is repeated"))

    def _judge(self, number: int, point: Point) -> StopReason | None:
        return None

    def _ended(self, record: TrialRecord) -> None:
        self._streak.finished(record)

    def _new_streak(self) -> Streak:
        return Streak(max(FAILURES_IN_A_ROW, 3 * self._plan.spec.concurrency))

    def _asked_to_stop(self) -> Done | None:
        return Done("asked to stop") if self._stop_requested or self._is_draining else None

    def _run(self, record: TrialRecord, job: Job) -> Job:
        self._running[record.number] = record
        self._curves[record.number] = {point.step: point for point in record.points}
        for listener in self._listeners:
            listener.started(job)
        return job

    def _again(self) -> Job:
        """The first queued trial, from its checkpoint."""
        record = self._queued.pop(0)
        record = replace(record, state=TrialState.RUNNING, attempts=record.attempts + 1)
        spent_s = self._store.worked_s(record.number) if self._plan.spec.limits.time is not None else 0.0
        self._store.restart(record.number, record.attempts)
        return self._run(record, replace(self._job(record, resume=True), spent_s=spent_s))

    def _job(self, record: TrialRecord, *, resume: bool = False) -> Job:
        return make_job(self._plan, record, self._series, self._folder, resume=resume)


class Study(_Source):
    """A search: trials come from ``search`` until the budget is spent.

    ``over`` is why it ended before that; None while it has not.
    """

    over: str | None = None

    def __init__(
        self,
        plan: Plan,
        store: Store,
        folder: str,
        make_search: Callable[[Sequence[TrialRecord]], SearchRole],
        listeners: Sequence[Listener] = (),
        stopping: StoppingRole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(plan, store, folder, "search", listeners)
        self._clock = clock
        self._deadline = clock() + plan.spec.budget.timeout if plan.spec.budget.timeout else None
        records = self.resume()
        self._next = len(records)
        # Points once enqueued stay in their order, so those appended later come next.
        self._enqueued = sum(record.enqueued for record in records)
        self._search = make_search(records)
        self._stopping = stopping
        if stopping is not None:
            for record in sorted(records, key=lambda record: record.finished_at or ""):  # in the order they ended
                stopping.finished(record)

    def ask(self) -> Job | Wait | Done:
        """The next job; Wait while others must report first; Done when none will come."""
        if asked := self._asked_to_stop():
            return asked
        if len(self._running) >= self._plan.spec.concurrency:
            return Wait("as many trials as the study's concurrency are running")
        if self._queued:
            return self._again()
        if spent := self._budget_spent():
            return Done(spent)
        if not self._search.may_ask(self._next):
            return Wait("deterministic: an earlier trial must end first")
        # Only now: what these look at must have ended, or the end would depend on who was faster.
        self.over = self._why_over()
        if self.over is not None:
            return Done(self.over)
        return self._new()

    def _budget_spent(self) -> str | None:
        budget = self._plan.spec.budget
        if budget.trials is not None and self._next >= budget.trials:
            return f"all {budget.trials} trials have been started"
        if self._deadline is not None and self._clock() >= self._deadline:
            return f"the time limit of {budget.timeout:g} s has passed"
        return None

    def _why_over(self) -> str | None:
        """Why the trials so far are a reason to start no other."""
        if self._enqueued >= len(self._plan.first_points) and self._search.is_exhausted():
            return "every point of the space has been tried"
        if spent := self._streak.spent(self._next):
            return spent
        return self._stopping.spent(self._next) if self._stopping else None

    def _new_streak(self) -> Streak:
        usual = super()._new_streak()
        return usual if not self._is_deterministic else Streak(usual.limit, self._plan.spec.concurrency)

    def _new(self) -> Job:
        number, spec, first = self._next, self._plan.spec, self._plan.first_points
        fixed = first[self._enqueued] if self._enqueued < len(first) else None
        proposal = self._search.propose(number, fixed)
        record = self._store.start(
            number, proposal.params, seed=derive_seed(spec.seed, number, "trial"), epochs=spec.budget.epochs,
            enqueued=fixed is not None, sampler_state=proposal.sampler_state, search_state=proposal.search_state,
        )  # fmt: skip
        self._next += 1
        self._enqueued += fixed is not None
        return self._run(record, self._job(record))

    def _judge(self, number: int, point: Point) -> StopReason | None:
        return self._search.report(number, point)

    def _ended(self, record: TrialRecord) -> None:
        super()._ended(record)
        self._search.finished(record)
        if self._stopping is not None:
            self._stopping.finished(record)


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


class FixedJobs(_Source):
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


def _after_death(losses: int) -> StopReason:
    """What becomes of a trial whose process ended without a word."""
    if losses < MAX_DEATHS:
        return StopReason(StopKind.LOST, "its process ended without a word; goes on from its last checkpoint")
    return StopReason(StopKind.ERROR, f"its process or worker died under it {losses} times")


def trial_folder(folder: Path, series: str, number: int) -> Path:
    """Where a trial of a series keeps its files; ``folder`` is the study's."""
    return folder / trial_name(series, number)


def trial_name(series: str, number: int) -> str:
    """What that folder is called, here and in a mirror."""
    return f"{series}-{number:05d}"


def make_job(plan: Plan, record: TrialRecord, series: str, folder: Path, *, resume: bool = False) -> Job:
    """What a worker gets for a trial; the same trial always gets the same."""
    return Job(
        study=plan.name,
        series=series,
        number=record.number,
        objective=plan.spec.objective,
        params=record.params,
        data=plan.data,
        trainer=plan.job_trainer,
        goals=plan.goals,
        monitor=plan.monitor,
        seed=record.seed,
        data_seed=plan.spec.seed,
        epochs=record.epochs,
        folder=str(trial_folder(folder, series, record.number)),
        attempt=record.attempts,
        resume=resume,
        reported=record.last_step,
        fold=record.fold,
        mirror=None if plan.mirror is None else str(plan.mirror / trial_name(series, record.number)),
        rules=plan.rules,
        deterministic=plan.spec.deterministic,
        gpu_share=plan.gpu_share,
        time_limit_s=plan.spec.limits.time,
        silence_limit_s=plan.spec.limits.silence,
        report=plan.spec.report,
        import_from=plan.import_from,
    )


def _missing(goals: Sequence[Goal], metrics: Metrics, points: Sequence[Point]) -> str:
    told = []
    for goal in goals:
        if goal_values([goal], metrics) is not None:
            continue
        seen = [point.metrics[goal.metric] for point in points if goal.metric in point.metrics]
        value = metrics.get(goal.metric, seen[-1] if seen else None)
        told.append(f"{goal.metric} was {'never reported' if value is None else value}")
    return f"no usable value for every goal: {', '.join(told)}"
