"""Counting the memory of the tensors that a piece of work makes, where no allocator keeps count."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed._tools.mem_tracker import MemTracker


def tensor_tracker() -> MemTracker:
    """PyTorch's ``MemTracker``, for its totals; also for models with frozen parameters, which it refuses as it is.

    It wants to be told of every parameter's gradient, to sort memory by kind, and a frozen
    one has none. The totals need no sorting. Importing it takes 0.8 s.
    """
    from torch import nn
    from torch.distributed._tools.mem_tracker import MemTracker

    class Totals(MemTracker):
        def _track_module_params_and_buffers(
            self, module: nn.Module, install_grad_hooks: bool = True
        ) -> tuple[int, int]:
            return super()._track_module_params_and_buffers(module, install_grad_hooks=False)

    return Totals()
