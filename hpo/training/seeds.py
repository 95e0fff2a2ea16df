"""Random generators: seeded once per trial, saved as plain values, and kept from leaking.

The states are plain lists and tensors so that a checkpoint loads with ``weights_only=True``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (all devices). ``seed``: 0 … 2^32 - 1."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """The states of all global generators that a trial on ``device`` can touch."""
    version, numbers, gauss = random.getstate()
    drawn: dict[str, Any] = np.random.get_state(legacy=False)
    return {
        "python": [version, list(numbers), gauss],
        "numpy": {
            "keys": torch.from_numpy(drawn["state"]["key"].astype(np.int64)),
            "position": int(drawn["state"]["pos"]),
            "has_gauss": int(drawn["has_gauss"]),
            "gauss": float(drawn["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what ``rng_state`` gave. A CUDA state is left out where there is no such device."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    drawn = state["numpy"]
    keys = drawn["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, drawn["position"], drawn["has_gauss"], drawn["gauss"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Whatever draws random numbers inside leaves the global generators as they were."""
    state = rng_state(device)
    try:
        yield
    finally:
        set_rng_state(state, device)
