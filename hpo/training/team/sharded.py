"""FSDP2: parameters, gradients and the optimiser's state in parts, one in each process.

Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), stage 3, as PyTorch's ``fully_shard``
does it. Checkpoints have the form that one process gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from hpo.training.task import Task
from hpo.training.team.distributed import Group, OwnDraws


class Sharded(Group):
    """A part of every parameter in each process.

    The task's blocks are put together one at a time, when they are needed. The model is
    given out when this is made, so that it need never be on one device as a whole.
    States are complete on rank 0 alone; elsewhere their tensors have a shape and no values.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        super().__init__(task, device)
        with torch.no_grad():
            for tensor in (*task.model.parameters(), *task.model.buffers()):
                dist.broadcast(tensor.data, src=0)
        mesh = init_device_mesh(device.type, (self.size,))
        wanted = set(task.blocks)
        inner_first = [module for module in reversed(list(task.model.modules())) if module in wanted]
        for block in inner_first:
            if block is not task.model and any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
        # By default the outermost part stays whole after an evaluation, and hides its parameters.
        fully_shard(task.model, mesh=mesh, reshard_after_forward=True)
        kept = task.model.state_dict()
        self._buffers = [buffer for name, buffer in task.model.named_buffers() if name in kept]

    def wrap(self, model: nn.Module) -> nn.Module:
        self._model = model
        return OwnDraws(model, self, self._buffers)

    def syncing(self, is_last: bool) -> AbstractContextManager[object]:
        if isinstance(self._model, FSDPModule):
            self._model.set_requires_gradient_sync(is_last)
        return nullcontext()

    def norm(self, grads: Sequence[Tensor]) -> Tensor:
        norms = torch._foreach_norm([local_part(grad) for grad in grads])
        return self.total(torch.stack(norms).square().sum()).sqrt()

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        whole: dict[str, Any] = tree_map(self._whole, dict(model.state_dict()))
        return whole

    def load_model(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        own = model.state_dict()
        model.load_state_dict({name: _part(value, own.get(name)) for name, value in state.items()})

    def optimizer_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        whole: dict[str, Any] = tree_map(self._whole, optimizer.state_dict())
        return whole

    def load_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
        parts = {
            i: {name: _part(value, parameters.get(i)) for name, value in values.items()}
            for i, values in state["state"].items()
        }
        # Which kernel makes the step is this process's affair: not all of them know shards.
        kernels = [{name: group.get(name) for name in ("fused", "foreach")} for group in optimizer.param_groups]
        optimizer.load_state_dict({"state": parts, "param_groups": state["param_groups"]})
        for group, own in zip(optimizer.param_groups, kernels, strict=True):
            group.update(own)

    def _whole(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        full = value.full_tensor() if isinstance(value, DTensor) else value
        return full.cpu() if self.rank == 0 else torch.empty_like(full, device="meta")


def local_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _part(value: Any, like: Tensor | None) -> Any:
    """This process's part of a whole tensor, cut as ``like`` is; anything else as it stands."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    on_device = value.to(like.device)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)
