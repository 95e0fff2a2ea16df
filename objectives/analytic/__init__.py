"""Test functions with known answers, dressed as training: for trying and testing studies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random
from typing import Any

from hpo.errors import DataError, UnknownName
from hpo.trial import Job, Metric, Outcome, StopKind, StopReason, TrialContext, derive_seed
from objectives.analytic.functions import FUNCTIONS, Function
from objectives.base import DataFacts, Objective
from search_spaces import Float, SearchSpace

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
        for field in data:
            if field not in _DEFAULTS:
                raise DataError(f"data: {UnknownName('field', field, _DEFAULTS)}")
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

    def run(self, job: Job, context: TrialContext) -> Outcome:
        function, dims = _function(job.data)
        goals = function(_point(job.params, dims))
        random = Random(derive_seed(job.seed, "analytic"))
        noise = [random.gauss(0.0, float(job.data.get("noise", 0.0))) for _ in goals]
        pace = 1.0 + 2.0 * Random(repr(sorted(job.params.items()))).random()
        epoch_s = float(job.data.get("epoch_s", 0.0)) * (1 + float(job.data.get("jitter", 0.0)) * random.uniform(-1, 1))
        for step in range(1, job.epochs + 1):
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


def _point(params: Mapping[str, Any], dims: int) -> list[float]:
    return [float(params[f"x{i}"]) for i in range(dims)]


OBJECTIVE = Analytic
