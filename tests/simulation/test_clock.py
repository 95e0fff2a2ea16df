"""The virtual clock against cases worked out by hand."""

from __future__ import annotations

import pytest

from hpo.errors import RunnerFailed
from hpo.simulation.clock import Clock, Script, simulate
from hpo.simulation.replay import recorded_job
from hpo.trial import (
    Decision,
    Done,
    Job,
    Outcome,
    Point,
    StopKind,
    StopReason,
    TrialRecord,
    TrialState,
    Wait,
)

DONE = Outcome(StopReason(StopKind.FINISHED, "ran all"))
STOP = StopReason(StopKind.PRUNED, "enough")


def script(*seconds: float) -> Script:
    return Script(tuple(Point(i + 1, {"loss": 0.0}) for i in range(len(seconds))), seconds, DONE)


class Source:
    """Hands out trials 0, 1, ... and writes down what happens when, by ``clock``."""

    def __init__(self, trials: int, clock: Clock, stop_at: dict[int, int] | None = None, together: int = 99) -> None:
        self.left, self.clock, self.stop_at, self.together = list(range(trials)), clock, stop_at or {}, together
        self.running: set[int] = set()
        self.log: list[tuple[float, str]] = []
        self.stop_requested = False

    def ask(self) -> Job | Wait | Done:
        if not self.left:
            return Done("all started")
        if len(self.running) >= self.together:
            return Wait("too many")
        number = self.left.pop(0)
        self.running.add(number)
        self.log.append((self.clock(), f"{number} begins"))
        return recorded_job(TrialRecord(number, TrialState.RUNNING, {}, 0))

    def report(self, number: int, point: Point) -> Decision:
        self.log.append((self.clock(), f"{number} at {point.step}"))
        return Decision(STOP if self.stop_at.get(number) == point.step else None)

    def finish(self, number: int, outcome: Outcome) -> None:
        self.running.discard(number)
        self.log.append((self.clock(), f"{number} {outcome.reason.kind}"))

    def working(self, number: int, worker: str) -> None: ...
    def request_stop(self) -> None: ...


def test_points_come_in_the_order_of_time_and_the_lower_trial_goes_first() -> None:
    clock = Clock()
    source = Source(3, clock)
    # Two workers: trial 0 reports at 2 and 4, trial 1 at 3 and 4; at 4 trial 0 goes first, and its
    # worker begins trial 2 there before trial 1 reports.
    wall = simulate(source, {0: script(2, 2), 1: script(3, 1), 2: script(5)}, 2, clock)
    assert source.log == [
        (0, "0 begins"), (0, "1 begins"),
        (2, "0 at 1"), (3, "1 at 1"),
        (4, "0 at 2"), (4, "0 finished"), (4, "2 begins"),
        (4, "1 at 2"), (4, "1 finished"),
        (9, "2 at 1"), (9, "2 finished"),
    ]  # fmt: skip
    assert wall == 9


def test_a_stop_ends_a_trial_at_once_and_frees_its_worker() -> None:
    clock = Clock()
    source = Source(2, clock, stop_at={0: 1})
    assert simulate(source, {0: script(1, 10, 10), 1: script(1)}, 1, clock) == 2
    assert source.log == [
        (0, "0 begins"), (1, "0 at 1"), (1, "0 pruned"), (1, "1 begins"), (2, "1 at 1"), (2, "1 finished"),
    ]  # fmt: skip


@pytest.mark.parametrize(("workers", "wall"), [(1, 12), (2, 6), (3, 4), (12, 1)])
def test_equal_trials_share_the_workers(workers: int, wall: float) -> None:
    clock = Clock()
    assert simulate(Source(12, clock), {n: script(1) for n in range(12)}, workers, clock) == wall


def test_a_source_that_waits_is_asked_again_when_something_happened() -> None:
    clock = Clock()
    source = Source(2, clock, together=1)  # the second worker waits for the first trial's end
    assert simulate(source, {0: script(3), 1: script(1)}, 2, clock) == 4


def test_a_trial_without_a_point_ends_where_it_begins() -> None:
    clock = Clock()
    source = Source(2, clock)
    assert simulate(source, {0: script(), 1: script(2)}, 1, clock) == 2
    assert source.log[:2] == [(0, "0 begins"), (0, "0 finished")]


def test_a_source_that_waits_for_nobody_is_an_error() -> None:
    clock = Clock()
    with pytest.raises(RunnerFailed, match="waits though no trial is running: too many"):
        simulate(Source(1, clock, together=0), {}, 1, clock)
