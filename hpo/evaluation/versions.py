"""Two versions of a model on the same rows: on how many one is better, and how their figures differ.

Every comparison is paired: both versions are judged on the same rows, and rows are drawn together. That
is far sharper than two intervals side by side, since what is hard for one is mostly hard for the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpo.evaluation.intervals import LEVEL, RESAMPLES, Interval, row_intervals
from hpo.trial import Direction

Array = np.ndarray
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Wins:
    """On how many rows the new version's error (``by``) is smaller, larger and the same.

    ``p`` is that of the two-sided sign test (Dixon & Mood 1946, doi:10.1080/01621459.1946.10501898) over
    ``units``: the rows, or where rows belong together the clusters, each by whether more of its rows are
    better or worse. Those that are the same count for nothing; NaN where all are.
    """

    by: str
    better: int
    worse: int
    equal: int
    p: float
    units: int

    @property
    def rows(self) -> int:
        return self.better + self.worse + self.equal

    @property
    def line(self) -> str:
        """A sentence, for people."""
        over = "" if self.units == self.rows else f" over {self.units} groups"
        test = "" if math.isnan(self.p) else f"; sign test{over}: p = {self.p:.2g}"
        return (
            f"By {self.by} the new one is better on {self._share(self.better)}, worse on {self._share(self.worse)} "
            f"and the same on {self._share(self.equal)}{test}."
        )

    def _share(self, count: int) -> str:
        return f"{count} ({count / self.rows:.1%})"


@dataclass(frozen=True)
class Figure:
    """A metric of both versions on the same rows. ``interval`` is that of ``change``; None where it is not known.

    ``direction`` None: nobody says which way is better, and ``change`` is the new one minus the old one.
    """

    metric: str
    direction: Direction | None
    old: float
    new: float
    interval: Interval | None = None

    @property
    def change(self) -> float:
        """In the metric's unit, turned so that above 0 is better."""
        return _sign(self.direction) * (self.new - self.old) + 0.0  # no -0.0

    @property
    def fall(self) -> float | None:
        """By which share of the old value the new one is worse; 0 or below when it is not.

        Infinite where the old value is 0, or the new one is no number; None where the old one is none.
        """
        if not math.isfinite(self.old):
            return None
        if not math.isfinite(self.new):
            return math.inf
        if self.change == 0:
            return 0.0
        return -self.change / abs(self.old) if self.old != 0 else math.copysign(math.inf, -self.change)

    @property
    def line(self) -> str:
        """A sentence, for people."""
        share = f" ({abs(self.fall):.2%} of the old value)" if self.fall and math.isfinite(self.fall) else ""
        sure = ""
        low, high = (math.nan, math.nan) if self.interval is None else (self.interval.low, self.interval.high)
        if self.interval is not None and low < high:
            luck = ", so it may be chance" if low <= 0 <= high else ""
            sure = f"; from {_turned(low)} to {_turned(high)} at {self.interval.level:.0%} confidence{luck}"
        return f"{self.metric}: {self.old:.4g} before, {self.new:.4g} now, {_turned(self.change)}{share}{sure}."


def wins(
    by: str, old: ArrayLike, new: ArrayLike, *, atol: float = 0.0, rtol: float = 0.0, clusters: ArrayLike | None = None
) -> Wins:
    """Hold two versions' errors of the same rows against each other.

    Args:
        old, new: (n,) errors, smaller is better; one that is no number is larger than any.
        atol, rtol: errors count as the same within ``atol + rtol * |old|``.
        clusters: (n,) ids of rows that belong together.
    """
    before, after = _errors(old), _errors(new)
    sides = _sides(before, after, atol, rtol)
    tested = sides
    if clusters is not None:
        _, members = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
        # A side is -1, 0 or 1 whatever the size of the error, so that no one row decides for its cluster.
        tested = np.sign(np.bincount(members, weights=sides))
    better, worse = int((tested > 0).sum()), int((tested < 0).sum())
    counted = (int((sides > 0).sum()), int((sides < 0).sum()), int((sides == 0).sum()))
    return Wins(by, *counted, _sign_test(better, worse), len(tested))


def row_errors(kind: str, outputs: Array, targets: Array) -> dict[str, Array]:
    """What can be said of the error of single rows, (n,) each, the one to count by first.

    Args:
        kind: what ``outputs`` are, as ``Task.predicts`` tells it.
        outputs, targets: (n, ...).

    Empty for outputs of another kind, or of shapes that do not fit.
    """
    if kind == "value" and outputs.size == targets.size:
        return {"absolute error": _flat(np.abs(_off(outputs, targets))).mean(axis=1)}
    if kind == "class":
        return _class_errors(outputs, targets)
    if kind == "gaussian":
        half = outputs.shape[1] // 2
        off = _flat(outputs.astype(float))[:, :half] - _flat(targets.astype(float))
        return {"distance of the mean": np.sqrt((off**2).sum(axis=1))}
    return {}


def change_interval(
    figure: Callable[[Array, Array], float],
    old: Array,
    new: Array,
    direction: Direction,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The paired bootstrap interval of the change of one metric, turned so that above 0 is better.

    The percentile interval over rows, or over whole clusters, drawn for both versions at once (Efron &
    Tibshirani 1993, An Introduction to the Bootstrap, chapter 8.6).

    Args:
        figure: the metric of some rows, from their outputs and their numbers.
        old, new: outputs (n, ...) of the same rows.
        seed: the same one gives the same interval.
    """

    def change(rows: Array) -> dict[str, float]:
        return {"change": _sign(direction) * (figure(new[rows], rows) - figure(old[rows], rows)) + 0.0}  # no -0.0

    return row_intervals(change, len(old), seed=seed, resamples=resamples, level=level, clusters=clusters)["change"]


def standard_metrics(kind: str) -> list[Callable[[Array, Array], Figures]]:
    """What is usually measured of such outputs and targets, under the usual names; the quick ones first.

    An objective's metric of one of these names may be something else: hold the value against a known one
    before trusting it. ``loss`` comes several times, in the forms that losses usually have.
    """
    known: dict[str, list[Callable[[Array, Array], Figures]]] = {
        "value": [_squared, _absolute, _correlated, _regression],
        "class": [_classified, _classification],
        "other": [_tallied],
    }
    return known.get(kind, [])


def _squared(outputs: Array, targets: Array) -> Figures:
    value = float(np.mean(_off(outputs, targets) ** 2))
    return {"loss": value, "mse": value, "rmse": math.sqrt(value)}


def _absolute(outputs: Array, targets: Array) -> Figures:
    value = float(np.mean(np.abs(_off(outputs, targets))))
    return {"loss": value, "mae": value}


def _correlated(outputs: Array, targets: Array) -> Figures:
    if min(np.ptp(outputs), np.ptp(targets)) == 0:
        return {"pearson_r": math.nan}
    return {"pearson_r": float(np.corrcoef(outputs.ravel(), targets.ravel())[0, 1])}


def _regression(outputs: Array, targets: Array) -> Figures:
    from hpo.evaluation.regression import regression_metrics

    return regression_metrics(outputs, targets)


def _classified(outputs: Array, targets: Array) -> Figures:
    errors = _class_errors(outputs, targets)
    if not errors:
        return {}
    loss = float(errors["log loss"].mean())
    return {"accuracy": 1 - float(errors["class"].mean()), "loss": loss, "cross_entropy": loss}


def _classification(outputs: Array, targets: Array) -> Figures:
    from hpo.evaluation.classification import classification_metrics

    return classification_metrics(outputs, targets)


def _tallied(outputs: Array, targets: Array) -> Figures:
    """Of rows that come as a sum (first column) over as many parts as ``targets`` (n,) say, such as tokens."""
    if outputs.ndim != 2 or targets.ndim != 1 or not targets.sum() > 0:
        return {}
    loss = float(outputs[:, 0].astype(float).sum() / targets.astype(float).sum())
    return {"loss": loss, "perplexity": math.exp(min(loss, 100.0))}


def _class_errors(outputs: Array, targets: Array) -> dict[str, Array]:
    """Share of a row's places that are wrong, and mean log loss in nats; places below 0 are padding."""
    said = outputs.astype(float)
    if said.size == targets.size:  # one logit for two classes
        said = np.stack([np.zeros(targets.shape), said.reshape(targets.shape)], axis=1)
    if said.ndim != targets.ndim + 1 or said.shape[2:] != targets.shape[1:]:
        return {}
    wanted = targets.astype(int)
    counted = (wanted >= 0) & (wanted < said.shape[1])
    shifted = said - said.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    place = np.where(counted, wanted, 0)[:, None]
    losses = -np.take_along_axis(log_shares, place, axis=1)[:, 0]
    wrong = said.argmax(axis=1) != wanted
    places = np.maximum(_flat(counted).sum(axis=1), 1)

    def mean(values: Array) -> Array:
        found: Array = _flat(np.where(counted, values, 0.0)).sum(axis=1) / places
        return found

    return {"class": mean(wrong), "log loss": mean(losses)}


def _off(outputs: Array, targets: Array) -> Array:
    found: Array = outputs.reshape(targets.shape).astype(float) - targets.astype(float)
    return found


def _errors(values: ArrayLike) -> Array:
    found = np.asarray(values, dtype=float)
    return np.where(np.isfinite(found), found, np.inf)


def _sides(old: Array, new: Array, atol: float, rtol: float) -> Array:
    """1 where the new error is smaller, -1 where it is larger, 0 where they are the same."""
    same = (old == new) | np.isclose(new, old, atol=atol, rtol=rtol)
    return np.where(same, 0, np.where(new < old, 1, -1))


def _sign_test(better: int, worse: int) -> float:
    if better + worse == 0:
        return math.nan
    from scipy.stats import binomtest  # half a second, which other commands should not wait for

    return float(binomtest(better, better + worse).pvalue)


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _turned(change: float) -> str:
    """A change in words; of an unknown direction "better" would say too much, but no main metric has one."""
    if not math.isfinite(change):
        return "not comparable"
    return "the same" if change == 0 else f"{abs(change):.3g} {'better' if change > 0 else 'worse'}"


def _sign(direction: Direction | None) -> int:
    return -1 if direction is Direction.MINIMIZE else 1
