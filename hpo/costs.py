"""What the work on a study cost, from its records: seconds, and seconds times the devices that were held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from storage import codec
from storage.records import SEARCH, AttemptRecord, Snapshot


@dataclass(frozen=True)
class Cost:
    """Work, pauses between attempts left out.

    ``seconds`` of wall-clock time, summed over trials that ran side by side. ``gpu_s`` are those
    times the GPUs that a trial held; where it held none, ``cpu_s`` are those times its CPUs.
    """

    seconds: float = 0.0
    gpu_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.gpu_s + other.gpu_s, self.cpu_s + other.cpu_s)

    @property
    def device_s(self) -> float:
        return self.gpu_s + self.cpu_s


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def of_trials(snapshot: Snapshot, series: str = SEARCH) -> dict[int, Cost]:
    """By number, what each trial of a series cost over all its attempts; without those that never began.

    What counts as work is that of ``storage.reading.worked_s``, and a trial that is under way
    counts up to its last report. Resources are those of the launch that made the attempt; trials
    that ran elsewhere count as on one CPU.
    """
    attempts = snapshot.attempts if series == SEARCH else snapshot.other_attempts.get(series, ())
    resources = {launch.id: launch.settings.get("resources", {}) for launch in snapshot.launches}
    found: dict[int, Cost] = {}
    for attempt in attempts:
        cost = _cost(attempt, resources.get(attempt.launch, {}))
        found[attempt.number] = found.get(attempt.number, Cost()) + cost
    return found


def of_study(snapshot: Snapshot) -> dict[str, Cost]:
    """By series, what all its trials cost; series without a trial are left out."""
    by_series = {series: of_trials(snapshot, series) for series in (SEARCH, *snapshot.other_attempts)}
    return {series: total(costs.values()) for series, costs in by_series.items() if costs}


def _cost(attempt: AttemptRecord, resources: Mapping[str, Any]) -> Cost:
    if attempt.worked_until is None:
        return Cost()
    seconds = max(0.0, codec.seconds_between(attempt.started_at, attempt.worked_until))
    gpus = float(resources.get("gpus", 0))
    if gpus:
        return Cost(seconds, gpu_s=seconds * gpus)
    return Cost(seconds, cpu_s=seconds * float(resources.get("cpus", 1)))
