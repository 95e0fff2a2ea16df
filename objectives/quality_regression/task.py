"""One trial's model and data, for the shared trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from hpo.errors import UnknownName
from hpo.evaluation.groups import group_metrics, small_groups
from hpo.evaluation.regression import regression_metrics
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task, build_model
from hpo.trial import Job, Metrics, Params
from objectives.quality_regression.data import FEATURES, SETTINGS, TYPES, Records, load, split
from objectives.quality_regression.model import QualityModel, Scaling, Shape


def build(job: Job) -> Task:
    """The task of ``job``: inputs (B, 2056), target and output (B, 1), mean squared error.

    The test set exists only for a job that may use it. Everything that is learnt from the
    data, scaling included, comes from the training rows: the fold's own, where there is one.

    Raises:
        DataError: the data cannot be used.
        UnknownName: a parameter is neither the model's nor the trainer's.
    """
    import torchmetrics.functional  # noqa: F401  # 1.5 s once a process, which the first epoch is not to pay for

    shape = shape_of(job.params)
    records = load(job.data)
    parts = split(records, job.data_seed, job.fold)
    inputs = records.inputs(parts.train)
    scaling = Scaling.of(inputs, records.ssim[parts.train])
    skipped = small_groups(records.logo_types[parts.validation], known=TYPES)
    model = build_model(lambda: QualityModel(shape, scaling), job.seed)
    return Task(
        model=model,
        train=Split(_tensors(records, parts.train)),
        validation=_judged(records, parts.validation),
        loss=mse_loss,
        example=(torch.from_numpy(inputs[:1]),),
        test=partial(_judged, records, parts.test) if job.use_test else None,
        inputs=("features_and_settings",),
        outputs=("ssim",),
        facts={
            "features": records.feature_kind,
            "data_fingerprint": records.fingerprint,
            "rows": {name: len(rows) for name, rows in vars(parts).items()},
            "skipped_types": skipped,
        },
        predicts="value",
        blocks=list(model.get_submodule("body").children()),
    )


def shape_of(params: Params) -> Shape:
    """The model's part of ``params``; the trainer's are passed over.

    Raises:
        UnknownName: a parameter belongs to neither.
    """
    ours = {field.name for field in fields(Shape)}
    known = ours | set(TrainerSettings.model_fields)
    for name in params:
        if name not in known:
            raise UnknownName("parameter of quality_regression", name, known)
    return Shape(**{name: value for name, value in params.items() if name in ours})


def empty_model(params: Params) -> QualityModel:
    """The network of ``params`` with neutral standardisation, to load weights (and theirs) into."""
    inputs = FEATURES + SETTINGS
    return QualityModel(shape_of(params), Scaling(np.zeros(inputs), np.ones(inputs), 0.0, 1.0))


def judge(types: np.ndarray, prefix: str = "val_") -> Callable[[Any, Any], Metrics]:
    """A function from (predictions, targets) to all metrics, overall and for each of ``types`` with 10 rows."""
    one = partial(regression_metrics, prefix=prefix)

    def metrics(predictions: Any, targets: Any) -> Metrics:
        return {**one(predictions, targets), **group_metrics(one, predictions, targets, types, known=TYPES).values}

    return metrics


def _judged(records: Records, rows: np.ndarray) -> Split:
    types = records.logo_types[rows]
    all_rows = judge(types)
    return Split(
        _tensors(records, rows),
        metrics=lambda outputs, targets: all_rows(outputs.numpy(), targets.numpy()),
        metrics_of_rows=lambda outputs, targets, some: judge(types[some])(outputs.numpy(), targets.numpy()),
        clusters=records.logo_ids[rows],
    )


def _tensors(records: Records, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(records.inputs(rows)), torch.from_numpy(records.ssim[rows])[:, None]
