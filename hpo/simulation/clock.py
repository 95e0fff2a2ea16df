"""The runner of a simulation: one virtual clock, no process and no sleep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from hpo.errors import RunnerFailed
from hpo.roles import JobSource
from hpo.trial import Job, Outcome, Point, Wait


@dataclass(frozen=True)
class Script:
    """What a trial does when nobody stops it: its points, the seconds that each takes, its end."""

    points: tuple[Point, ...]
    seconds: tuple[float, ...]
    end: Outcome


@dataclass
class Clock:
    """Virtual seconds since the beginning."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def simulate(source: JobSource, scripts: Mapping[int, Script], workers: int, clock: Clock | None = None) -> float:
    """Run every job of ``source`` by the script of its number; the virtual seconds that it took.

    Points arrive in the order of their time, of equal ones that of the lower trial first. A free
    worker asks after every point, and what ``source`` decides in between costs no time.

    Raises:
        RunnerFailed: the source waits though no trial is running.
    """
    clock = clock or Clock()
    coming: list[tuple[float, int, int]] = []  # when, of which trial, which of its points

    def go_on(number: int, index: int) -> None:
        script = scripts[number]
        if index < len(script.points):
            heappush(coming, (clock.now_s + script.seconds[index], number, index))
        else:
            source.finish(number, script.end)

    while True:
        while len(coming) < workers:
            answer = source.ask()
            if isinstance(answer, Job):
                go_on(answer.number, 0)
            elif isinstance(answer, Wait) and not coming:
                raise RunnerFailed(f"The study waits though no trial is running: {answer.reason}.")
            else:
                break
        if not coming:
            return clock.now_s
        clock.now_s, number, index = heappop(coming)
        stop = source.report(number, scripts[number].points[index]).stop
        if stop is None:
            go_on(number, index + 1)
        else:
            source.finish(number, Outcome(stop))
