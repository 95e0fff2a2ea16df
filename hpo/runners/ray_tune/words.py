"""What a worker says, and what it is answered. Knows no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.trial import Decision, Job, Outcome, Point, StopReason


@dataclass(frozen=True)
class Here:
    """A worker is there, and free. ``where`` is its host and process."""

    where: str


@dataclass(frozen=True)
class Ended:
    """A worker's job is over, and the worker is free."""

    outcome: Outcome


@dataclass(frozen=True)
class Gone:
    """There is no such worker any more; ``reason`` when it is known, and its job's doing."""

    reason: StopReason | None = None


Word = Here | Point | Ended | Gone
Answer = Job | Decision  # to a free worker, and to one that has reported
