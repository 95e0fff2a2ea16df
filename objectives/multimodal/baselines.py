"""What the model must beat: the commonest class, and logistic regression on summaries of each modality and of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo.trial import Metrics
from objectives.multimodal.data import Planets, load, split
from objectives.multimodal.fields import Fields
from objectives.multimodal.presets import PARTS
from objectives.multimodal.task import judge

ALL = "logistic_all"


def names(data: Fields) -> tuple[str, ...]:
    """The commonest class, a logistic regression a modality, and one on all of them."""
    return ("majority", *(f"logistic_{part}" for part in data.modalities), ALL)


def baselines(data: Fields, data_seed: int, part: str, chosen: Sequence[str]) -> dict[str, Metrics]:
    """The metrics of the ``chosen`` of ``names``, trained on the training rows, on ``part``.

    Args:
        part: ``validation`` (metrics begin with ``val_``) or ``test`` (``test_``).
    """
    import torch

    planets = load(data)
    parts = split(planets, data_seed)
    rows = parts.validation if part == "validation" else parts.test
    metrics = judge({modality: planets.present(modality)[rows] for modality in PARTS}, ())
    targets = torch.from_numpy(planets.labels[rows])
    found: dict[str, Metrics] = {}
    for name in chosen:
        said = _majority(planets, parts.train, rows) if name == "majority" else _logistic(
            planets, parts.train, rows, data.modalities if name == ALL else (name.removeprefix("logistic_"),)
        )  # fmt: skip
        values = metrics(torch.from_numpy(np.log(np.maximum(said, 1e-12))), targets)
        prefix = "val_" if part == "validation" else "test_"
        found[name] = {prefix + metric.removeprefix("val_"): value for metric, value in values.items()}
    return found


def _majority(planets: Planets, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The shares of the classes in the training rows, for every row: (rows, classes)."""
    shares = np.bincount(planets.labels[train], minlength=len(planets.classes)) / len(train)
    return np.tile(shares, (len(rows), 1))


def _logistic(planets: Planets, train: np.ndarray, rows: np.ndarray, modalities: Sequence[str]) -> np.ndarray:
    """Probabilities (rows, classes), from standardised summaries."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    of = {"text": _words, "graph": _network, "cube": _climate}
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    summaries = np.concatenate([_filled(planets, part, of[part](planets)) for part in modalities], axis=1)
    model.fit(summaries[train], planets.labels[train])
    said = np.zeros((len(rows), len(planets.classes)))
    said[:, model.classes_] = model.predict_proba(summaries[rows])  # a class may be missing among the training rows
    return said


def _filled(planets: Planets, part: str, summaries: np.ndarray) -> np.ndarray:
    """Summaries with zeros where the modality is missing, and a column that says so."""
    there = planets.present(part)[:, None]
    return np.concatenate([np.where(there, summaries, 0), there], axis=1)


def _words(planets: Planets) -> np.ndarray:
    """How often each token occurs, (n, vocabulary)."""
    counts = np.zeros((len(planets), planets.vocabulary))
    for row, (tokens, length) in enumerate(zip(planets.tokens, planets.token_counts.tolist(), strict=True)):
        np.add.at(counts[row], tokens[:length], 1)
    return counts


def _network(planets: Planets) -> np.ndarray:
    """Nodes, edges, mean, deviation and maximum of the degrees, and mean features: (n, 5 + features)."""
    found = np.zeros((len(planets), 5 + planets.graphs.nodes.shape[1]))
    for row in np.flatnonzero(planets.present("graph")).tolist():
        nodes, edges = planets.graphs[row]
        degrees = np.bincount(edges.ravel(), minlength=len(nodes))
        found[row] = [len(nodes), len(edges), degrees.mean(), degrees.std(), degrees.max(), *nodes.mean(0)]
    return found


def _climate(planets: Planets) -> np.ndarray:
    """Mean, deviation and contrast of equator and poles, of every variable at every level."""
    variables, levels, lats, _ = planets.cubes.shape[1:]
    found = np.zeros((len(planets), 3 * variables * levels))
    for row in np.flatnonzero(planets.present("cube")).tolist():
        cube = np.asarray(planets.cubes[planets.cube_rows[row]], np.float64)
        middle = cube[:, :, lats // 4 : lats - lats // 4].mean((2, 3))
        found[row] = np.stack([cube.mean((2, 3)), cube.std((2, 3)), middle - cube.mean((2, 3))]).ravel()
    return found
