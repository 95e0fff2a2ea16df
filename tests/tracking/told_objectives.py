"""Objectives whose every number can be worked out by hand, one of them with all that a trial may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo.trial import Job, Metric, Outcome, StopKind, StopReason, TrialContext
from objectives.base import DataFacts, Objective
from search_spaces import Choice, Float, SearchSpace


class Told(Objective):
    """Epoch e of 4: ``loss`` x + 1/e, ``share [%]`` 10 e. Once: ``size_mb`` 3.5. Trial ``fails`` raises after epoch 2.

    Trial ``rewinds`` goes back to epoch 1 after epoch 3, where its loss is 100 higher the first time.
    """

    summary = "for tests"
    metrics = {"loss": Metric(), "share [%]": Metric(), "size_mb": Metric(once=True)}
    default_goals = ("loss", "size_mb")
    default_data = {"fails": -1, "rewinds": -1}
    space = SearchSpace({"x": Float(0.0, 1.0), "kind": Choice(("a", None, 2))})

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        return DataFacts("told")

    def run(self, job: Job, context: TrialContext) -> Outcome:
        wrong = 100.0 if job.number == job.data["rewinds"] else 0.0
        step = job.reported
        while step < job.epochs:
            step += 1
            context.report(step, **{"loss": job.params["x"] + 1 / step + wrong, "share [%]": 10.0 * step})
            if step == 2 and job.number == job.data["fails"]:
                raise RuntimeError("broken at epoch 2")
            if wrong and step == 3:
                wrong, step = 0.0, 1
                context.rewind(1)
        return Outcome(StopReason(StopKind.FINISHED, "done"), {"size_mb": 3.5})
