"""Workers, placed and watched over by Ray Tune: each of its trials is one of them.

Tune's own loop costs some 30 ms for each trial, so its trials do not come and go with ours: a
worker stays for as long as there are jobs, and the driver speaks to it directly. Tune runs in a
thread beside the driver. All it is asked for is to have as many workers as are wanted, on nodes
that have room for them.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from hpo.errors import RunnerFailed
from hpo.runners.ray_tune import cluster
from hpo.runners.ray_tune.modules import Modules
from hpo.runners.ray_tune.serving import Worker
from hpo.runners.ray_tune.words import Answer, Gone, Here, Word
from hpo.runners.worker import pick_device
from hpo.trial import Job, StopKind, StopReason

_LOOK_FOR_ROOM_S = 5.0  # nodes come and go
_STILLBORN = 5  # workers in a row that end before they are there
_UNWIND_S = 10.0  # for jobs that still run when a study ends early


class Crew:
    """The workers of one run, up to ``workers``, each with ``cpus`` and ``gpus`` on one node.

    To be used in a ``with`` statement. Leaving it ends them; those that are still at work
    have a moment for a last checkpoint.
    """

    def __init__(self, workers: int, cpus: float, gpus: float, modules: Modules) -> None:
        self._cpus, self._gpus = cpus, gpus
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, str] = {}  # the workers whose next word is awaited
        self._arrived: set[str] = set()
        self._stillborn = 0
        self._room, self._room_until = 0, 0.0
        kit = {"device": pick_device(gpus), "modules": modules, "started_in": str(Path.cwd())}
        # One bundle lies on one node: a trial with two GPUs has them side by side.
        place = tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}], strategy="STRICT_PACK")
        self._tune = _Tune(tune.with_resources(tune.with_parameters(Worker, **kit), place), workers)
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
            RunnerFailed: Ray or Ray Tune broke, or no worker starts.
        """
        with suppress(queue.Empty):
            return self._take(*self._tune.places.news.get(block=not self._calls, timeout=timeout_s))
        ready = ray.wait(list(self._calls), timeout=timeout_s)[0] if self._calls else ()
        if ready:
            return self._said(ready[0])
        if not self._tune.is_alive():
            raise RunnerFailed(f"Ray Tune ended early: {self._tune.failed}. Launch the study again; nothing is lost.")
        return None

    def answer(self, worker: str, answer: Answer) -> None:
        self._calls[self._actors[worker].go_on.remote(answer)] = worker

    def ask_to_stop(self, worker: str, job: Job) -> None:
        """Let a job stop in the middle of its epoch, if it is one that looks."""
        self._actors[worker].ask_to_stop.remote(job.number, job.attempt)

    def kill(self, worker: str) -> None:
        ray.kill(self._actors[worker])

    def _take(self, worker: str, arrival: _Arrival | None) -> tuple[str, Word] | None:
        """What Tune says of a worker: that it has arrived, or has left."""
        if arrival is not None:
            self._actors[worker] = arrival.actor
            self._arrived.add(worker)
            self._stillborn = 0
            return worker, Here(arrival.where)
        if worker not in self._arrived:
            self._count_stillborn()
        if worker not in self._actors or worker in self._calls.values():
            return None  # its call says it, with what it may still have said
        return self._bury(worker, None)

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

    def _count_stillborn(self) -> None:
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            raise RunnerFailed(
                f"{_STILLBORN} workers in a row ended before they had begun. Every node needs the same hpo, Python and "
                "packages as here; what went wrong stands in Ray's logs on the node (/tmp/ray/session_latest/logs). "
                "Launch the study again; nothing is lost."
            )

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


@dataclass(frozen=True)
class _Arrival:
    """A worker is there: its host and process, and its handle."""

    where: str
    actor: Any


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
            storage_path=self._folder, verbose=0, stop=_End(self.places), callbacks=[_Arrivals(self.places)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )  # fmt: skip
        try:
            tune.Tuner(self._worker, tune_config=search, run_config=settings).fit()
        except Exception as error:  # for the driver to raise
            self.failed = error
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def end(self) -> None:
        self.places.are_closed = True
        self.join(_UNWIND_S)  # later than that it still clears up behind itself


class _Places(Searcher):
    """To Tune, the searcher: it suggests a trial whenever one more worker is wanted.

    ``news`` tells the driver's thread what becomes of them: None for one that has left. Tune
    pickles its parts, for resuming, which is not its business here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0
        self.are_closed = False
        self.news: queue.SimpleQueue[tuple[str, _Arrival | None]] = queue.SimpleQueue()
        self._taken: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> Any:
        if len(self._taken) >= self.wanted:
            return None  # not now
        self._taken.add(trial_id)
        return {}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._taken.discard(trial_id)
        self.news.put((trial_id, None))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the database holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the database holds the study."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the database holds the study."""


class _Arrivals(tune.Callback):
    """Takes the one result of each trial, which says that its worker is there."""

    def __init__(self, places: _Places) -> None:
        self._places = places

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        self._places.news.put((trial.trial_id, _Arrival(result["where"], result["actor"])))


class _End(tune.Stopper):
    """Tells Tune when the study is over."""

    def __init__(self, places: _Places) -> None:
        self._places = places

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._places.are_closed
