"""What a trained model said about a part of the data, as figures ready to be drawn. Draws nothing itself."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PARTS = {"test": "test_predictions.npz", "validation": "val_predictions.npz"}
KINDS = ("value", "class", "gaussian", "other")
_MOST_CLASSES = 100  # a larger matrix shows nothing
_LEVELS = np.linspace(0.05, 0.95, 19)
_BINS = 10


@dataclass(frozen=True)
class Predictions:
    """Outputs and targets of one part of the data, row by row, and what the outputs mean.

    ``value``: near the target, same shape. ``class``: logits (n, classes, ...) of the
    whole numbers (n, ...). ``gaussian``: (n, 2k), k means and then their k standard
    deviations, of targets (n, k). ``other``: nothing that there is a figure for.
    """

    part: str
    kind: str
    outputs: Array
    targets: Array


@dataclass(frozen=True)
class Agreement:
    """Predicted against actual, flat, with Pearson's r (NaN where one side is constant) and the RMSE."""

    actual: Array
    predicted: Array
    r: float
    rmse: float


@dataclass(frozen=True)
class Confusion:
    """``counts`` (classes, classes): rows are the actual class, columns the predicted one."""

    counts: Array
    accuracy: float

    @property
    def shares(self) -> Array:
        """Of each actual class, how much went where; 0 for a class that does not occur."""
        rows: Array = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return rows


@dataclass(frozen=True)
class Calibration:
    """How far standard deviations can be trusted.

    ``expected`` and ``observed``: the share of targets that should lie, and do lie, within
    the central interval of that probability. ``sigma`` and ``error``: mean predicted
    standard deviation and root mean square error, in up to ten groups of rows of rising sigma.
    """

    expected: Array
    observed: Array
    sigma: Array
    error: Array


def load(folder: Path, part: str) -> Predictions | None:
    """The kept predictions of a trial; None where there are none, or they cannot be read."""
    try:
        with np.load(folder / PARTS[part], allow_pickle=False) as file:
            outputs, targets = file["outputs"], file["targets"]
            kind = str(file["kind"]) if "kind" in file else None
            if "columns" in file:
                outputs = outputs[:, : int(file["columns"])]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    if not len(outputs) or len(outputs) != len(targets):
        return None
    usual = "class" if np.issubdtype(targets.dtype, np.integer) else "value"
    return Predictions(part, kind if kind in KINDS else usual, outputs, targets)


def agreement(found: Predictions) -> Agreement | None:
    """Predicted against actual, rows that are not finite left out; None for classes and odd shapes."""
    if found.kind not in ("value", "gaussian"):
        return None
    predicted = found.outputs if found.kind == "value" else _split(found)[0]
    actual, predicted = found.targets.astype(float).ravel(), predicted.astype(float).ravel()
    if actual.shape != predicted.shape:
        return None
    finite = np.isfinite(actual) & np.isfinite(predicted)
    actual, predicted = actual[finite], predicted[finite]
    if not len(actual):
        return None
    varies = np.ptp(actual) > 0 and np.ptp(predicted) > 0
    r = float(np.corrcoef(actual, predicted)[0, 1]) if varies else float("nan")
    return Agreement(actual, predicted, r, float(np.sqrt(np.mean((predicted - actual) ** 2))))


def confusion(found: Predictions) -> Confusion | None:
    """The confusion matrix; None for values, for more than 100 classes and for odd shapes.

    Targets below 0 are padding and left out. One logit a row stands for two classes.
    """
    if found.kind != "class":
        return None
    outputs, targets = found.outputs, found.targets
    if outputs.size == targets.size:
        classes, said = 2, (outputs > 0).reshape(targets.shape)
    elif outputs.ndim == targets.ndim + 1 and outputs.shape[2:] == targets.shape[1:]:
        classes, said = outputs.shape[1], outputs.argmax(axis=1)
    else:
        return None
    actual, said = targets.ravel().astype(int), said.ravel().astype(int)
    counted = (actual >= 0) & (actual < classes)
    if classes > _MOST_CLASSES or not counted.any():
        return None
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (actual[counted], said[counted]), 1)
    return Confusion(counts, float(np.trace(counts) / counts.sum()))


def calibration(found: Predictions) -> Calibration | None:
    """How far the standard deviations can be trusted; None where there are none."""
    if found.kind != "gaussian":
        return None
    means, sigmas = _split(found)
    targets = found.targets.astype(float).reshape(len(found.targets), -1)
    if means.shape != targets.shape:
        return None
    errors, sigma = np.abs(targets - means).ravel(), sigmas.ravel()
    usable = np.isfinite(errors) & np.isfinite(sigma) & (sigma > 0)
    errors, sigma = errors[usable], sigma[usable]
    if not len(errors):
        return None
    widths = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in _LEVELS])
    observed = (errors[:, None] <= widths * sigma[:, None]).mean(axis=0)
    groups = np.array_split(np.argsort(sigma, kind="stable"), min(_BINS, len(sigma)))
    return Calibration(
        _LEVELS,
        observed,
        np.array([sigma[rows].mean() for rows in groups]),
        np.array([np.sqrt(np.mean(errors[rows] ** 2)) for rows in groups]),
    )


def _split(found: Predictions) -> tuple[Array, Array]:
    """Means and standard deviations, each (n, k)."""
    outputs = found.outputs.astype(float).reshape(len(found.outputs), -1)
    half = outputs.shape[1] // 2
    return outputs[:, :half], outputs[:, half:]
