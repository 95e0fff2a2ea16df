"""Every setting of the shared trainer, with its default and its bounds. No torch here.

A search parameter that has the name of a field below *is* that setting: the trainer takes
it from the trial instead of the study file (``TrainerSettings.with_params``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# Ways to say the same thing: a layer that gives one of them takes the others back.
WARM_UPS = ("warmup_epochs", "warmup_steps", "warmup_share")


def seconds(value: object) -> float:
    """A duration in seconds: a number, or text such as ``90s``, ``30m``, ``1.5h``, ``2d``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", str(value))
    if not match:
        raise ValueError("a duration is a number of seconds, or text like 90s, 30m, 1.5h, 2d")
    return float(match[1]) * _UNITS_S[match[2]]


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]


class EarlyStopping(BaseModel):
    """Stop when ``metric`` has not improved by ``min_delta`` for ``patience`` epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = "val_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    patience: int = Field(default=8, ge=1)
    min_delta: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)


class TrainerSettings(BaseModel):
    """How a task is trained, apart from what it is. The user guide has a table of all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # the optimiser
    optimizer: Literal["adamw", "adamw8bit", "adam", "sgd", "rmsprop", "nadam"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    grad_clip: float | None = Field(default=None, gt=0)

    # the learning rate over time; at most one of the warm-ups
    schedule: Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "one_cycle"] = "constant"
    warmup_epochs: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_share: float | None = Field(default=None, ge=0, lt=1)
    final_lr_share: float = Field(
        default=0.0, ge=0, le=1, description="of the base lr, where a falling curve ends; one_cycle ends at 1/100"
    )
    restarts: int = Field(default=1, ge=1, description="of cosine_with_restarts: 2 restarts are 3 half cosines")
    power: float = Field(default=2.0, gt=0, allow_inf_nan=False, description="of polynomial; 1 is a straight line")
    peak_factor: float = Field(default=1.0, ge=1, allow_inf_nan=False, description="one_cycle's peak over the base lr")

    # batches
    batch_size: int = Field(default=32, ge=1)
    accumulation: int = Field(default=1, ge=1)
    eval_batch_size: int | None = Field(default=None, ge=1)
    limit_batches: int | None = Field(default=None, ge=1, description="of an epoch and of each evaluation: a try-out")
    loader_workers: int = Field(default=0, ge=0)
    prefetch: int = Field(default=2, ge=1, description="batches that each loader worker keeps ready")
    persistent_workers: bool = True
    pin_memory: bool = True

    # number format and memory
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False

    # when it ends, besides its epochs
    early_stopping: EarlyStopping | None = None
    time_limit: Duration | None = Field(default=None, description="wall-clock seconds of one trial, all attempts")

    # what is kept
    checkpoint_every: int = Field(default=1, ge=1, description="epochs between checkpoints")
    checkpoint_minutes: float | None = Field(default=None, gt=0, description="minutes between them within an epoch")
    keep_best: int = Field(default=1, ge=1, description="how many of the best epochs keep a checkpoint")
    keep_every: int | None = Field(default=None, ge=1, description="epochs whose checkpoint is never cleaned up")

    # where it runs
    threads: int | None = Field(default=None, ge=1, description="torch threads; None: resources.cpus")
    devices: int = Field(default=1, ge=1, description="processes that train one trial together")
    strategy: Literal["ddp", "fsdp"] = "ddp"
    max_recoveries: int = Field(default=3, ge=0, description="of a trial, from memory running out or NaN")

    @model_validator(mode="after")
    def _one_warm_up(self) -> Self:
        given = [name for name in WARM_UPS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"a warm-up is given once, by epochs, steps or share; here by {' and '.join(given)}")
        return self

    @classmethod
    def layered(cls, *layers: Mapping[str, Any]) -> Self:
        """The settings of several layers, a later one over an earlier one, field by field.

        Raises:
            pydantic.ValidationError: a value is outside the bounds of its setting.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            if any(name in layer for name in WARM_UPS):
                merged = {name: value for name, value in merged.items() if name not in WARM_UPS}
            merged.update(layer)
        return cls.model_validate(merged)

    def with_params(self, params: Mapping[str, Any]) -> Self:
        """These settings with every parameter of the same name put in its place.

        ``patience`` is that of early stopping, where there is one.

        Raises:
            pydantic.ValidationError: a parameter is outside the bounds of its setting.
        """
        known = {name: value for name, value in params.items() if name in type(self).model_fields}
        if "patience" in params and self.early_stopping is not None:
            known["early_stopping"] = {**self.early_stopping.model_dump(), "patience": params["patience"]}
        return type(self).layered(self.model_dump(), known)
