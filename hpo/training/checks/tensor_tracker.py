"""Counting the memory of the tensors that a piece of work makes, where no allocator keeps count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed._tools.mem_tracker import MemTracker


def tensor_tracker() -> MemTracker:
    """PyTorch's ``MemTracker``, for its totals alone.

    Its statistics of every module are left out: they double the time of a forward pass, grow
    with the square of the number of modules (20 s against 2 for 40 transformer layers), and
    refuse models with frozen parameters or with two passes. Importing it takes 0.8 s.
    """
    import torch
    from torch.distributed._tools.mem_tracker import MemTracker

    class Totals(MemTracker):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.prim.device.default:  # of fake tensors two calls in three, which make nothing
                return func(*args)
            return super().__torch_dispatch__(func, types, args, kwargs)

        def _update_peak_stats(self, peak_state: Any) -> None:
            for device, sizes in self._curr_mem_snap.items():
                if self._peak_mem.get(device, 0) < sizes["Total"]:
                    self._peak_mem[device] = sizes["Total"]
                    self._peak_mem_snap[device] = dict(sizes)

        def _pre_fw_hook(self, module: Any, inputs: Any) -> None: ...

        def _post_fw_hook(self, module: Any, inputs: Any, outputs: Any) -> None: ...

        def _pre_bw_hook(self, module: Any, args: Any) -> None: ...

        def _post_bw_hook(self, module: Any, args: Any) -> None: ...

    return Totals()
