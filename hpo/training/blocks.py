"""Gradient checkpointing: a model's blocks keep their inputs and compute the rest again.

Costs about one more forward pass per update, and saves what lies between a block's input
and its output (Chen et al. 2016, arXiv 1604.06174), through PyTorch's
``torch.utils.checkpoint``. Gradients, dropout and the model's state stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch._compile import _disable_dynamo
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from hpo.errors import TrialFailed


@contextmanager
def checkpointed_blocks(blocks: Sequence[nn.Module], *, wanted: bool) -> Iterator[None]:
    """While inside, and if ``wanted``, each of ``blocks`` is checkpointed whenever gradients are enabled.

    The names in ``state_dict()`` stay, and a deep copy made inside checkpoints its own
    blocks. Where a block is computed again, dropout draws what it drew before, under the
    same autocast, and batch and instance norm do not count the batch twice. A block that
    changes other state of its own in ``forward`` (a cache, spectral norm) must not be named.

    Raises:
        TrialFailed: it is wanted, and there is no block.
    """
    if wanted and not blocks:
        raise TrialFailed(
            "gradient_checkpointing needs to know the model's blocks, and this objective's task names none. "
            "Give them in the Task (blocks=list(model.layers)), or set gradient_checkpointing: false."
        )
    # A class of its own and not a wrapped ``forward`` in the instance: that would tie a deep copy to the original.
    own: list[tuple[nn.Module, Any]] = [(block, type(block)) for block in dict.fromkeys(blocks)] if wanted else []
    for block, kind in own:
        block.__class__ = _checkpointing(kind)
    try:
        yield
    finally:
        for block, kind in own:
            if type(block) is _checkpointing(kind):  # FSDP puts a class of its own over it, which stays
                block.__class__ = kind


@cache
def _checkpointing(kind: Any) -> Any:
    """``kind`` with a ``forward`` that keeps its input and nothing else."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        work = partial(kind.forward, self, **kwargs)
        if not torch.is_grad_enabled():
            return work(*args)
        norms = [module for module in self.modules() if isinstance(module, _NormBase) and module.track_running_stats]
        with _uncached_autocast():
            if norms:
                return _checkpointed_with(norms, work, args)
            return checkpoint(work, *args, use_reentrant=False)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__})


@contextmanager
def _uncached_autocast() -> Iterator[None]:
    """Autocast would keep the narrow copy of each of a block's weights until the whole forward pass is over."""
    was_cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(was_cached)


# torch.compiler.disable, but without importing the compiler for those who do not compile.
@_disable_dynamo  # a compiled block counts every batch twice, whatever the context
def _checkpointed_with(norms: Sequence[nn.Module], work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return checkpoint(
        work, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _on_copied_statistics(norms))
    )


@contextmanager
def _on_copied_statistics(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Let ``norms`` count the batch in copies of their running statistics, which are forgotten afterwards."""
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: None if value is None else value.clone() for name, value in norm._buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
