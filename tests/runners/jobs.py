"""Jobs made by hand, and a source that hands them out, for what runs them."""

from __future__ import annotations

from collections import deque
from typing import Any

from hpo.training.settings import TrainerSettings
from hpo.trial import GO_ON, Decision, Done, Goal, Job, Outcome, Point, StopKind, Wait


def make_job(number: int = 0, **fields: Any) -> Job:
    given = {
        "study": "s", "series": "search", "number": number, "objective": "analytic", "params": {}, "data": {},
        "trainer": TrainerSettings(), "goals": (Goal("f1"),), "monitor": Goal("f1"), "seed": 0, "data_seed": 0,
        "epochs": 5, "folder": "unused",
    }  # fmt: skip
    return Job(**{**given, **fields})


class Source:
    """Jobs 0, 1, ... and what is told of them; a lost job comes again."""

    def __init__(self, *answers: Job | Wait) -> None:
        self.answers: deque[Job | Wait] = deque(answers)
        self.told: list[tuple[object, ...]] = []
        self.decisions: dict[int, Decision] = {}
        self.stop_requested = False

    def ask(self) -> Job | Wait | Done:
        if self.stop_requested:
            return Done("asked to stop")
        return self.answers.popleft() if self.answers else Done("that was all")

    def report(self, number: int, point: Point) -> Decision:
        self.told.append(("report", number, point.step))
        return self.decisions.get(number, GO_ON)

    def finish(self, number: int, outcome: Outcome) -> None:
        self.told.append(("finish", number, outcome.reason.kind))
        if outcome.reason.kind is StopKind.LOST:
            self.answers.append(make_job(number, attempt=2))

    def working(self, number: int, worker: str) -> None:
        self.told.append(("working", number, worker))

    def request_stop(self) -> None:
        self.stop_requested = True
