"""Workers, placed and watched over by Ray Tune: each of its trials is one of them.

Tune's own loop costs some 30 ms for each trial, so its trials do not come and go with ours: a
worker stays for as long as there are jobs, and the driver speaks to it directly. Tune runs in a
thread beside the driver. All it is asked for is to have as many workers as are wanted, on nodes
that have room for them.
"""

from __future__ import annotations

import asyncio
import queue
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpo.errors import RunnerFailed
from hpo.runners.ray_tune import cluster
from hpo.runners.ray_tune.modules import Modules
from hpo.runners.ray_tune.serving import Worker
from hpo.runners.ray_tune.words import Answer, Gone, Here, Word
from hpo.runners.worker import pick_device
from hpo.trial import Job, StopKind, StopReason

_LOOK_FOR_ROOM_S = 5.0  # nodes come and go
_UNWIND_S = 10.0  # for jobs that still run when a study ends early


class Crew:
    """The workers of one run, up to ``workers``, each with ``cpus`` and ``gpus`` on one node.

    To be used in a ``with`` statement. Leaving it ends them; those that are still at work
    have a moment for a last checkpoint.
    """

    def __init__(self, workers: int, cpus: float, gpus: float, modules: Modules) -> None:
        self._cpus, self._gpus = cpus, gpus
        self._desk = _open_desk()
        self._arrival = self._desk.next.remote()
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, str] = {}  # the workers whose next word is awaited
        self._room, self._room_until = 0, 0.0
        worker = tune.with_parameters(Worker, desk=self._desk, device=pick_device(gpus), modules=modules)
        # One bundle lies on one node: a trial with two GPUs has them side by side.
        place = tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}], strategy="STRICT_PACK")
        self._tune = _Tune(tune.with_resources(worker, place), workers)
        self._tune.start()

    def want(self, workers: int) -> None:
        """Have so many workers, if there is room; none that is there is sent away."""
        self._tune.places.wanted = workers

    def room(self) -> int:
        """How many workers there is room for."""
        now = time.monotonic()
        if now >= self._room_until:
            self._room, self._room_until = cluster.room(self._cpus, self._gpus), now + _LOOK_FOR_ROOM_S
        return self._room

    def hear(self, timeout_s: float) -> tuple[str, Word] | None:
        """The next word of whichever worker, by its name; None when nobody said any in ``timeout_s``.

        Raises:
            RunnerFailed: Ray or Ray Tune broke.
        """
        ready, _ = ray.wait([*self._calls, self._arrival], timeout=timeout_s)
        if ready:
            return self._arrived() if ready[0] == self._arrival else self._said(ready[0])
        if not self._tune.is_alive():
            raise RunnerFailed(f"Ray Tune ended early: {self._tune.failed}. Launch the study again; nothing is lost.")
        return self._left()

    def answer(self, worker: str, answer: Answer) -> None:
        self._calls[self._actors[worker].go_on.remote(answer)] = worker

    def ask_to_stop(self, worker: str, job: Job) -> None:
        """Let a job stop in the middle of its epoch, if it is one that looks."""
        self._actors[worker].ask_to_stop.remote(job.number, job.attempt)

    def kill(self, worker: str) -> None:
        ray.kill(self._actors[worker])

    def _arrived(self) -> tuple[str, Word]:
        try:
            worker, where, actor = ray.get(self._arrival)
        except ray.exceptions.RayError as error:
            raise RunnerFailed(f"Ray failed: {error}. Launch the study again; nothing is lost.") from error
        self._arrival = self._desk.next.remote()
        self._actors[worker] = actor
        return worker, Here(where)

    def _said(self, call: Any) -> tuple[str, Word]:
        worker = self._calls.pop(call)
        try:
            return worker, ray.get(call)
        except ray.exceptions.RayTaskError as error:
            # What it said cannot travel, such as an event with something unusual in it.
            reason = StopReason(StopKind.ERROR, f"its report could not be sent: {error.cause!r}")
        except ray.exceptions.RayError:
            reason = None
        return self._bury(worker, reason)

    def _left(self) -> tuple[str, Word] | None:
        """A worker that died while nothing was awaited of it."""
        with suppress(queue.Empty):
            while True:
                worker = self._tune.places.left.get_nowait()
                if worker in self._actors and worker not in self._calls.values():
                    return self._bury(worker, None)
        return None

    def _bury(self, worker: str, reason: StopReason | None) -> tuple[str, Word]:
        ray.kill(self._actors.pop(worker))  # a node that only seemed dead must not go on with it
        return worker, Gone(reason)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._calls:
            ray.wait(list(self._calls), num_returns=len(self._calls), timeout=_UNWIND_S)
        self._tune.end()
        ray.kill(self._desk)


class _Desk:
    """Where workers say that they are there."""

    def __init__(self) -> None:
        self._arrivals: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue()

    async def arrive(self, worker: str, where: str, actor: Any) -> None:
        self._arrivals.put_nowait((worker, where, actor))

    async def next(self) -> tuple[str, str, Any]:
        return await self._arrivals.get()


def _open_desk() -> Any:
    """A desk on the driver's own node; it needs no processor to itself."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote()


class _Tune(threading.Thread):
    """Ray Tune at work: up to ``workers`` trials, each an actor of the class ``worker``."""

    def __init__(self, worker: Any, workers: int) -> None:
        super().__init__(name="ray-tune", daemon=True)
        self.places = _Places()
        self.failed: Exception | None = None
        self._worker, self._workers = worker, workers
        self._folder = tempfile.mkdtemp(prefix="hpo-ray-")

    def run(self) -> None:
        search = tune.TuneConfig(num_samples=-1, search_alg=self.places, max_concurrent_trials=self._workers)
        settings = tune.RunConfig(
            storage_path=self._folder, verbose=0, stop=_End(self.places),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )  # fmt: skip
        try:
            tune.Tuner(self._worker, tune_config=search, run_config=settings).fit()
        except Exception as error:  # for the driver to raise
            self.failed = error

    def end(self) -> None:
        self.places.are_closed = True
        self.join(_UNWIND_S)
        shutil.rmtree(self._folder, ignore_errors=True)


class _Places(Searcher):
    """To Tune, the searcher: it suggests a trial whenever one more worker is wanted.

    Tune pickles its searcher, for resuming, which is not its business here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0
        self.are_closed = False
        self.left: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._taken: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> Any:
        if len(self._taken) >= self.wanted:
            return None  # not now
        self._taken.add(trial_id)
        return {"name": trial_id}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._taken.discard(trial_id)
        self.left.put(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the database holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the database holds the study."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the database holds the study."""


class _End(tune.Stopper):
    """Tells Tune when the study is over."""

    def __init__(self, places: _Places) -> None:
        self._places = places

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._places.are_closed
