"""What a trial changes in its process, put back when it ends: flags, threads, generators, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hpo.training.seeds import preserved_rng, seed_everything


@contextmanager
def process_state(
    device: torch.device,
    *,
    seed: int,
    deterministic: bool = False,
    threads: int | None = None,
    gpu_share: float = 1.0,
) -> Iterator[None]:
    """Seeded generators, cuDNN and determinism flags, threads and a GPU's share for one trial; all restored after.

    Of a GPU that trials share no one may take more memory than its ``gpu_share``: it then
    runs out of memory alone, not its neighbours.

    ``deterministic`` warns about operations that have no deterministic form instead of
    failing: which ones exist depends on the device, and a study should not.
    """
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    was_benchmark = torch.backends.cudnn.benchmark
    was_threads = torch.get_num_threads()
    with preserved_rng(device):
        try:
            if deterministic:
                if device.type == "cuda":  # cuBLAS reads it when its first handle is made
                    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.benchmark = device.type == "cuda" and not deterministic
            if device.type == "cuda":
                _limit_memory(device, gpu_share)
            if threads is not None:
                torch.set_num_threads(threads)
            seed_everything(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=was_warn_only)
            torch.backends.cudnn.benchmark = was_benchmark
            if device.type == "cuda":
                _limit_memory(device, 1.0)
            if threads is not None:
                torch.set_num_threads(was_threads)


def _limit_memory(device: torch.device, share: float) -> None:
    # Unlike its neighbours it refuses plain ``cuda``, the current GPU, which to it is None.
    torch.cuda.set_per_process_memory_fraction(share, device.index)


def release_memory(device: torch.device) -> None:
    """Give cached device memory back and begin new peak counters, for the next trial's sake."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    reset_peak_memory(device)


def release_cached() -> None:
    """Give cached memory of every GPU back that this process has used; for between two trials."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def reset_peak_memory(device: torch.device) -> None:
    """Begin new peak counters; without effect on a CPU, which has none."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_use(device: torch.device) -> dict[str, float]:
    """``gpu_memory_share``: the most that this process reserved of the GPU's memory; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    whole = torch.cuda.get_device_properties(device).total_memory
    return {"gpu_memory_share": torch.cuda.max_memory_reserved(device) / whole}


def memory_mb(device: torch.device) -> float:
    """Memory in use, in MB of 2^20 bytes, for display and not a goal.

    On a GPU the peak of this process's tensors since the last reset, on a CPU the process's
    resident size with everything else that it holds (Linux; 0 where ``/proc`` is missing).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
