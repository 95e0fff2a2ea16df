"""The optimisers by name. One function each; a new one is a function and a line in the table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from hpo.errors import TrialFailed, UnknownName
from hpo.training.extras import check_installed
from hpo.training.precision import resolve_precision
from hpo.training.settings import TrainerSettings

Parameters = Sequence[nn.Parameter]
_FUSED_ON = ("cpu", "cuda")


def make_optimizer(settings: TrainerSettings, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that ``settings`` name, over the model's trainable parameters.

    Raises:
        TrialFailed: the model has no trainable parameter.
        UnknownName: nobody knows ``settings.optimizer``.
        UserError: it needs a package that is not installed.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise TrialFailed("A model needs at least one parameter with requires_grad; this one has none to train.")
    if settings.optimizer not in OPTIMIZERS:
        raise UnknownName("optimizer", settings.optimizer, OPTIMIZERS)
    check_installed(settings)
    return OPTIMIZERS[settings.optimizer](parameters, settings)


def _fused(parameters: Parameters) -> bool | None:
    """Whether one fused kernel can do the step; it is the fastest on CPU and CUDA alike."""
    able = all(p.device.type in _FUSED_ON and torch.is_floating_point(p) for p in parameters)
    return True if able else None


def _adam_options(settings: TrainerSettings) -> dict[str, Any]:
    """What every member of the Adam family takes."""
    return {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.eps,
        "weight_decay": settings.weight_decay,
    }


def _adamw(parameters: Parameters, settings: TrainerSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, **_adam_options(settings), fused=_fused(parameters))


def _adamw8bit(parameters: Parameters, settings: TrainerSettings) -> torch.optim.Optimizer:
    """AdamW whose two moments take one byte per value instead of four (bitsandbytes' ``AdamW8bit``).

    Block-wise quantised (Dettmers et al. 2022, arXiv 2110.02861): 256 values share a
    float32 scale, about 1.02 bytes a value. By bitsandbytes' own rule parameters of fewer
    than 4096 values (``min_8bit_size``) keep moments of 32 bits, being small and sensitive.

    Raises:
        TrialFailed: the package is installed and does not work here.
    """
    # It warns at import about kernels for 4-bit matrices on a CPU, which nothing here uses.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, OSError, RuntimeError) as error:
        raise TrialFailed(
            f"optimizer adamw8bit: bitsandbytes cannot be used here: {error}. Choose another optimizer (adamw)."
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **_adam_options(settings))
    return optimizer


def _adam(parameters: Parameters, settings: TrainerSettings) -> torch.optim.Optimizer:
    """Adam with L2 (not decoupled) weight decay."""
    return torch.optim.Adam(parameters, **_adam_options(settings), fused=_fused(parameters))


def _sgd(parameters: Parameters, settings: TrainerSettings) -> torch.optim.Optimizer:
    # PyTorch 2.13 has no fused SGD for sharded parameters, which alone have placements. And
    # where fp16's scaler drops the first step, the fused one leaves its momentum as it found
    # the memory (``torch.optim.sgd._fused_sgd``), so the next step adds whatever was there.
    is_sharded = any(hasattr(parameter, "placements") for parameter in parameters)
    may_drop = resolve_precision(settings.precision, parameters[0].device) == "fp16"
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=None if is_sharded or may_drop else _fused(parameters),
    )


def _rmsprop(parameters: Parameters, settings: TrainerSettings) -> torch.optim.Optimizer:
    """RMSprop with ``settings.momentum``; its smoothing constant stays at PyTorch's 0.99."""
    return torch.optim.RMSprop(
        parameters, lr=settings.lr, momentum=settings.momentum, eps=settings.eps, weight_decay=settings.weight_decay
    )


def _nadam(parameters: Parameters, settings: TrainerSettings) -> torch.optim.Optimizer:
    return torch.optim.NAdam(parameters, **_adam_options(settings))


OPTIMIZERS: Mapping[str, Callable[[Parameters, TrainerSettings], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}
