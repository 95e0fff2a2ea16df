"""``torch.compile`` for a task's model, with what it gained measured before it is believed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from hpo.training.batches import Batch
from hpo.training.meters import median_s
from hpo.training.recovery import first_line
from hpo.training.update import Updater


def compile_model(
    model: nn.Module,
    batch: Sequence[Batch],
    make_updater: Callable[[nn.Module], Updater],
    device: torch.device,
    event: Callable[..., None],
) -> nn.Module:
    """``model`` compiled, sharing its weights; ``model`` itself where there is no working compiler.

    Args:
        batch: the batches of one update, to compile for and to measure with.
        make_updater: an updater with a fresh optimiser for the copy of a model.
        event: told ``compiled`` with the gain (times as fast as without) and the seconds it
            cost, or ``compile_failed`` with the reason.
    """
    try:
        plain = make_updater(copy.deepcopy(model))
        before_s = median_s(lambda: plain.update(batch), device)
        trial = make_updater(torch.compile(copy.deepcopy(model)))  # type: ignore[arg-type]
        began = time.perf_counter()
        trial.update(batch)
        compile_s = time.perf_counter() - began
        after_s = median_s(lambda: trial.update(batch), device)
    except Exception as error:  # inductor raises whatever its compilers do
        event("compile_failed", f"torch.compile did not work here, so training goes on without it: {first_line(error)}")
        return model
    gain = before_s / after_s
    event(
        "compiled",
        f"torch.compile made an update {gain:.2f} times as fast ({before_s * 1e3:.3g} ms before, "
        f"{after_s * 1e3:.3g} ms after) and took {compile_s:.1f} s",
        gain=gain,
        before_ms=before_s * 1e3,
        after_ms=after_s * 1e3,
        compile_s=compile_s,
    )
    compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
    return compiled
