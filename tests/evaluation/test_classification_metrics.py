"""Classification metrics against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from hpo.evaluation.classification import NAMES, classification_metrics, confusion_matrix


def made(rows: int = 400, classes: int = 5, seed: int = 0, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.choice(classes, rows, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    return scale * (rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[targets]), targets


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_f1_and_confusion_equal_scikit_learn(seed: int) -> None:
    logits, targets = made(seed=seed)
    said = logits.argmax(1)
    found = classification_metrics(logits, targets, "val_")
    assert found["val_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(targets, said))
    assert found["val_macro_f1"] == pytest.approx(sklearn_metrics.f1_score(targets, said, average="macro"))
    np.testing.assert_array_equal(
        confusion_matrix(logits, targets), sklearn_metrics.confusion_matrix(targets, said, labels=range(5))
    )
    assert tuple(found) == tuple(f"val_{name}" for name in NAMES)


def test_a_class_that_never_occurs_is_no_part_of_macro_f1() -> None:
    logits, targets = made(classes=4)
    wider = np.concatenate([logits, np.full((len(logits), 1), -np.inf)], axis=1)
    expected = sklearn_metrics.f1_score(targets, logits.argmax(1), average="macro")
    assert classification_metrics(wider, targets)["macro_f1"] == pytest.approx(expected)


def logits_of(*confidences: float) -> np.ndarray:
    """Two classes; the first is likeliest, with this probability."""
    return np.log([[c, 1 - c] for c in confidences])


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.9 and 0.91 share [13/15, 14/15), 0.6 is alone in [9/15, 10/15).
    # Accuracy 1/2 against 0.905, and 1 against 0.6: (2 * 0.405 + 1 * 0.4) / 3.
    found = classification_metrics(logits_of(0.9, 0.91, 0.6), [0, 1, 0])
    assert found["calibration_error"] == pytest.approx((2 * 0.405 + 0.4) / 3, abs=1e-6)


def test_a_confidence_of_exactly_one_shares_the_last_bin() -> None:
    # Right with confidence 0.95 and wrong with confidence 1: |1/2 - 0.975|, not (0.05 + 1) / 2.
    logits = np.concatenate([logits_of(0.95), [[1000.0, 0.0]]])
    assert classification_metrics(logits, [0, 1])["calibration_error"] == pytest.approx(0.475, abs=1e-6)


def test_logits_between_0_and_1_are_still_logits() -> None:
    confidence = math.exp(0.9) / (math.exp(0.9) + math.exp(0.1))  # 0.690
    found = classification_metrics([[0.9, 0.1], [0.9, 0.1]], [0, 0])
    assert found["calibration_error"] == pytest.approx(1 - confidence, abs=1e-6)


def test_a_perfectly_calibrated_model_has_almost_no_calibration_error() -> None:
    logits, _ = made(100_000, scale=1.0)
    probabilities = torch.as_tensor(logits).softmax(1)
    targets = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    assert classification_metrics(logits, targets)["calibration_error"] < 0.01
    assert classification_metrics(4 * logits, targets)["calibration_error"] > 0.1


def test_ignored_rows_count_nowhere() -> None:
    logits, targets = made()
    ignored = np.where(np.arange(len(targets)) % 3 == 0, -100, targets)
    kept = ignored != -100
    assert classification_metrics(logits, ignored, ignore_index=-100) == classification_metrics(
        logits[kept], targets[kept]
    )
    assert confusion_matrix(logits, ignored, ignore_index=-100).sum() == kept.sum()
    everything = classification_metrics(logits, np.full(len(logits), -100), ignore_index=-100)
    assert all(map(math.isnan, everything.values()))


def test_a_row_that_is_not_a_number_is_a_miss() -> None:
    found = classification_metrics([[math.nan, 0.0], [5.0, 0.0]], [0, 0])
    assert found["accuracy"] == 0.5
    assert math.isnan(found["macro_f1"]) and math.isnan(found["calibration_error"])
    assert confusion_matrix([[math.nan, 0.0], [5.0, 0.0]], [0, 0]).tolist() == [[1, 0], [0, 0]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 2\); 1 of 2 are not, first row 2: 7"):
        classification_metrics(np.zeros((3, 2)), [-1, 0, 7], ignore_index=-1)
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(2,\)"):
        classification_metrics(np.zeros((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="whole numbers; got torch.float"):
        classification_metrics(np.zeros((2, 2)), [0.0, 1.0])
