"""The driver of Ray's workers, with workers made by hand: who gets which job, and what becomes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from hpo.errors import RunnerFailed
from hpo.runners import ray_tune
from hpo.runners.ray_tune import driving
from hpo.runners.ray_tune.words import Answer, Ended, Gone, Here, Word
from hpo.trial import Decision, Job, Outcome, Point, StopKind, StopReason, Wait
from tests.runners.jobs import Source, make_job

FINISHED = Outcome(StopReason(StopKind.FINISHED, "ran all epochs"))
PRUNED = StopReason(StopKind.PRUNED, "below the median")
INTERRUPTED = StopReason(StopKind.INTERRUPTED, "asked to stop after 3 of 10 updates")


class Crew:
    """Workers that say what the test has them say; a test that says too little hangs nowhere, it fails."""

    def __init__(self, *said: tuple[str, Word] | Callable[[], None], room: int = 2) -> None:
        self.said = deque(said)
        self.size = room
        self.done: list[tuple[object, ...]] = []

    def want(self, workers: int) -> None:
        self.done.append(("want", workers))

    def room(self) -> int:
        return self.size

    def hear(self, timeout_s: float) -> tuple[str, Word] | None:
        word = self.said.popleft()
        if callable(word):
            word()
            return None
        return word

    def answer(self, worker: str, answer: Answer) -> None:
        self.done.append((worker, answer.number if isinstance(answer, Job) else answer.stop))

    def ask_to_stop(self, worker: str, job: Job) -> None:
        self.done.append(("ask to stop", worker, job.number))

    def kill(self, worker: str) -> None:
        self.done.append(("kill", worker))

    def actions(self) -> list[tuple[object, ...]]:
        return [entry for entry in self.done if entry[0] != "want"]


def point(step: int) -> Point:
    return Point(step, {"f1": 0.0})


def test_one_worker_runs_job_after_job() -> None:
    source = Source(make_job(0), make_job(1))
    crew = Crew(("a", Here("host:1")), ("a", point(1)), ("a", Ended(FINISHED)), ("a", Ended(FINISHED)))
    driving.Driver(source, workers=1).drive(crew)
    assert crew.actions() == [("a", 0), ("a", None), ("a", 1)]
    assert source.told == [
        ("working", 0, "host:1"), ("report", 0, 1), ("finish", 0, StopKind.FINISHED),
        ("working", 1, "host:1"), ("finish", 1, StopKind.FINISHED),
    ]  # fmt: skip


def test_no_more_jobs_are_started_than_there_is_room_for() -> None:
    source = Source(*(make_job(n) for n in range(5)))
    crew = Crew(room=2)
    with pytest.raises(IndexError):  # nobody said anything
        driving.Driver(source, workers=4).drive(crew)
    assert (crew.done, len(source.answers)) == ([("want", 2)], 3)


def test_a_free_worker_waits_until_the_source_has_a_job_again() -> None:
    source = Source(make_job(0), Wait("an earlier trial must end first"), make_job(1))
    crew = Crew(
        ("a", Here("h")),
        ("b", Here("h")),
        lambda: None,
        ("a", point(1)),
        ("b", Ended(FINISHED)),
        ("a", Ended(FINISHED)),
    )
    driving.Driver(source, workers=2).drive(crew)
    # The report was news, so the source was asked again and b got the second job.
    assert crew.actions() == [("a", 0), ("a", None), ("b", 1)]


def test_the_job_of_a_worker_that_dies_is_lost_once_and_runs_again() -> None:
    source = Source(make_job(0))
    crew = Crew(
        ("a", Here("h")), ("a", point(1)), ("a", Gone()), ("a", Gone()), ("b", Here("h")), ("b", Ended(FINISHED))
    )
    driving.Driver(source, workers=1).drive(crew)
    assert [entry[1:] for entry in source.told if entry[0] == "finish"] == [(0, StopKind.LOST), (0, StopKind.FINISHED)]


def test_a_free_worker_that_dies_gets_no_job() -> None:
    source = Source(make_job(0), Wait("wait"), make_job(1))
    crew = Crew(
        ("a", Here("h")),
        ("b", Here("h")),
        ("b", Gone()),
        ("a", point(1)),
        ("a", Ended(FINISHED)),
        ("a", Ended(FINISHED)),
    )
    driving.Driver(source, workers=2).drive(crew)
    assert crew.actions() == [("a", 0), ("a", None), ("a", 1)]


def test_a_worker_that_dies_of_stopping_leaves_its_trial_as_it_was_judged() -> None:
    source = Source(make_job(0))
    source.decisions[0] = Decision(PRUNED)
    crew = Crew(("a", Here("h")), ("a", point(1)), ("a", Gone()))
    driving.Driver(source, workers=1).drive(crew)
    assert source.told[-1] == ("finish", 0, StopKind.PRUNED)


def test_a_wish_to_stop_reaches_who_runs_and_what_has_not_begun() -> None:
    source = Source(make_job(0), make_job(1))
    crew = Crew(("a", Here("h")), source.request_stop, ("a", Ended(Outcome(INTERRUPTED))))
    driving.Driver(source, workers=2).drive(crew)
    assert ("finish", 1, StopKind.INTERRUPTED) in source.told
    assert crew.actions() == [("a", 0), ("ask to stop", "a", 0)]


def test_a_job_over_its_time_is_asked_to_stop_then_killed_and_counts_as_over_time() -> None:
    now = [0.0]

    def at(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, seconds)

    source = Source(make_job(0, time_limit_s=60.0, reported=3))
    crew = Crew(("a", Here("h")), at(59.0), at(60.0), at(64.0), at(65.0), at(66.0), ("a", Gone()))
    driving.Driver(source, workers=1, clock=lambda: now[0]).drive(crew)
    assert crew.actions() == [("a", 0), ("ask to stop", "a", 0), ("kill", "a")]
    assert source.told[-1] == ("finish", 0, StopKind.TIME_LIMIT)


def test_a_job_that_stops_when_asked_at_its_limit_counts_as_over_time() -> None:
    now = [0.0]
    source = Source(make_job(0, time_limit_s=60.0, reported=3))
    crew = Crew(("a", Here("h")), lambda: now.__setitem__(0, 61.0), ("a", Ended(Outcome(INTERRUPTED))))
    driving.Driver(source, workers=1, clock=lambda: now[0]).drive(crew)
    assert source.told[-1] == ("finish", 0, StopKind.TIME_LIMIT)


def test_a_runner_that_fails_leaves_no_trial_running_and_blames_none_that_had_no_worker() -> None:
    source = Source(make_job(0), make_job(1))

    def break_down() -> None:
        raise RunnerFailed("Ray Tune ended early")

    driver = driving.Driver(source, workers=2)
    with pytest.raises(RunnerFailed):
        driver.drive(Crew(("a", Here("h")), ("a", point(1)), break_down))
    driver.give_up()
    assert source.told[-2:] == [("finish", 1, StopKind.INTERRUPTED), ("finish", 0, StopKind.LOST)]


def test_a_study_without_room_for_a_single_trial_is_left_as_if_never_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(cpus: float, gpus: float) -> None:
        raise RunnerFailed("One trial needs 64 CPUs")

    monkeypatch.setattr("hpo.runners.ray_tune.cluster.connect", lambda address, gpus: None)
    monkeypatch.setattr("hpo.runners.ray_tune.cluster.check_room", no_room)
    source = Source(make_job(0))
    with pytest.raises(RunnerFailed, match="64 CPUs"):
        ray_tune.run(source, cpus=64)
    assert source.told == [("finish", 0, StopKind.INTERRUPTED)]


def test_a_source_that_waits_for_nobody_is_an_error() -> None:
    with pytest.raises(RunnerFailed, match="waits though no trial is running"):
        driving.Driver(Source(Wait("why")), workers=1).drive(Crew())


def test_a_job_is_not_silent_while_its_driver_waits_for_the_database_or_is_held_up_itself() -> None:
    now = [0.0]

    class Slow(Source):
        def report(self, number: int, point: Point) -> Decision:
            now[0] += 100.0
            return super().report(number, point)

    source = Slow(*(make_job(number, silence_limit_s=60.0) for number in (0, 1)))
    crew = Crew(
        ("a", Here("h")), ("b", Here("h")), ("a", point(1)), ("b", point(1)),
        lambda: now.__setitem__(0, now[0] + 100.0),  # a turn that took so long
        ("a", point(2)), ("a", Ended(FINISHED)), ("b", Ended(FINISHED)),
    )  # fmt: skip
    driving.Driver(source, workers=2, clock=lambda: now[0]).drive(crew)
    assert crew.actions() == [("a", 0), ("b", 1), ("a", None), ("b", None), ("a", None)]


def test_a_job_that_says_nothing_while_somebody_listens_is_asked_to_stop_and_killed() -> None:
    now = [0.0]
    turns = [lambda: now.__setitem__(0, now[0] + 0.2)] * 50
    crew = Crew(("a", Here("h")), *turns, ("a", Gone()))
    source = Source(make_job(0, silence_limit_s=3.0))
    driving.Driver(source, workers=1, clock=lambda: now[0]).drive(crew)
    assert crew.actions() == [("a", 0), ("ask to stop", "a", 0), ("kill", "a")]
    assert source.told[-1] == ("finish", 0, StopKind.ERROR)
