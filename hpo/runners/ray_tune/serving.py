"""A worker: an actor that runs one job after the other, a word at a time.

Every call of ``go_on`` brings the answer to what the worker said last (a job to a free one,
a decision after a report), and returns what it says next. So a report costs one call of an
actor, about a millisecond, and no epoch begins before the decision on the last one is there.
"""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from hpo.runners.ray_tune.modules import Modules
from hpo.runners.ray_tune.words import Answer, Ended, Word
from hpo.runners.worker import run_job
from hpo.trial import Decision, Job, Outcome, Point, StopKind, StopReason


class Worker(tune.Trainable):
    """To Ray Tune a trial, whose second step is as long as the study; Tune ends it.

    Jobs run in a thread of their own, the same for all.
    """

    def setup(self, config: dict[str, Any], **kit: Any) -> None:
        with suppress(OSError):  # where this node has it: relative paths mean the folder that hpo was started in
            os.chdir(kit["started_in"])
        self._device: str = kit["device"]
        self._modules: Modules = kit["modules"]
        self._heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._said: asyncio.Queue[Word] = asyncio.Queue()
        self._to_stop: tuple[int, int] | None = None  # the job that is to stop: its number and attempt
        self._has_arrived = False
        threading.Thread(target=self._work, daemon=True).start()

    async def train(self) -> dict[str, Any]:
        """Say once who is here; from then on wait, as a coroutine, which lets the driver's calls in."""
        if self._has_arrived:
            await asyncio.Event().wait()
        self._has_arrived = True
        result: dict[str, Any] = super().train()
        return result

    def step(self) -> dict[str, Any]:
        where = f"{socket.gethostname()}:{os.getpid()}"
        return {"where": where, "actor": ray.get_runtime_context().current_actor}

    async def go_on(self, answer: Answer) -> Word:
        """Take the answer to the last word, and say the next."""
        self._loop = asyncio.get_running_loop()
        self._heard.put(answer)
        return await self._said.get()

    async def ask_to_stop(self, number: int, attempt: int) -> None:
        """Let a job stop in the middle of its epoch, if it still runs here, or is about to begin."""
        self._to_stop = (number, attempt)

    def _work(self) -> None:
        while True:
            job: Job = self._heard.get()
            self._say(Ended(self._run(job)))

    def _run(self, job: Job) -> Outcome:
        try:
            job = replace(job, import_from=self._modules.found_in(job.import_from))
            me = (job.number, job.attempt)
            return run_job(job, self._report, device=self._device, stop_requested=lambda: self._to_stop == me)
        except BaseException as error:  # such as a KeyboardInterrupt of the objective's own; silence would never end
            return Outcome(StopReason(StopKind.ERROR, repr(error)))

    def _report(self, point: Point) -> Decision:
        self._say(point)
        decision: Decision = self._heard.get()
        return decision

    def _say(self, word: Word) -> None:
        self._loop.call_soon_threadsafe(self._said.put_nowait, word)
