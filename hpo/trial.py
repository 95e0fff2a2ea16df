"""The plain records that everything else exchanges: goals, jobs, points, outcomes.

Knows no database, no Optuna, no Ray and no PyTorch. Everything here can be pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Integral
from operator import methodcaller
from typing import Any

from hpo.training.health import Rule
from hpo.training.settings import TrainerSettings

Params = dict[str, Any]
Metrics = dict[str, float]

MAX_KIND = 50  # of an event, in characters


class Direction(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True)
class Goal:
    """One metric and the direction in which it is better."""

    metric: str
    direction: Direction = Direction.MINIMIZE

    def is_better(self, value: float, than: float) -> bool:
        """Whether ``value`` beats ``than``; NaN never beats anything and is always beaten."""
        if math.isnan(value):
            return False
        if math.isnan(than):
            return True
        return value < than if self.direction is Direction.MINIMIZE else value > than

    def __str__(self) -> str:
        return f"{self.metric} {'↓' if self.direction is Direction.MINIMIZE else '↑'}"


@dataclass(frozen=True)
class Metric:
    """What an objective says about a number it reports.

    ``once`` marks what is measured once per trial (speed, memory) and not every epoch;
    ``timing`` what depends on the clock, and so cannot be part of a deterministic study.
    """

    direction: Direction = Direction.MINIMIZE
    help: str = ""
    once: bool = False
    timing: bool = False


class TrialState(StrEnum):
    QUEUED = "queued"  # to be run, or run again from its checkpoint
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"

    @property
    def is_finished(self) -> bool:
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class StopKind(StrEnum):
    FINISHED = "finished"  # ran all its epochs
    EARLY = "early_stopped"  # its own metric stopped improving
    TIME_LIMIT = "time_limit"  # its own wall-clock limit
    PRUNED = "pruned"  # the study's pruner said so
    INTERRUPTED = "interrupted"  # asked to stop from outside; can go on later
    LOST = "lost"  # its process or worker died; can go on later
    RETRY = "retry"  # failed, and is taken up again
    OUT_OF_MEMORY = "out_of_memory"  # does not fit on its device, or into its share of it
    ERROR = "error"


_STATE_AFTER = {
    StopKind.FINISHED: TrialState.COMPLETE,
    StopKind.EARLY: TrialState.COMPLETE,
    StopKind.TIME_LIMIT: TrialState.COMPLETE,
    StopKind.PRUNED: TrialState.PRUNED,
    StopKind.INTERRUPTED: TrialState.QUEUED,
    StopKind.LOST: TrialState.QUEUED,
    StopKind.RETRY: TrialState.QUEUED,
    StopKind.OUT_OF_MEMORY: TrialState.FAIL,
    StopKind.ERROR: TrialState.FAIL,
}


@dataclass(frozen=True)
class StopReason:
    """Why a trial ended, as a kind for machines and a sentence for people.

    ``details`` are the facts behind the sentence, for a program: what a pruner judged, and
    against whom (JSON values only). They are no part of what makes two reasons equal.
    """

    kind: StopKind
    message: str
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def state(self) -> TrialState:
        return _STATE_AFTER[self.kind]


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial besides its numbers (a recovery, a warning).

    Raises:
        ValueError: the kind is no text, or too long.
        TypeError: the details are no JSON values. Numbers of NumPy and torch become Python's.
    """

    kind: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not 0 < len(self.kind) <= MAX_KIND:
            raise ValueError(f"An event's kind is a word of at most {MAX_KIND} characters; got {self.kind!r}.")
        object.__setattr__(self, "message", str(self.message))
        object.__setattr__(self, "details", plain(self.details, f"The details of event {self.kind!r}"))


@dataclass(frozen=True)
class Point:
    """What a trial reports at the end of one step (epoch). Steps count from 1.

    ``checkpoint`` is the file, relative to the trial's folder, that was durable before
    this point was sent; None when the step left no checkpoint. ``rewinds`` when the trial
    went back to an earlier checkpoint: what was told of this step and later ones is void.
    """

    step: int
    metrics: Metrics
    checkpoint: str | None = None
    events: tuple[Event, ...] = ()
    rewinds: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. ``metrics`` holds what was measured once, for the whole trial."""

    reason: StopReason
    metrics: Metrics = field(default_factory=dict)
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Decision:
    """The answer to a report: go on (``stop`` is None), or stop for this reason."""

    stop: StopReason | None = None


GO_ON = Decision()


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to run one trial, and the only thing sent to it.

    ``folder`` is the trial's own directory; ``resume`` says whether to look for a
    checkpoint in it. ``monitor`` is the epoch metric that decides the best epoch.
    ``goals`` name, among others, the once-measured metrics that the worker must measure.
    ``report`` says whether the best or the last epoch gives the trial its value and weights.
    ``use_test`` allows reading the test set, which retraining alone may do.
    ``reported`` is the last step that is known already; a checkpoint may be further on.
    ``fold`` (index from 0, of how many) asks for one part of a cross-validation.
    ``mirror`` is a second folder for the checkpoints. ``rules`` say what is healthy.
    ``gpu_share`` is the part of each of its GPUs' memory that it may use.
    ``time_limit_s`` and ``silence_limit_s`` are for the runner, which ends a trial that takes
    longer in all, or that reports nothing for so long, even one that hangs. ``spent_s`` is what
    its earlier attempts took.
    ``import_from`` is a folder appended to ``sys.path`` so that an objective given as
    ``package.module:Class`` beside its study file can be found.
    """

    study: str
    series: str
    number: int
    objective: str
    params: Params
    data: dict[str, Any]
    trainer: TrainerSettings
    goals: tuple[Goal, ...]
    monitor: Goal
    seed: int
    data_seed: int
    epochs: int
    folder: str
    attempt: int = 1
    resume: bool = False
    use_test: bool = False
    deterministic: bool = False
    report: str = "best"
    reported: int = 0
    fold: tuple[int, int] | None = None
    mirror: str | None = None
    rules: tuple[Rule, ...] = ()
    gpu_share: float = 1.0
    time_limit_s: float | None = None
    silence_limit_s: float | None = None
    spent_s: float = 0.0
    import_from: str | None = None


@dataclass(frozen=True)
class Wait:
    """No job right now: ask again after a running trial has reported or finished."""

    reason: str = ""


@dataclass(frozen=True)
class Done:
    """No job will come any more."""

    reason: str


@dataclass(frozen=True)
class TrialRecord:
    """One stored trial, as search, fronts and reports read it.

    ``values`` are in the order of the study's goals, or None unless the trial completed.
    ``violations`` are in the order of its constraints: what is above 0 is broken.
    ``metrics`` joins those of the best step with those measured once. ``points`` is
    filled only where the reader asked for curves.
    """

    number: int
    state: TrialState
    params: Params
    seed: int
    values: tuple[float, ...] | None = None
    metrics: Metrics = field(default_factory=dict)
    best_step: int | None = None
    last_step: int = 0
    reason: StopReason | None = None
    enqueued: bool = False
    attempts: int = 1
    worker: str | None = None
    started_at: str | None = None  # ISO 8601, UTC
    finished_at: str | None = None
    sampler_state: dict[str, Any] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    subject: int | None = None  # the search's trial that this one repeats (confirm, retrain)
    epochs: int = 0  # the horizon it was given
    fold: tuple[int, int] | None = None  # (index, of how many) in a cross-validation
    violations: tuple[float, ...] = ()

    @property
    def is_feasible(self) -> bool:
        """Whether it keeps to every constraint, as far as is known."""
        return all(violation <= 0 for violation in self.violations)


class TrialStopped(BaseException):
    """Unwinds a trial that was told to stop.

    A ``BaseException``, as ``KeyboardInterrupt`` is, so that an objective's own
    ``except Exception`` cannot keep a stopped trial running.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class TrialContext:
    """A trial's only view of the world: who it is, where it may write, and one verb, report.

    The runner supplies ``send``, which delivers a point and brings back the decision, and
    ``stop_requested``, which the trainer looks at between updates.
    """

    def __init__(
        self,
        job: Job,
        send: Callable[[Point], Decision],
        *,
        device: str = "cpu",
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self.job = job
        self.number = job.number
        self.params = job.params
        self.seed = job.seed
        self.folder = job.folder
        self.device = device
        self._send = send
        self._stop_requested = stop_requested
        self._events: list[Event] = []
        self._checkpoint: str | None = None
        self._last_step = 0
        self._rewinds = False

    @property
    def stop_requested(self) -> bool:
        """True once somebody wants this trial to stop at the next step, with a checkpoint."""
        return self._stop_requested()

    def event(self, kind: str, message: str, **details: Any) -> None:
        """Keep a fact; it travels with the next report (or with the outcome)."""
        self._events.append(Event(kind, message, details))

    def checkpoint_saved(self, path: str) -> None:
        """Say that ``path`` (relative to the folder) is durable; call it before ``report``."""
        self._checkpoint = os.fspath(path)

    def rewind(self, step: int) -> None:
        """Say that training goes on after ``step`` again: what was reported of later ones is void."""
        if step < self._last_step:
            self._last_step, self._rewinds = step, True

    def report(self, step: int, /, **metrics: float) -> None:
        """Send the metrics of a finished step: 1, 2, ..., each larger than the one before.

        Raises:
            TrialStopped: the study or the user wants this trial to end. Let it pass.
            ValueError: the step is no whole number above the last one.
        """
        if isinstance(step, bool) or not isinstance(step, Integral) or not self._last_step < step < 2**31:
            raise ValueError(
                f"A step is a whole number of 1 or more, larger than the one before ({self._last_step}); got {step!r}."
            )
        step = self._last_step = int(step)
        numbers = {name: float(value) for name, value in metrics.items()}
        point = Point(step, numbers, self._checkpoint, self.take_events(), self._rewinds)
        self._checkpoint, self._rewinds = None, False
        decision = self._send(point)
        if decision.stop is not None:
            raise TrialStopped(decision.stop)

    def take_events(self) -> tuple[Event, ...]:
        """The events not yet sent; taking them empties the list."""
        events, self._events = tuple(self._events), []
        return events


def plain(value: Any, what: str) -> Any:
    """``value`` as JSON gives it back; a number of another library becomes Python's own.

    Raises:
        TypeError: something in it is no JSON value; ``what`` names it.
    """
    try:
        return json.loads(json.dumps(value, default=methodcaller("item")))
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(f"{what} must be JSON values; got {value!r}.") from error


def derive_seed(*parts: int | str) -> int:
    """A 32-bit seed that depends on every part: ``derive_seed(study_seed, number, "sampler")``."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def best_point(points: Sequence[Point], monitor: Goal, rule: str = "best") -> Point | None:
    """The point whose epoch gives a trial its value: the best by ``monitor``, or the ``last``.

    The earliest of equally good points wins. Points without the monitored metric, or
    where it is NaN, are passed over by ``best``. None when nothing qualifies.
    """
    if rule == "last":
        return points[-1] if points else None
    best: Point | None = None
    for point in points:
        value = point.metrics.get(monitor.metric, math.nan)
        if math.isnan(value):
            continue
        if best is None or monitor.is_better(value, best.metrics[monitor.metric]):
            best = point
    return best


def goal_values(goals: Sequence[Goal], metrics: Mapping[str, float]) -> tuple[float, ...] | None:
    """The vector of goal values, or None when one is missing or not finite."""
    values = [metrics.get(goal.metric, math.nan) for goal in goals]
    return tuple(values) if all(map(math.isfinite, values)) else None
