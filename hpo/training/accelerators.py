"""How many GPUs torch can use here."""

from __future__ import annotations


def gpu_count() -> int:
    """The GPUs that torch sees in this process; 0 without any or with a torch built for the CPU."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
