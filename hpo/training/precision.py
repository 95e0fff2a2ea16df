"""Which number format the forward pass runs in, and the loss scaling that fp16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from hpo.training.outputs import Output, each

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NO_AUTOCAST: AbstractContextManager[None] = nullcontext()


def resolve_precision(name: str, device: torch.device) -> str:
    """``fp32``, ``bf16`` or ``fp16``; ``auto`` is fp32 on a CPU, bf16 on a GPU that has it, else fp16."""
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


class Precision:
    """The number format of one model's forward passes.

    The loss is always computed in float32, outside autocast: ``widen`` its input first.
    ``scaler`` is None except for fp16, whose gradients vanish without it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = resolve_precision(name, device)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type) if self.name == "fp16" else None
        self._dtype = _DTYPES.get(self.name)

    def autocast(self) -> AbstractContextManager[object]:
        if self._dtype is None:
            return _NO_AUTOCAST
        return torch.autocast(self.device.type, dtype=self._dtype)

    def widen(self, output: Output) -> Output:
        """``output`` in float32 when autocast may have narrowed it."""
        if self._dtype is None:
            return output
        return each(output, lambda value: value.float() if value.dtype == self._dtype else value)
