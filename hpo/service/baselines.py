"""What simpler methods reach: computed once per study and part of the data, then remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.plan import Plan
from hpo.trial import Event, Metrics
from objectives import registry
from storage.records import RETRAIN, SEARCH, EventRecord
from storage.studies import StoredStudy, Studies

_SERIES = {"validation": SEARCH, "test": RETRAIN}


def baselines(studies: Studies, study: StoredStudy, plan: Plan, part: str) -> Mapping[str, Metrics]:
    """The metrics of the study's baselines on ``part`` (validation, test), by name.

    The study file's ``baselines`` names them, all of the objective's by default; names that
    are new to the list are computed when they are first asked for.
    """
    objective = registry.find(plan.spec.objective, plan.import_from)
    wanted = plan.spec.baselines if plan.spec.baselines is not None else objective.baseline_names(plan.data)
    known = remembered(studies.snapshot(plan.name).events, part)
    missing = [name for name in wanted if name not in known]
    if missing:
        new = objective.baselines(plan.data, plan.spec.seed, part, missing)
        known = {**known, **{name: dict(metrics) for name, metrics in new.items()}}
        kept = Event("baselines", f"{', '.join(known)} on the {part} set", {"part": part, "metrics": known})
        studies.add_event(study, kept, series=_SERIES[part])
    return {name: known[name] for name in wanted if name in known}


def remembered(events: Sequence[EventRecord], part: str) -> dict[str, Metrics]:
    """The newest figures of simpler methods on a part; what does not say is of the test set."""
    found = [e.details for e in events if e.kind == "baselines" and e.details.get("part", "test") == part]
    return dict(found[-1].get("metrics", {})) if found else {}
