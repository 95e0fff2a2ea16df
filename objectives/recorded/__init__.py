"""Trials that were run elsewhere and imported: to look at, to learn from, not to run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hpo.errors import DataError, TrialFailed
from hpo.trial import Direction, Job, Metric, Outcome, TrialContext
from objectives.base import DataFacts, Objective
from search_spaces import Float, SearchSpace

_FIELDS = ("source", "metrics")


class Recorded(Objective):
    """What somebody else's programs measured. ``hpo import`` writes its study files.

    ``source`` says where the trials come from; ``metrics`` names their metrics, each with
    the direction in which it is better.
    """

    summary = "trials that were run elsewhere (hpo import makes such studies; they cannot run)"
    metrics = {"value": Metric(help="what was measured elsewhere")}
    default_goals = ("value",)

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"x": Float(0.0, 1.0)})

    def metrics_for(self, data: Mapping[str, Any]) -> Mapping[str, Metric]:
        named = data.get("metrics")
        if not named:
            return self.metrics
        return {name: Metric(Direction(direction), "measured elsewhere") for name, direction in named.items()}

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        for field in data:
            if field not in _FIELDS:
                raise DataError(f"data: of objective recorded has {' and '.join(_FIELDS)}; got {field!r}.")
        named = data.get("metrics", {})
        if not isinstance(named, Mapping) or not all(value in set(Direction) for value in named.values()):
            raise DataError(f"data: metrics must be {{name: minimize or maximize}}; got {json.dumps(named)}.")
        return super().check_data(data)

    def run(self, job: Job, context: TrialContext) -> Outcome:
        raise TrialFailed(
            "Its trials were run elsewhere, and objective recorded cannot run more. Import them --into a study file "
            "that names the objective to go on with."
        )


OBJECTIVE = Recorded
