"""One of the processes that train a trial together: ``python -m hpo.training.team.member FD``.

``hpo.training.team.launching`` starts it and is at the other end of the pipe ``FD``. When that
end closes, this process and all it started end at once.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from hpo.errors import HpoError, OutOfMemory, TrialFailed
from hpo.training.recovery import is_out_of_memory
from hpo.training.seeds import seed_everything
from hpo.training.team.distributed import joined, make_group
from hpo.training.team.launching import Ended, Failed, Start, Stop
from hpo.training.team.meters import measure_whole
from hpo.training.trainer import Trainer
from hpo.trial import Decision, Event, Outcome, Point, TrialContext, TrialStopped, derive_seed

if TYPE_CHECKING:
    from hpo.training.task import Task


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    start: Start = connection.recv()  # from our own parent, by a pipe
    line = _Line(connection)
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    try:
        line.say(Ended(_take_part(start, line)))
    except TrialStopped:
        line.say(Ended(None))
    except (Exception, SystemExit) as error:
        line.say(_failed(error, start, line.events()))
        # Leaving would tear the connections, and the others would fail of that, too.
        threading.Event().wait()
    sys.stderr.flush()
    os._exit(0)  # an orderly end takes torch a second or two


class _Line:
    """The pipe to the parent, which a thread listens to."""

    def __init__(self, connection: Connection) -> None:
        self.stop = threading.Event()
        self.context: TrialContext | None = None
        self._connection = connection
        self._answers: queue.SimpleQueue[Decision] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, word: object) -> None:
        try:
            self._connection.send(word)
        except (BrokenPipeError, ConnectionResetError):
            _leave()

    def report(self, point: Point) -> Decision:
        self.say(point)
        return self._answers.get()

    def events(self) -> tuple[Event, ...]:
        return self.context.take_events() if self.context is not None else ()

    def _listen(self) -> None:
        while True:
            try:
                word = self._connection.recv()
            except (EOFError, OSError):
                _leave()
            if isinstance(word, Stop):
                self.stop.set()
            else:
                self._answers.put(word)


def _leave() -> None:
    os.killpg(0, signal.SIGKILL)


def _take_part(start: Start, line: _Line) -> Outcome | None:
    """Train this process's share; rank 0 has the outcome."""
    job = start.job
    settings = job.trainer.with_params(job.params)
    device = _device(start)
    with joined(start.rank, start.size, device, start.store):
        seed_everything(derive_seed(job.seed, "task"))  # what a task draws must be the same everywhere
        task: Task = start.make_task(job)
        measured = measure_whole(task, settings, job, device) if start.rank == 0 else {}
        group = make_group(settings.strategy, task, device)
        group.measured = measured

        def send(point: Point) -> Decision:
            return group.agree(line.report(point) if start.rank == 0 else Decision())

        context = TrialContext(job, send, device=str(device), stop_requested=line.stop.is_set)
        line.context = context
        outcome = Trainer(settings).fit(task, context, group)
    return outcome if start.rank == 0 else None


def _device(start: Start) -> torch.device:
    if not start.device.startswith("cuda"):
        return torch.device(start.device)
    found = torch.cuda.device_count()
    if found < start.size:
        raise TrialFailed(f"devices must not be more than the GPUs that a trial sees: {start.size} for {found}.")
    return torch.device("cuda", start.rank)


def _failed(error: BaseException, start: Start, events: tuple[Event, ...]) -> Failed:
    text = str(error).strip()
    message = text
    if not isinstance(error, HpoError):
        kind = type(error).__name__
        message = f"{f'{kind}: {text}' if text else kind} (in process {start.rank + 1} of {start.size})"
    if is_out_of_memory(error):
        message += (
            ". Devices that train together cannot recover from that: lower batch_size, raise accumulation, "
            "or set gradient_checkpointing."
        )
    trace = "".join(traceback.format_exception(error))
    ran_out = isinstance(error, OutOfMemory) or is_out_of_memory(error)
    return Failed(message, trace, _is_lost_peer(error), events, ran_out)


def _is_lost_peer(error: BaseException) -> bool:
    if isinstance(error, dist.DistError):
        return True
    torn = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in torn)


if __name__ == "__main__":
    main()
