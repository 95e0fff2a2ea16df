"""How far the shipped model's test figures could be from those of another test set: computed once per run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.plan import Plan
from hpo.study import make_job
from hpo.trial import Event, TrialRecord, derive_seed
from objectives import registry
from objectives.base import TrainingObjective
from storage.records import RETRAIN
from storage.studies import StoredStudy, Studies

if TYPE_CHECKING:
    from hpo.evaluation.intervals import Interval


def intervals(studies: Studies, study: StoredStudy, plan: Plan, shipped: TrialRecord) -> Mapping[str, Interval]:
    """Bootstrap intervals of the test metrics of a run, from the predictions in its folder.

    Empty where there are none: no test set, metrics of no rows, or predictions too large to
    have been kept.
    """
    from hpo.evaluation.intervals import Interval

    for event in reversed(studies.snapshot(plan.name).events):
        if event.kind == "intervals" and event.details.get("finished_at") == shipped.finished_at:
            return {name: Interval(**told) for name, told in event.details["metrics"].items()}
    found = _computed(plan, shipped, Path(study.folder))
    if found:
        details = {
            "run": shipped.number, "finished_at": shipped.finished_at,
            "metrics": {name: asdict(interval) for name, interval in found.items()},
        }  # fmt: skip
        said = f"of {len(found)} test metrics of run {shipped.number}, by bootstrap"
        studies.add_event(study, Event("intervals", said, details), series=RETRAIN, number=shipped.number)
    return found


def _computed(plan: Plan, shipped: TrialRecord, folder: Path) -> Mapping[str, Interval]:
    objective = registry.find(plan.spec.objective, plan.import_from)
    if not isinstance(objective, TrainingObjective):
        return {}
    import numpy as np

    from hpo.evaluation.intervals import split_intervals
    from hpo.training.ending import TEST_PREDICTIONS

    job = replace(make_job(plan, shipped, RETRAIN, folder), use_test=True)
    kept = Path(job.folder) / TEST_PREDICTIONS
    test = objective.task(job).test if kept.is_file() else None
    if test is None:
        return {}
    with np.load(kept, allow_pickle=False) as said:
        outputs, targets = said["outputs"], said["targets"]
    return split_intervals(test(), outputs, targets, seed=derive_seed(plan.spec.seed, "intervals"))
