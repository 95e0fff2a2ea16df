"""What a trainer trains: a model, its data, its loss and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

Metrics = Mapping[str, float]
Batch = tuple[Tensor, ...]
PredictionKind = Literal["value", "class", "gaussian", "other"]


@dataclass(frozen=True)
class Split:
    """One part of the data.

    ``data`` is either a tuple of tensors of equal first dimension, batched on the device
    without worker processes, or any map-style ``Dataset`` whose items are such tuples.
    The last element is the target, those before it are the model's inputs.
    ``metrics(outputs, targets)`` gets everything the model said about this split, in the
    split's own order, as CPU tensors (float32 for floating types), and may know the
    groups of its rows. Where it does, ``metrics_of_rows(outputs, targets, rows)`` is the
    same for some rows only, whose numbers come third: for resampling, and where
    ``limit_batches`` leaves the last ones out.
    ``clusters`` (n,) are ids of rows that belong together and are resampled together.
    ``ids`` (n,) are those by which ``Objective.split_ids`` knows the rows; None: the clusters.
    ``collate`` makes a batch of a ``Dataset``'s items where stacking them does not, as for
    texts of different lengths. ``probe(model)`` is for what must be asked of the model
    itself once an epoch, such as a generated text: its metrics join the others.
    """

    data: tuple[Tensor, ...] | Dataset[Any]
    metrics: Callable[[Tensor, Tensor], Metrics] | None = None
    metrics_of_rows: Callable[[Tensor, Tensor, np.ndarray], Metrics] | None = None
    clusters: np.ndarray | None = None
    ids: np.ndarray | None = None
    collate: Callable[[Sequence[Any]], Batch] | None = None
    probe: Callable[[nn.Module], Metrics] | None = None

    def __len__(self) -> int:
        return len(self.data[0]) if isinstance(self.data, tuple) else len(self.data)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Task:
    """A model with everything needed to train, judge, measure and ship it.

    ``model(*inputs)`` gives a tensor, or a mapping of names to tensors; each has one row a sample.
    ``loss(output, target)`` is the mean over the samples of a batch. Where it is the mean over
    something else, such as tokens, ``weigh(target)`` counts those in a batch, at least one
    in every sample: batches then weigh in losses and gradients by it.
    ``keep(output, target)`` says what of a batch is kept for a split's metrics, each (rows, ...);
    by default all, which for a large vocabulary is too much.
    ``example`` is one sample's inputs, each with a leading batch dimension of 1.
    ``test`` is called by retraining alone; until then the test set is not read.
    ``inputs`` and ``outputs`` name the exported model's tensors; of a mapping those that ship.
    ``open_axes`` has for each input the names of its axes, beside the batch, whose length is free.
    ``predicts`` says what an output is: a ``value`` near the target, the logits of a
    ``class``, a ``gaussian``, (n, 2k): k means, then their k standard deviations, or something
    ``other``. None: a class where targets are whole numbers, else a value (``prediction_kind``).
    ``columns``: how many of the columns that metrics get are outputs in that sense; those after
    them are for the metrics alone. None: all.
    ``assets(folder)`` leaves in an empty folder what preparing new inputs takes beside ``facts``, such
    as a tokenizer; it ships with the model. JSON, text and safetensors: nothing that is code.
    ``blocks`` are the parts of ``model`` (its layers) whose activations may be computed
    again instead of kept, when the setting ``gradient_checkpointing`` asks for it.
    """

    model: nn.Module
    train: Split
    validation: Split
    loss: Callable[[Any, Tensor], Tensor]  # of a tensor, or of tensors by name
    example: tuple[Tensor, ...]
    test: Callable[[], Split] | None = None
    inputs: Sequence[str] = ("input",)
    outputs: Sequence[str] = ("output",)
    facts: Mapping[str, Any] = field(default_factory=dict)  # kept with the model (e.g. scaling)
    predicts: PredictionKind | None = None
    columns: int | None = None
    blocks: Sequence[nn.Module] = ()
    weigh: Callable[[Tensor], Tensor | int] = len
    keep: Callable[[Any, Tensor], tuple[Tensor, Tensor]] | None = None
    open_axes: Sequence[Mapping[int, str]] = ()
    assets: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Outline:
    """What of a task decides how much memory it takes, with every tensor on the meta device, where it takes none.

    ``sample`` is one sample's inputs and its target, as in ``Split.data``, each with a
    leading batch dimension of 1 and as large as samples get; values do not matter. With it
    and ``loss`` the activations can be reckoned; without, only what the model keeps.
    ``blocks`` as in ``Task``.
    """

    model: nn.Module
    sample: tuple[Tensor, ...] = ()
    loss: Callable[[Any, Tensor], Tensor] | None = None
    blocks: Sequence[nn.Module] = ()


def prediction_kind(task: Task, targets: Tensor) -> PredictionKind:
    """``task.predicts``, or what the type of its targets says."""
    return task.predicts or ("value" if targets.is_floating_point() else "class")


def build_model(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """``make()`` with torch's generator seeded, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
