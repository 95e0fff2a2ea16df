"""What a search and a given list share: running trials, their curves, their end, what becomes of the lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hpo.constraints import violations
from hpo.failures import Streak
from hpo.plan import Plan
from hpo.roles import Listener, Store
from hpo.study.jobs import make_job
from hpo.trial import (
    GO_ON,
    Decision,
    Done,
    Event,
    Goal,
    Job,
    Metrics,
    Outcome,
    Point,
    StopKind,
    StopReason,
    TrialRecord,
    TrialState,
    best_point,
    goal_values,
)

INTERRUPTED = StopReason(StopKind.INTERRUPTED, "asked to stop; goes on when the study is launched again")

FAILURES_IN_A_ROW = 10  # of one kind, after which a launch starts no more trials: something else is wrong
MAX_LOSSES = 3  # workers that may die under a trial in one launch
MAX_DEATHS = 5  # workers and drivers that may die under it in all


class Source:
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


def _after_death(losses: int) -> StopReason:
    """What becomes of a trial whose process ended without a word."""
    if losses < MAX_DEATHS:
        return StopReason(StopKind.LOST, "its process ended without a word; goes on from its last checkpoint")
    return StopReason(StopKind.ERROR, f"its process or worker died under it {losses} times")


def _missing(goals: Sequence[Goal], metrics: Metrics, points: Sequence[Point]) -> str:
    told = []
    for goal in goals:
        if goal_values([goal], metrics) is not None:
            continue
        seen = [point.metrics[goal.metric] for point in points if goal.metric in point.metrics]
        value = metrics.get(goal.metric, seen[-1] if seen else None)
        told.append(f"{goal.metric} was {'never reported' if value is None else value}")
    return f"no usable value for every goal: {', '.join(told)}"
