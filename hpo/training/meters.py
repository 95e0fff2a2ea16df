"""What is measured once per trial: speed, latency, memory, operations, size.

Everything runs on a copy of the model with a fresh optimiser, and the random generators
are put back, so that training goes on as if nothing had been measured. Speed and latency
are taken alone on the device (``device_lock.alone``), the rest does not depend on it.
MB are 2^20 bytes.
"""

from __future__ import annotations

import copy
import gc
import math
import statistics
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hpo.training.batches import Batch, Batches
from hpo.training.device_lock import alone
from hpo.training.evaluate import eval_mode
from hpo.training.optimizers import make_optimizer
from hpo.training.precision import Precision
from hpo.training.process import release_memory
from hpo.training.recovery import first_line
from hpo.training.seeds import preserved_rng
from hpo.training.settings import TrainerSettings
from hpo.training.task import Task
from hpo.training.update import Updater, groups

MEASURED = ("samples_per_s", "latency_ms", "peak_memory_mb", "forward_gflops", "parameter_mb")

SPREADS = ("samples_per_s_spread", "latency_ms_spread")

_BUDGET_S = 1.5  # for measuring one speed, warm-up apart
_WARM_UP_S = 0.2
_ROUND_S = 0.01  # shorter rounds would measure the clock
_GOOD_SPREAD = 0.03
_LATENCIES = 30


@dataclass(frozen=True)
class Subject:
    """What is measured: a task on a device, its training batches, and how it is trained."""

    task: Task
    batches: Batches
    settings: TrainerSettings
    device: torch.device
    parts: int = 1  # pieces that each batch is cut into
    compiled: bool = False  # whether it is trained through ``torch.compile``

    def updater(self) -> Updater:
        """An updater over a copy of the model, in training mode, with a fresh optimiser."""
        return self.updater_of(copy.deepcopy(self.task.model).train())

    def updater_of(self, model: nn.Module) -> Updater:
        """An updater over ``model`` with a fresh optimiser."""
        return Updater(
            model,
            self.task.loss,
            make_optimizer(self.settings, model),
            Precision(self.settings.precision, self.device),
            self.settings.grad_clip,
            parts=self.parts,
            weigh=self.task.weigh,
        )


def measure(subject: Subject, wanted: Collection[str]) -> dict[str, float]:
    """The ``wanted`` ones among ``MEASURED`` (a speed brings its ``_spread``).

    Changes neither the model, nor the random generators, nor the order of batches.
    """
    measured: dict[str, float] = {}
    device, task = subject.device, subject.task
    with preserved_rng(device):
        if "parameter_mb" in wanted:
            measured["parameter_mb"] = parameter_mb(task.model)
        if "forward_gflops" in wanted:
            measured["forward_gflops"] = forward_gflops(task.model, task.example, device)
        if "peak_memory_mb" in wanted:
            measured["peak_memory_mb"] = peak_memory_mb(subject)
        if "samples_per_s" in wanted or "latency_ms" in wanted:
            with alone(device):
                if "samples_per_s" in wanted:
                    measured["samples_per_s"], measured["samples_per_s_spread"] = samples_per_s(subject)
                if "latency_ms" in wanted:
                    measured["latency_ms"], measured["latency_ms_spread"] = latency_ms(
                        task.model, task.example, device, precision=subject.settings.precision
                    )
    return measured


def measure_unasked(subject: Subject, wanted: Collection[str], event: Callable[[str, str], None]) -> dict[str, float]:
    """As ``measure``, of what no goal asks for: what cannot be measured is told, and no reason to end a trial."""
    measured: dict[str, float] = {}
    for name in sorted(wanted):
        try:
            measured.update(measure(subject, [name]))
        except Exception as error:  # operations are counted by hooks into everything that a model calls
            traceback.clear_frames(error.__traceback__)
            event("not_measured", f"{name} could not be measured: {first_line(error)}")
            release_memory(subject.device)
    return measured


def parameter_mb(model: nn.Module) -> float:
    """Size of the parameters, shared ones counted once."""
    return sum(parameter.nbytes for parameter in model.parameters()) / 2**20


def forward_gflops(model: nn.Module, example: Sequence[Tensor], device: torch.device) -> float:
    """10^9 floating-point operations of one forward pass over ``example``, a multiply-add being two.

    Counts matrix products, convolutions and attention, as ``FlopCounterMode`` does.
    """
    # The counter knows neither the fused encoder layer nor the CPU's attention kernel; plain
    # attention is products that it does know, and the same on every device.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            eval_mode(model),
            _frozen(model),
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            model(*(part.to(device) for part in example))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.get_total_flops() / 1e9


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """The counter looks for the gradient of what wants one, which a view of a parameter has not under ``no_grad``."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def latency_ms(
    model: nn.Module, example: Sequence[Tensor], device: torch.device, *, precision: str = "fp32"
) -> tuple[float, float]:
    """Median milliseconds of one forward pass over ``example`` in eval mode, and its spread as in ``samples_per_s``.

    The input is on the device already. Measured until the interval is within 3 % or 1.5 s have passed.
    """
    inputs = [part.to(device) for part in example]
    autocast = Precision(precision, device).autocast
    times: list[float] = []

    def forward() -> None:
        with autocast():
            model(*inputs)

    with eval_mode(model), torch.no_grad():
        _run_for(forward, _WARM_UP_S, device)
        ends = time.perf_counter() + _BUDGET_S
        while len(times) < _LATENCIES or (time.perf_counter() < ends and _spread(times) > _GOOD_SPREAD):
            times += [_timed(forward, device) for _ in range(_LATENCIES)]
    return statistics.median(times) * 1e3, _spread(times)


def samples_per_s(subject: Subject) -> tuple[float, float]:
    """Training samples per second, and half the width of the median's 95 % interval as a share of it.

    Real batches at the physical size, with accumulation; the median over rounds of at
    least 10 ms, until the interval is within 3 % or 1.5 s have passed.
    """
    updater, device = subject.updater(), subject.device
    if subject.compiled:
        updater.model = torch.compile(updater.model)  # type: ignore[assignment]
    stream = _endless(subject)
    counted = 0

    def update() -> None:
        nonlocal counted
        group = next(stream)
        counted += sum(len(batch[-1]) for batch in group)
        updater.update(group)

    once_s = _run_for(update, _WARM_UP_S, device)
    per_round = max(1, math.ceil(_ROUND_S / once_s))

    def round_() -> None:
        for _ in range(per_round):
            update()

    rates: list[float] = []
    ends = time.perf_counter() + _BUDGET_S
    while len(rates) < 3 or (time.perf_counter() < ends and (len(rates) < 9 or _spread(rates) > _GOOD_SPREAD)):
        counted = 0
        seconds = _timed(round_, device)
        rates.append(counted / seconds)
    return statistics.median(rates), _spread(rates)


def peak_memory_mb(subject: Subject) -> float:
    """Peak memory of one update at the physical batch: parameters, gradients, optimiser state,
    activations and the batch itself; the rest of the data set is not in it.

    The same to the byte each time: on a GPU the allocator's counters, on a CPU the tensors
    that ``MemTracker`` sees. A first update comes before, because the optimiser's state
    exists from then on.
    """
    updater, device = subject.updater(), subject.device
    # A batch may be a view of a larger gather.
    whole = next(iter(subject.batches.epoch(1)))
    largest, _ = updater.pieces(whole)[0]
    batch: Batch = tuple(part.clone() for part in largest)
    updater.parts = 1  # the counter takes one pass at a time, and no piece needs more than the first
    updater.update([batch])
    if subject.settings.accumulation > 1 or subject.parts > 1:  # one piece's gradients stay while the next one runs
        updater.backward([batch])
    if device.type == "cuda":
        return cuda_peak_bytes(updater, batch) / 2**20
    from hpo.training.checks.tensor_tracker import tensor_tracker  # 0.9 s, so only for whom it is a goal

    gc.collect()  # cycles that die inside would lower the count at an arbitrary moment
    tracker = tensor_tracker()
    tracker.track_external(updater.model, updater.optimizer, *batch)
    with tracker:
        updater.update([batch])
    peaks = tracker.get_tracker_snapshot("peak").items()
    return sum(peak["Total"] for where, peak in peaks if where.type == device.type) / 2**20


def cuda_peak_bytes(updater: Updater, batch: Batch) -> int:
    """The most that one update takes of its GPU by the allocator; what else lies there (the data) is not in it."""
    device = updater.precision.device
    parameters = list(updater.model.parameters())
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    own = sum(tensor.nbytes for tensor in (*batch, *parameters, *updater.model.buffers(), *grads))
    own += sum(
        value.nbytes
        for state in updater.optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor) and value.is_cuda
    )
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    updater.update([batch])
    torch.cuda.synchronize(device)
    return own + torch.cuda.max_memory_allocated(device) - before


def _endless(subject: Subject) -> Iterator[list[Batch]]:
    epoch = 0
    while True:
        epoch += 1
        yield from groups(subject.batches.epoch(epoch), subject.settings.accumulation)


def median_s(work: Callable[[], object], device: torch.device, seconds: float = 0.3) -> float:
    """The median seconds of ``work``, done for about ``seconds`` after a first time that does not count."""
    _timed(work, device)
    ends = time.perf_counter() + seconds
    times = [_timed(work, device) for _ in range(3)]
    while time.perf_counter() < ends:
        times.append(_timed(work, device))
    return statistics.median(times)


def _run_for(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Do ``work`` at least twice and for ``seconds``; the seconds that the quickest took."""
    ends = time.perf_counter() + seconds
    times = [_timed(work, device), _timed(work, device)]
    while time.perf_counter() < ends:
        times.append(_timed(work, device))
    return min(times)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _spread(values: Sequence[float]) -> float:
    """Half the 95 % interval of the median by order statistics, as a share of the median.

    The ranks are (n ± 1.96 √n) / 2 (Conover 1999, Practical Nonparametric Statistics, 3.2);
    with fewer than six values no pair of ranks reaches 95 % and the whole range is taken.
    """
    ranked, n = sorted(values), len(values)
    half = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half) - 1), min(n - 1, math.ceil(n / 2 + half))
    return (ranked[high] - ranked[low]) / (2 * statistics.median(ranked))
