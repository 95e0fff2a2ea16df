"""What worker and driver say to each other, and the actor that carries it.

A worker speaks first and waits for the answer, so a decision comes before its next epoch
begins. The driver listens for whatever has been said, by whomever, and sends its answers
with the next call. The office understands nothing of what it carries; it only knows who is
waiting for whom. It lives on the driver's node and needs no processor of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpo.trial import Decision, Job, Outcome, Point


@dataclass(frozen=True)
class Hello:
    """A worker is there and free. ``actor`` is its handle, by which it can be killed."""

    where: str  # host:pid
    actor: Any


@dataclass(frozen=True)
class Ended:
    """A worker's job is over, and the worker is free."""

    outcome: Outcome


@dataclass(frozen=True)
class Gone:
    """Ray has no such worker any more."""


@dataclass(frozen=True)
class GoHome:
    """There will be no job for this worker."""


Word = Hello | Point | Ended | Gone
Answer = Job | Decision | GoHome


class _Office:
    def __init__(self) -> None:
        self._said: list[tuple[str, Word]] = []
        self._arrival = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._wishes: dict[str, asyncio.Queue[tuple[int, int]]] = {}
        self._closed = False

    async def say(self, worker: str, word: Word) -> Answer:
        """For a worker: say something and wait for the answer."""
        if self._closed:
            return GoHome()
        answer = self._waiting[worker] = asyncio.get_running_loop().create_future()
        await self.tell(worker, word)
        return await answer

    async def tell(self, worker: str, word: Word) -> None:
        """Say something of a worker that asks for no answer."""
        self._said.append((worker, word))
        self._arrival.set()

    async def hear(self, answers: Mapping[str, Answer], timeout_s: float) -> list[tuple[str, Word]]:
        """For the driver: give answers, and wait for what is said next; nothing after ``timeout_s``."""
        for worker, answer in answers.items():
            self._answer(worker, answer)
        if not self._said:
            try:
                await asyncio.wait_for(self._arrival.wait(), timeout_s)
            except TimeoutError:
                return []
        self._arrival.clear()
        said, self._said = self._said, []
        return said

    async def ask_to_stop(self, worker: str, job: tuple[int, int]) -> None:
        self._wishes.setdefault(worker, asyncio.Queue()).put_nowait(job)

    async def next_to_stop(self, worker: str) -> tuple[int, int]:
        """For a worker: wait for a job (trial number, attempt) that is to stop in the middle of its epoch."""
        return await self._wishes.setdefault(worker, asyncio.Queue()).get()

    async def close(self) -> None:
        """Send every worker home that waits or will say something."""
        self._closed = True
        for worker in list(self._waiting):
            self._answer(worker, GoHome())

    def _answer(self, worker: str, answer: Answer) -> None:
        future = self._waiting.pop(worker, None)
        if future is not None and not future.done():
            future.set_result(answer)


def open_office() -> Any:
    """A handle of a new office, on this node."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_Office).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here)
    return actor.remote()
