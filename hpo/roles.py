"""The roles around a study, as protocols: who proposes, who remembers, who runs, who watches.

``hpo.search`` and ``storage`` fulfil theirs without knowing this file; runners and
listeners are written against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hpo.trial import (
    Decision,
    Done,
    Event,
    Job,
    Metrics,
    Outcome,
    Params,
    Point,
    StopKind,
    StopReason,
    TrialRecord,
    Wait,
)


class ProposalRole(Protocol):
    """A new trial's parameters, with what the sampler wants remembered; of the study, None when that is unchanged."""

    @property
    def params(self) -> Params: ...
    @property
    def sampler_state(self) -> dict[str, Any]: ...
    @property
    def search_state(self) -> dict[str, Any] | None: ...


class SearchRole(Protocol):
    """Who proposes trials and judges them while they run."""

    def may_ask(self, number: int) -> bool: ...
    def is_exhausted(self) -> bool: ...
    def propose(self, number: int, fixed: Params | None = None) -> ProposalRole: ...
    def report(self, number: int, point: Point) -> StopReason | None: ...
    def finished(self, record: TrialRecord) -> None: ...


class StoppingRole(Protocol):
    """Who ends a search before its budget is spent."""

    def finished(self, record: TrialRecord) -> None:
        """Take in how a trial ended, those of earlier launches included."""

    def spent(self, number: int) -> str | None:
        """Why trial ``number`` is not to be started any more; None when it is."""


class Store(Protocol):
    """Who remembers: every call is durable when it returns."""

    def records(self, *, points: bool = False) -> list[TrialRecord]: ...
    def ended(self, kind: StopKind) -> dict[int, int]: ...
    def worked_s(self, number: int) -> float: ...
    def start(
        self,
        number: int,
        params: Params,
        *,
        seed: int,
        epochs: int,
        enqueued: bool = False,
        subject: int | None = None,
        fold: tuple[int, int] | None = None,
        sampler_state: Mapping[str, Any] | None = None,
        search_state: Mapping[str, Any] | None = None,
    ) -> TrialRecord: ...
    def restart(self, number: int, attempt: int) -> None: ...
    def add_point(
        self, number: int, point: Point, *, attempt: int, first: bool = False, worker: str | None = None
    ) -> None: ...
    def finish(
        self,
        number: int,
        reason: StopReason,
        *,
        values: Sequence[float] | None,
        metrics: Metrics,
        best_step: int | None,
        attempt: int,
        events: Sequence[Event] = (),
        worker: str | None = None,
        violations: Sequence[float] = (),
    ) -> None: ...


class JobSource(Protocol):
    """What a runner sees: where jobs come from and where their news go."""

    def ask(self) -> Job | Wait | Done: ...
    def report(self, number: int, point: Point) -> Decision: ...
    def finish(self, number: int, outcome: Outcome) -> None: ...
    def working(self, number: int, worker: str) -> None: ...
    def request_stop(self) -> None: ...
    def drain(self) -> None: ...
    @property
    def stop_requested(self) -> bool: ...


class Listener(Protocol):
    """Somebody who watches a study run, such as the live table on the terminal."""

    def started(self, job: Job) -> None: ...
    def reported(self, number: int, point: Point) -> None: ...
    def finished(self, record: TrialRecord) -> None: ...
