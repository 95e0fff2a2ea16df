"""What a network must beat: five predictors on the same rows, judged by the same metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hpo.trial import Metrics
from objectives.quality_regression.data import Records, load, split
from objectives.quality_regression.task import judge

# A rule of thumb as people use it: what a type usually reaches, less for few colours and for
# large speckle filters. The type's numbers are close to the means of the maker's own records,
# so this baseline is flattered on them.
_USUAL = {"simple": 0.97, "text": 0.93, "gradient": 0.88, "complex": 0.82}
_COLOR_PRECISION, _FILTER_SPECKLE = 0, 7  # columns of the settings
TREES = 200

Predictor = Callable[[Records, np.ndarray, np.ndarray, int], np.ndarray]


def baselines(data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str]) -> dict[str, Metrics]:
    """The metrics of the named ``PREDICTORS``, trained on the training rows, on ``part``.

    Args:
        part: ``validation`` (names begin with ``val_``) or ``test`` (``test_``).

    The loss is the task's, the mean squared error. Raises ``DataError`` when the data cannot be used.
    """
    records = load(data)
    parts = split(records, data_seed)
    rows = parts.validation if part == "validation" else parts.test
    prefix = "val_" if part == "validation" else "test_"
    metrics = judge(records.logo_types[rows], prefix)
    found: dict[str, Metrics] = {}
    for name in names:
        figures = metrics(PREDICTORS[name](records, parts.train, rows, data_seed), records.ssim[rows])
        found[name] = {f"{prefix}loss": figures[f"{prefix}mse"], **figures}
    return found


def _random(records: Records, train: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """A training target drawn at random."""
    return np.random.default_rng([seed, 1]).choice(records.ssim[train], len(rows))


def _training_mean(records: Records, train: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    return np.full(len(rows), records.ssim[train].mean(dtype=np.float64))


def _heuristic(records: Records, train: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    usual = np.array([_USUAL[kind] for kind in records.logo_types[rows].tolist()])
    settings = records.settings[rows]
    few_colors = np.maximum(0.4 - settings[:, _COLOR_PRECISION], 0)
    return usual - 0.15 * few_colors - 0.03 * settings[:, _FILTER_SPECKLE]


def _ridge_settings(records: Records, train: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0).fit(records.settings[train], records.ssim[train])
    return np.asarray(model.predict(records.settings[rows]))


def _extra_trees(records: Records, train: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Geurts et al. 2006; scikit-learn's defaults (all inputs tried at each split) with ``TREES`` trees."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(TREES, random_state=seed, n_jobs=2)
    model.fit(records.inputs(train), records.ssim[train])
    return np.asarray(model.predict(records.inputs(rows)))


PREDICTORS: dict[str, Predictor] = {
    "random": _random,
    "training_mean": _training_mean,
    "heuristic": _heuristic,
    "ridge_settings": _ridge_settings,
    "extra_trees": _extra_trees,
}
