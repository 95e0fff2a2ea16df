"""A worker's side: it takes job after job until it is sent home."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from typing import Any

import ray

from hpo.runners.ray_tune.modules import Modules
from hpo.runners.ray_tune.office import Answer, Ended, Hello, Word
from hpo.runners.worker import run_job
from hpo.trial import Decision, Job, Point, StopKind, StopReason

_ABANDONED = StopReason(StopKind.LOST, "its study has ended; goes on from its last checkpoint")


def serve(name: str, office: Any, device: str, modules: Modules) -> None:
    """Run the jobs that the driver gives the worker called ``name``; returns when there are no more."""
    line = _Line(name, office)
    where = f"{socket.gethostname()}:{os.getpid()}"
    answer = line.say(Hello(where, ray.get_runtime_context().current_actor))
    while isinstance(answer, Job):
        job = replace(answer, import_from=modules.found_in(answer.import_from))
        line.job = (job.number, job.attempt)
        outcome = run_job(job, line.report, device=device, stop_requested=line.is_asked_to_stop)
        answer = line.say(Ended(outcome))


class _Line:
    """The worker's end of its line to the driver."""

    def __init__(self, name: str, office: Any) -> None:
        self._name, self._office = name, office
        self.job: tuple[int, int] | None = None  # the number and attempt of what runs here
        self._to_stop: tuple[int, int] | None = None
        threading.Thread(target=self._hear_of_stops, daemon=True).start()

    def say(self, word: Word) -> Answer:
        answer: Answer = ray.get(self._office.say.remote(self._name, word))
        return answer

    def report(self, point: Point) -> Decision:
        answer = self.say(point)
        return answer if isinstance(answer, Decision) else Decision(_ABANDONED)

    def is_asked_to_stop(self) -> bool:
        return self._to_stop is not None and self._to_stop == self.job

    def _hear_of_stops(self) -> None:
        while True:
            try:
                self._to_stop = ray.get(self._office.next_to_stop.remote(self._name))
            except ray.exceptions.RayError:
                return  # the office has closed; what this worker says next sends it home
