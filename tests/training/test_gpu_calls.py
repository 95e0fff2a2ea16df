"""What is asked of a GPU by its name alone, ``cuda``, as a trial is given it: PyTorch's own functions take it.

No GPU is needed: what lies below those functions is replaced.
"""

from __future__ import annotations

import pytest
import torch

from hpo.training.process import process_state

THE_GPU = 3


@pytest.fixture
def fractions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Every share of a GPU's memory that was set, and of which GPU."""
    found: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr("torch.cuda.random._lazy_init", lambda: None)
    for module in ("torch.cuda", "torch.cuda.random"):
        monkeypatch.setattr(f"{module}.current_device", lambda: THE_GPU)
    monkeypatch.setattr("torch.cuda.random.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.random._lazy_call", lambda call, **how: call())
    monkeypatch.setattr(torch.cuda, "default_generators", tuple(torch.Generator() for _ in range(THE_GPU + 1)))
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda share, device: found.append((share, device)), raising=False
    )
    return found


@pytest.mark.parametrize("name", ["cuda", f"cuda:{THE_GPU}"])
def test_a_trial_takes_its_share_of_its_gpu_and_gives_it_back(fractions: list[tuple[float, int]], name: str) -> None:
    with process_state(torch.device(name), seed=1, gpu_share=0.5):
        assert fractions == [(0.5, THE_GPU)]
    assert fractions == [(0.5, THE_GPU), (1.0, THE_GPU)]
