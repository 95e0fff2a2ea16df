"""What every tracker is told of a trial besides its parameters and its curve."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import hpo
from hpo.trial import Goal, Job, Metrics, TrialRecord, TrialState
from storage.studies import StoredStudy

GOAL = "goal/"  # before the name of a goal: the trial's value, not that of one epoch


def run_id(study: StoredStudy, series: str, number: int | None = None) -> str:
    """16 hexadecimal digits for a trial, or for its series: the same in every launch, of no other study."""
    parts = (study.record.created_at, study.name, series, str(number))
    return hashlib.sha256(":".join(parts).encode()).hexdigest()[:16]


def run_name(job: Job) -> str:
    return f"trial-{job.number}"


def of_study(study: StoredStudy) -> dict[str, str]:
    record = study.record
    return {"study": record.name, "objective": record.objective, "digest": record.digest, "version": hpo.__version__}


def of_trial(study: StoredStudy, job: Job) -> dict[str, str | int]:
    fold = {} if job.fold is None else {"fold": f"{job.fold[0] + 1} of {job.fold[1]}"}
    return {
        **of_study(study),
        "series": job.series,
        "number": job.number,
        "seed": job.seed,
        "epochs": job.epochs,
        "attempt": job.attempt,
        **fold,
    }


def of_end(record: TrialRecord) -> dict[str, str | int]:
    """How a trial ended, in words."""
    facts: dict[str, str | int] = {"state": str(record.state)}
    if record.reason is not None:
        facts |= {"stop": str(record.reason.kind), "reason": record.reason.message}
    if record.best_step is not None:
        facts["best_step"] = record.best_step
    if record.subject is not None:
        facts["repeats_trial"] = record.subject
    if record.state is TrialState.COMPLETE:
        facts["feasible"] = str(record.is_feasible).lower()
    return facts


def last_metrics(record: TrialRecord, goals: Sequence[Goal]) -> Metrics:
    """What the curve does not have: metrics measured once, and the trial's value in each goal."""
    in_curve = {name for point in record.points for name in point.metrics}
    once = {name: value for name, value in record.metrics.items() if name not in in_curve}
    values = zip(goals, record.values or (), strict=False)
    return {**once, **{f"{GOAL}{goal.metric}": value for goal, value in values}}
