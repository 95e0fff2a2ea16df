"""What stands between a good number and a released model: the study's gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo.evaluation.gates import TRAINING_MINUTES, Verdict, evaluate, figures_on_test
from hpo.plan import Plan
from hpo.service.validating import folds_of
from hpo.trial import TrialRecord
from objectives import registry
from storage.records import RETRAIN, VALIDATE
from storage.studies import StoredStudy, Studies


def verdicts(
    studies: Studies,
    study: StoredStudy,
    plan: Plan,
    promise: TrialRecord,
    shipped: TrialRecord,
    exported: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Verdict]:
    """The study's gates, held against everything measured of the model that ships.

    Args:
        promise: the search's trial it comes from; its cross-validation is looked up.
        exported: format → figures; None before the export.
    """
    known = registry.find(plan.spec.objective, plan.import_from).metrics_for(plan.data)
    figures: dict[str, Mapping[str, Any]] = figures_on_test(shipped.metrics, known)
    seconds = studies.worked_s(study, RETRAIN, shipped.number)
    figures["run"] = {**shipped.metrics, **({} if seconds is None else {TRAINING_MINUTES: seconds / 60})}
    crossed = folds_of(plan, promise, studies.trials(study, VALIDATE).records(points=True))
    if crossed is not None:
        figures["folds"] = {name: over.values for name, over in crossed.metrics.items()}
    if exported is not None:
        figures["export"] = exported
    return evaluate(plan.spec.gates, figures, plan.name, promise.number)
