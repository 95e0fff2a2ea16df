"""Test functions with known answers, dressed as training: for trying and testing studies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from hpo.errors import DataError, UnknownName
from hpo.trial import (
    Goal,
    Job,
    Metric,
    Metrics,
    Outcome,
    StopKind,
    StopReason,
    TrialContext,
    TrialRecord,
    TrialState,
    derive_seed,
)
from objectives.analytic.functions import FUNCTIONS, Function
from objectives.base import DataFacts, Objective
from objectives.given import known_fields
from search_spaces import Float, SearchSpace

Bounds = Sequence[tuple[float, float]]
_DEFAULTS: Mapping[str, Any] = {"function": "sphere", "dims": None, "noise": 0.0, "epoch_s": 0.0, "jitter": 0.0}


class Analytic(Objective):
    """``function`` of the parameters x0, x1, ... reported as f1 (f2, f3), lower is better.

    Every goal comes down to its closed form over the epochs, each point at its own pace, so
    that pruners have something to judge; the last epoch is the closed form exactly, plus
    ``noise`` standard deviations of the trial's seeded noise. An epoch lasts ``epoch_s``
    seconds, give or take the share ``jitter``.
    """

    summary = "test functions with known answers: " + ", ".join(FUNCTIONS)
    metrics = {f"f{i}": Metric(help=f"goal {i} of the function") for i in (1, 2, 3)}
    default_goals = ("f1",)
    default_data = {"function": "sphere"}

    @property
    def space(self) -> SearchSpace:
        return self.space_for(self.default_data)

    def space_for(self, data: Mapping[str, Any]) -> SearchSpace:
        function, dims = _function(data)
        bounds = function.bounds * dims if len(function.bounds) == 1 else function.bounds
        return SearchSpace({f"x{i}": Float(low, high) for i, (low, high) in enumerate(bounds)})

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        known_fields(data, _DEFAULTS)
        function, dims = _function(data)
        for field in ("noise", "epoch_s", "jitter"):
            value = data.get(field, 0.0)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise DataError(f"data: {field} must be a number of 0 or more; got {value!r}.")
        # How long an epoch takes changes no result, so it is no part of what the data is.
        return DataFacts(f"{function.name}-{dims}-{float(data.get('noise', 0.0))!r}")

    def metrics_for(self, data: Mapping[str, Any]) -> Mapping[str, Metric]:
        return {f"f{i}": self.metrics[f"f{i}"] for i in range(1, _function(data)[0].goals + 1)}

    def needs(self, data: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(f"x{i}" for i in range(_function(data)[1]))

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(BASELINES)

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        """The closed form, without noise, as blind search finds it; the same for both parts, as there is no data."""
        function, dims = _function(data)
        bounds = function.bounds * dims if len(function.bounds) == 1 else function.bounds
        found: dict[str, Metrics] = {}
        for name in self.chosen_baselines(data, part, names):
            values = BASELINES[name](function, bounds, Random(derive_seed(data_seed, "baseline", name)))
            found[name] = {f"f{i}": value for i, value in enumerate(values, 1)}
        return found

    def run(self, job: Job, context: TrialContext) -> Outcome:
        function, dims = _function(job.data)
        goals = function(_point(job.params, dims))
        random = Random(derive_seed(job.seed, "analytic"))
        noise = [random.gauss(0.0, float(job.data.get("noise", 0.0))) for _ in goals]
        pace = 1.0 + 2.0 * Random(repr(sorted(job.params.items()))).random()
        epoch_s = float(job.data.get("epoch_s", 0.0)) * (1 + float(job.data.get("jitter", 0.0)) * random.uniform(-1, 1))
        # A closed form needs no checkpoint. The last step that is known is told again, because
        # the answer to it may have been lost.
        for step in range(max(1, job.reported), job.epochs + 1):
            if epoch_s > 0:
                time.sleep(epoch_s)
            left = (1 - step / job.epochs) ** pace
            values = [value + function.scale * left + extra for value, extra in zip(goals, noise, strict=True)]
            context.report(step, **{f"f{i}": value for i, value in enumerate(values, 1)})
        return Outcome(StopReason(StopKind.FINISHED, f"ran all {job.epochs} epochs"))


def _function(data: Mapping[str, Any]) -> tuple[Function, int]:
    name = data.get("function", "sphere")
    if name not in FUNCTIONS:
        raise DataError(f"data: {UnknownName('function', name, FUNCTIONS)}")
    function = FUNCTIONS[name]
    dims = data.get("dims")
    if dims is None:
        return function, function.dims
    if isinstance(dims, bool) or not isinstance(dims, int) or dims < function.min_dims:
        raise DataError(f"data: dims of {name} must be a whole number of at least {function.min_dims}; got {dims!r}.")
    if len(function.bounds) > 1 and dims != len(function.bounds):
        raise DataError(f"data: {name} has exactly {len(function.bounds)} dimensions; got {dims}.")
    return function, dims


def _random_mean(function: Function, bounds: Bounds, random: Random) -> Sequence[float]:
    """What one point at random is worth: each goal's mean over 1,000 of them."""
    values = [function([random.uniform(*pair) for pair in bounds]) for _ in range(1000)]
    return [math.fsum(goal) / len(goal) for goal in zip(*values, strict=True)]


def _best_of_20(function: Function, bounds: Bounds, random: Random) -> Sequence[float]:
    """The best of 20 points at random; of several goals, the knee of their front."""
    from hpo.pareto import ParetoFront

    values = [function([random.uniform(*pair) for pair in bounds]) for _ in range(20)]
    goals = [Goal(f"f{i}") for i in range(1, function.goals + 1)]
    tried = [TrialRecord(i, TrialState.COMPLETE, {}, 0, values=value) for i, value in enumerate(values)]
    return values[ParetoFront.of(tried, goals).knee()]


BASELINES: Mapping[str, Callable[[Function, Bounds, Random], Sequence[float]]] = {
    "random_mean": _random_mean,
    "best_of_20": _best_of_20,
}


def _point(params: Mapping[str, Any], dims: int) -> list[float]:
    return [float(params[f"x{i}"]) for i in range(dims)]


OBJECTIVE = Analytic
