"""What a network must beat: three simple classifiers on small pictures, judged by the same metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hpo.evaluation.classification import classification_metrics
from hpo.trial import Metrics, derive_seed
from objectives.image_classification.data import Images, load, split
from objectives.image_classification.pictures import read, square

SIDE_PX = 16  # these methods see grey pictures of this size, whatever the model sees
MOST = 5_000  # training images at most
NEIGHBOURS = 5

# Log probabilities (rows, classes) from training values (n, 256), their labels (n,), values to judge, and how many
# classes there are.
Classifier = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def baselines(data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str]) -> dict[str, Metrics]:
    """The metrics of the named ``CLASSIFIERS``, trained on the training images, on ``part``.

    Args:
        part: ``validation`` (names begin with ``val_``) or ``test`` (``test_``).

    The loss is the mean negative log probability. Raises ``DataError`` when the data cannot be used.
    """
    _, images = load(data)
    parts = split(images, data_seed)
    rows = parts.validation if part == "validation" else parts.test
    train = np.random.default_rng(derive_seed(data_seed, "baselines")).permutation(parts.train)[:MOST]
    seen, judged = _values(images, train), _values(images, rows)
    labels, wanted = images.labels[train], images.labels[rows]
    prefix = "val_" if part == "validation" else "test_"
    found: dict[str, Metrics] = {}
    for name in names:
        said = CLASSIFIERS[name](seen, labels, judged, len(images.classes))
        loss = float(-said[np.arange(len(rows)), wanted].mean())
        found[name] = {f"{prefix}loss": loss, **classification_metrics(said, wanted, prefix)}
    return found


def _values(images: Images, rows: np.ndarray) -> np.ndarray:
    """(len(rows), 256) float32 in [0, 1]."""
    pictures = (read(images.root / str(path), about=SIDE_PX).convert("L").convert("RGB") for path in images.paths[rows])
    return np.stack([square(picture, SIDE_PX)[0].ravel() for picture in pictures]).astype(np.float32) / 255


def _majority(seen: np.ndarray, labels: np.ndarray, judged: np.ndarray, classes: int) -> np.ndarray:
    """How often each class occurs in training, for every image."""
    return np.tile(_logs(np.bincount(labels, minlength=classes)[None]), (len(judged), 1))


def _logistic_regression(seen: np.ndarray, labels: np.ndarray, judged: np.ndarray, classes: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=300).fit(seen, labels)
    return np.log(np.maximum(model.predict_proba(judged), np.finfo(np.float32).tiny))


def _k_nearest(seen: np.ndarray, labels: np.ndarray, judged: np.ndarray, classes: int) -> np.ndarray:
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(NEIGHBOURS).fit(seen, labels).kneighbors(judged, return_distance=False)
    return _logs(np.eye(classes)[labels[nearest]].sum(axis=1))


def _logs(counts: np.ndarray) -> np.ndarray:
    """Log probabilities of counts, with one more for all classes together: what was not seen is not impossible."""
    smoothed = counts + 1 / counts.shape[1]
    return np.asarray(np.log(smoothed / smoothed.sum(axis=1, keepdims=True)))


CLASSIFIERS: Mapping[str, Classifier] = {
    "majority": _majority,
    "logistic_regression": _logistic_regression,
    "k_nearest": _k_nearest,
}
