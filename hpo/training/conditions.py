"""A measure of a metric over a trial's history, compared with a threshold: what health rules are made of.

Numbers only: no torch, no other part of hpo.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

History = Sequence[Mapping[str, float]]  # one mapping of metrics per epoch, from the first on

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """``measure`` of ``metric`` over a trial's history, compared with ``threshold``.

    ``other`` is the second metric of ``ratio``; ``epochs`` the window of a measure that
    looks at the last ones, and for ``mean`` how many there must be. ``maximize`` says
    which way the metric is worse. Without a threshold the condition never holds.
    """

    measure: str
    metric: str
    comparison: Literal["<", "<=", ">", ">="]
    threshold: float | None
    other: str = ""
    epochs: int = 1
    maximize: bool = False

    def value(self, history: History) -> float | None:
        """What is compared; None while the metric is not reported, or not for enough epochs."""
        return _MEASURES[self.measure][0](self, history) if history else None

    def metrics_in(self, metrics: Mapping[str, float]) -> list[str]:
        """The names that ``metric``, which may be a pattern such as ``val_*``, stands for."""
        return [name for name in metrics if fnmatchcase(name, self.metric)]

    def holds(self, value: float | None) -> bool:
        if value is None or self.threshold is None:
            return False
        return _COMPARE[self.comparison](value, self.threshold)

    def __str__(self) -> str:
        """``train_loss / val_loss < 0.5``."""
        limit = "a threshold" if self.threshold is None else short(self.threshold)
        return f"{_MEASURES[self.measure][1].format(**asdict(self))} {self.comparison} {limit}"


def short(number: float) -> str:
    """Six significant digits."""
    return f"{number:.6g}"


# The measures. Each is given the condition and the history, and answers None where it does not apply.


def _values(condition: Condition, history: History) -> list[float]:
    """The metric in the epochs that reported it."""
    return [metrics[condition.metric] for metrics in history if condition.metric in metrics]


def _window(condition: Condition, history: History, extra: int = 0) -> list[float] | None:
    """The last ``epochs`` (and ``extra``) values; None when there are fewer, or one is not finite."""
    wanted = condition.epochs + extra
    values = _values(condition, history)[-wanted:]
    return values if len(values) == wanted and all(map(math.isfinite, values)) else None


def _finite(condition: Condition, history: History) -> list[float]:
    return [value for value in _values(condition, history) if math.isfinite(value)]


def _last(condition: Condition, history: History) -> float | None:
    return history[-1].get(condition.metric)


def _first(condition: Condition, history: History) -> float | None:
    return history[0].get(condition.metric)


def _max(condition: Condition, history: History) -> float | None:
    return max(_finite(condition, history), default=None)


def _min(condition: Condition, history: History) -> float | None:
    return min(_finite(condition, history), default=None)


def _best(condition: Condition, history: History) -> float | None:
    return (_max if condition.maximize else _min)(condition, history)


def _mean(condition: Condition, history: History) -> float | None:
    values = _finite(condition, history)
    return statistics.fmean(values) if len(values) >= condition.epochs else None


def _std(condition: Condition, history: History) -> float | None:
    values = _window(condition, history)
    if values is None:
        return None
    mean = statistics.fmean(values)  # statistics.pstdev reckons in fractions and is forty times slower
    return math.sqrt(statistics.fmean((value - mean) ** 2 for value in values))


def _relative_std(condition: Condition, history: History) -> float | None:
    std, values = _std(condition, history), _finite(condition, history)
    largest = max(map(abs, values), default=0.0)
    return None if std is None else std / largest if largest else 0.0


def _span(condition: Condition, history: History) -> float | None:
    values = _window(condition, history)
    return None if values is None else max(values) - min(values)


def _change(condition: Condition, history: History) -> float | None:
    values = _window(condition, history, extra=1)
    return None if values is None else values[-1] - values[0]


def _is_worse(condition: Condition, value: float, than: float) -> bool:
    return value < than if condition.maximize else value > than


def _worse_running(condition: Condition, history: History) -> float | None:
    values = _values(condition, history)
    running = 0
    while running < len(values) - 1 and _is_worse(condition, values[-1 - running], values[-2 - running]):
        running += 1
    return float(running) if values else None


def _setbacks(condition: Condition, history: History) -> float | None:
    values = _window(condition, history)
    if values is None:
        return None
    return float(sum(_is_worse(condition, now, before) for before, now in pairwise(values)))


def _ratio(condition: Condition, history: History) -> float | None:
    over, under = history[-1].get(condition.metric), history[-1].get(condition.other)
    if over is None or under is None or not (over >= 0 and under > 0):
        return None  # of a loss that can be negative, a ratio says nothing
    return over / under


def _not_finite(condition: Condition, history: History) -> float | None:
    names = condition.metrics_in(history[-1])
    return float(sum(not math.isfinite(history[-1][name]) for name in names)) if names else None


# Each measure with the words for it.
_MEASURES: Mapping[str, tuple[Callable[[Condition, History], float | None], str]] = {
    "last": (_last, "{metric}"),
    "first": (_first, "{metric} of the first epoch"),
    "best": (_best, "best {metric} so far"),
    "max": (_max, "highest {metric} so far"),
    "min": (_min, "lowest {metric} so far"),
    "mean": (_mean, "mean {metric} of {epochs} epochs or more"),
    "std": (_std, "standard deviation of {metric} over {epochs} epochs"),
    "relative_std": (_relative_std, "standard deviation of {metric} over {epochs} epochs / its largest magnitude"),
    "span": (_span, "highest minus lowest {metric} of {epochs} epochs"),
    "change": (_change, "change of {metric} over {epochs} epochs"),
    "worse_running": (_worse_running, "epochs running in which {metric} was worse than before"),
    "setbacks": (_setbacks, "epochs of the last {epochs} in which {metric} was worse than before"),
    "ratio": (_ratio, "{metric} / {other}"),
    "not_finite": (_not_finite, "number of {metric} that are NaN or infinite"),
}
MEASURES = tuple(_MEASURES)
COUNTS = ("worse_running", "setbacks", "not_finite")
