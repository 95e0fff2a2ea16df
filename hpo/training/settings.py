"""Every setting of the shared trainer, with its default and its bounds. No torch here.

A search parameter that has the name of a field below *is* that setting: the trainer takes
it from the trial instead of the study file (``TrainerSettings.with_params``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class EarlyStopping(BaseModel):
    """Stop when ``metric`` has not improved by ``min_delta`` for ``patience`` epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = "val_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    patience: int = Field(default=8, ge=1)
    min_delta: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)


class TrainerSettings(BaseModel):
    """How a task is trained, apart from what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["adamw", "adam", "sgd", "rmsprop", "nadam"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    batch_size: int = Field(default=32, ge=1)
    accumulation: int = Field(default=1, ge=1)
    grad_clip: float | None = Field(default=None, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = Field(default=1, ge=1, description="epochs between checkpoints")
    eval_batch_size: int | None = Field(default=None, ge=1)
    loader_workers: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1, description="torch threads; None: resources.cpus")

    def with_params(self, params: Mapping[str, Any]) -> Self:
        """These settings with every parameter of the same name put in its place.

        Raises:
            pydantic.ValidationError: a parameter is outside the bounds of its setting.
        """
        known = {name: value for name, value in params.items() if name in type(self).model_fields}
        return type(self).model_validate({**self.model_dump(), **known})
