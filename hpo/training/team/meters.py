"""What is measured once per trial, when several processes train it. Rank 0's clock counts.

Size, operations and latency are those of the whole model on one device, measured before
it is given out. Speed is that of all devices together. Peak memory is that of one device,
the first, whose share of a batch is never the smaller one; buffers for communication are
in it on a GPU under FSDP alone.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from hpo.errors import TrialFailed
from hpo.training.batches import Batch, Batches
from hpo.training.device_lock import alone
from hpo.training.meters import _GOOD_SPREAD, _ROUND_S, MEASURED, SPREADS, Subject, _endless, _spread, _timed, measure
from hpo.training.process import release_memory
from hpo.training.seeds import preserved_rng
from hpo.training.settings import TrainerSettings
from hpo.training.task import Task
from hpo.training.team.alone import Team
from hpo.training.team.distributed import Group
from hpo.training.update import Updater
from hpo.trial import Job, Metrics

_COUNTED = frozenset({"forward_gflops", "parameter_mb"})
_BUDGET_S, _WARM_UP = 1.5, 3


def measure_whole(task: Task, settings: TrainerSettings, job: Job, device: torch.device) -> Metrics:
    """What is measured on a model that is not given out yet; rank 0 alone does it.

    A model to be sharded may be too large for one device; only its latency must be measured there.
    """
    place = torch.device("cpu") if settings.strategy == "fsdp" else device
    measured = measure(Subject(_on(task, place), _NoBatches(), settings, place), _COUNTED)
    if any(goal.metric == "latency_ms" for goal in job.goals):
        measured |= measure(Subject(_on(task, device), _NoBatches(), settings, device), {"latency_ms"})
    task.model.cpu()
    release_memory(device)
    return measured


def _on(task: Task, device: torch.device) -> Task:
    task.model.to(device)
    return task


def measure_team(group: Team, subject: Subject, updater: Updater, wanted: Collection[str]) -> Metrics:
    """The ``wanted`` ones among ``MEASURED``, the same in every process.

    Changes neither model nor optimiser, nor the random generators, nor the order of batches.

    Raises:
        TrialFailed: peak memory is wanted of sharded parameters on a CPU, where nothing counts it.
    """
    if not isinstance(group, Group):
        raise TypeError(f"Only processes of a Group can measure together, not {type(group).__name__}.")
    measured = dict(group.measured)
    with preserved_rng(subject.device):
        if "peak_memory_mb" in wanted:
            measured.update(_peak_memory(group, subject, updater))
        if "samples_per_s" in wanted:
            with alone(subject.device) if group.rank == 0 else nullcontext(), _put_back(updater):
                measured["samples_per_s"], measured["samples_per_s_spread"] = _samples_per_s(group, subject, updater)
    return group.agree({name: value for name, value in measured.items() if name in (*MEASURED, *SPREADS)})


def _samples_per_s(group: Group, subject: Subject, updater: Updater) -> tuple[float, float]:
    """As ``meters.samples_per_s``, with every process making the same updates."""
    stream, counted = _endless(subject), 0

    def updates(number: int) -> None:
        nonlocal counted
        for _ in range(number):
            batches = next(stream)
            counted += sum(len(batch[-1]) for batch in batches)
            updater.update(batches)

    once_s = min(_timed(lambda: updates(1), subject.device) for _ in range(_WARM_UP))
    per_round = group.agree(max(1, math.ceil(_ROUND_S / once_s)))
    rates: list[float] = []
    ends = time.perf_counter() + _BUDGET_S
    while group.agree(
        len(rates) < 3 or (time.perf_counter() < ends and (len(rates) < 9 or _spread(rates) > _GOOD_SPREAD))
    ):
        counted = 0
        seconds = _timed(lambda: updates(per_round), subject.device)
        rates.append(counted / seconds)
    return statistics.median(rates), _spread(rates)


def _peak_memory(group: Group, subject: Subject, updater: Updater) -> Metrics:
    if subject.settings.strategy == "ddp":
        share = replace(subject, batches=_Share(group, subject.batches))
        return measure(share, {"peak_memory_mb"}) if group.rank == 0 else {}
    if subject.device.type != "cuda":
        raise TrialFailed("peak_memory_mb cannot be measured with strategy fsdp on a CPU; use ddp, or another goal.")
    batch = tuple(part.clone() for part in next(iter(subject.batches.epoch(1))))
    # With accumulation the gradients of one batch stay while the next one runs.
    batches = [batch] * min(2, subject.settings.accumulation)
    with _put_back(updater):
        # What was put aside is no part of a step, and neither is the data set.
        own = sum(_cuda_bytes(tensor) for tensor in (*batch, *_lasting(updater)))
        torch.cuda.synchronize(subject.device)
        before = torch.cuda.memory_allocated(subject.device)
        torch.cuda.reset_peak_memory_stats(subject.device)
        updater.update(batches)
        torch.cuda.synchronize(subject.device)
        peak = own + torch.cuda.max_memory_allocated(subject.device) - before
    return {"peak_memory_mb": peak / 2**20}


@contextmanager
def _put_back(updater: Updater) -> Iterator[None]:
    """Model, optimiser and loss scale are afterwards what they were."""
    model, optimizer, scaler = updater.model, updater.optimizer, updater.precision.scaler
    tensors = [*(p for group in optimizer.param_groups for p in group["params"]), *model.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    states = {
        parameter: {name: v.clone() if isinstance(v, Tensor) else copy.copy(v) for name, v in state.items()}
        for parameter, state in optimizer.state.items()
    }
    scale = scaler.state_dict() if scaler is not None else None
    try:
        yield
    finally:
        updater.clear()
        with torch.no_grad():
            for tensor, values in zip(tensors, kept, strict=True):
                tensor.copy_(values)
        optimizer.state.clear()
        optimizer.state.update(states)
        if scaler is not None and scale:
            scaler.load_state_dict(scale)


def _lasting(updater: Updater) -> list[Tensor]:
    """What stays on the device between two updates."""
    states = [value for state in updater.optimizer.state.values() for value in state.values()]
    return [*updater.model.parameters(), *updater.model.buffers(), *(v for v in states if isinstance(v, Tensor))]


def _cuda_bytes(tensor: Tensor) -> int:
    from hpo.training.team.sharded import local_part

    return local_part(tensor).nbytes if tensor.is_cuda else 0


class _Share:
    """The batches of a split as one process has them: its rows of each."""

    def __init__(self, group: Group, batches: Batches) -> None:
        self._group, self._batches = group, batches
        self.samples, self.batch_size = batches.samples, batches.batch_size

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self._batches.epoch(epoch, start):
            yield self._group.pieces(batch, 1)[0][0]


class _NoBatches:
    """For what is measured on the example alone."""

    samples, batch_size = 0, 1

    def __len__(self) -> int:
        return 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(())
