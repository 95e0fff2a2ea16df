"""The numbers that say how well classes are told apart, and whether the confidence is deserved.

From torchmetrics, on all rows at once. Every function takes the model's raw outputs: an
interface that guesses whether it got logits or probabilities, as torchmetrics' own, takes
logits that happen to lie in [0, 1] for probabilities.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("accuracy", "macro_f1", "calibration_error")
HIGHER_IS_BETTER = frozenset({"accuracy", "macro_f1"})
BINS = 15
_BELOW_ONE = 1 - 2.0**-24  # torchmetrics would put a confidence of exactly 1 in a bin of its own


def classification_metrics(
    logits: ArrayLike, targets: ArrayLike, prefix: str = "", *, ignore_index: int | None = None
) -> dict[str, float]:
    """All of ``NAMES``, each with ``prefix``, in [0, 1].

    ``macro_f1`` is the mean F1 of the classes that occur, among targets or predictions.
    ``calibration_error`` is the expected one: the mean distance of accuracy and confidence
    over ``BINS`` equal bins of confidence, weighted by rows (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599, equation 3).

    Args:
        logits: (n, classes), before softmax, at least 2 classes; minus infinity is a class ruled out.
        targets: (n,) whole numbers in [0, classes), or ``ignore_index`` for rows that do not count.

    Without a row that counts all is NaN. A row whose softmax is not a number is a miss for
    the accuracy and makes the other two NaN.

    Raises:
        ValueError: shapes that do not fit, or a target that is no class; the first one is named.
    """
    probabilities, wanted = _checked(logits, targets, ignore_index)
    classes = probabilities.shape[1]
    if len(wanted) == 0:
        return {prefix + name: math.nan for name in NAMES}
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_calibration_error,
        multiclass_f1_score,
    )

    broken = probabilities.isnan().any(dim=1)
    said = probabilities.argmax(dim=1).where(~broken, (wanted + 1) % classes)
    values = dict.fromkeys(NAMES, math.nan)
    values["accuracy"] = float(multiclass_accuracy(said, wanted, classes, average="micro"))
    if not broken.any():
        values["macro_f1"] = float(multiclass_f1_score(said, wanted, classes, average="macro"))
        confidence = probabilities.clamp(max=_BELOW_ONE)
        values["calibration_error"] = float(multiclass_calibration_error(confidence, wanted, classes, n_bins=BINS))
    return {prefix + name: value for name, value in values.items()}


def confusion_matrix(logits: ArrayLike, targets: ArrayLike, *, ignore_index: int | None = None) -> np.ndarray:
    """How many rows of each true class (first axis) were called each class: (classes, classes) int64.

    Rows whose softmax is not a number are left out. Arguments and errors as ``classification_metrics``.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    probabilities, wanted = _checked(logits, targets, ignore_index)
    whole = ~probabilities.isnan().any(dim=1)
    said = probabilities[whole].argmax(dim=1)
    return np.asarray(multiclass_confusion_matrix(said, wanted[whole], probabilities.shape[1]).numpy(), dtype=np.int64)


def _checked(logits: ArrayLike, targets: ArrayLike, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Probabilities (n, classes) float64 and targets (n,) int64 of the rows that count."""
    import torch

    said, wanted = torch.as_tensor(logits), torch.as_tensor(targets)
    if said.ndim != 2 or said.shape[1] < 2 or wanted.shape != said.shape[:1]:
        raise ValueError(
            "Logits must have shape (n, classes), with at least 2 classes, and targets (n,); "
            f"got {tuple(said.shape)} and {tuple(wanted.shape)}."
        )
    if wanted.is_floating_point() or wanted.dtype == torch.bool:
        raise ValueError(f"Targets must be whole numbers; got {wanted.dtype}.")
    wanted = wanted.long()
    counts = torch.ones_like(wanted, dtype=torch.bool) if ignore_index is None else wanted != ignore_index
    said, wanted = said[counts], wanted[counts]
    outside = (wanted < 0) | (wanted >= said.shape[1])
    if outside.any():
        row = int(counts.nonzero()[int(outside.nonzero()[0])])
        raise ValueError(
            f"Targets must be in [0, {said.shape[1]}); {int(outside.sum())} of {len(wanted)} are not, "
            f"first row {row}: {int(torch.as_tensor(targets)[row])}."
        )
    return said.double().softmax(dim=1), wanted
