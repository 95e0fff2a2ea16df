"""What a worker gets for a trial, and where the trial keeps its files."""

from __future__ import annotations

from pathlib import Path

from hpo.plan import Plan
from hpo.trial import (
    Job,
    TrialRecord,
)


def trial_folder(folder: Path, series: str, number: int) -> Path:
    """Where a trial of a series keeps its files; ``folder`` is the study's."""
    return folder / trial_name(series, number)


def trial_name(series: str, number: int) -> str:
    """What that folder is called, here and in a mirror."""
    return f"{series}-{number:05d}"


def make_job(plan: Plan, record: TrialRecord, series: str, folder: Path, *, resume: bool = False) -> Job:
    """What a worker gets for a trial; the same trial always gets the same."""
    return Job(
        study=plan.name,
        series=series,
        number=record.number,
        objective=plan.spec.objective,
        params=record.params,
        data=plan.data,
        trainer=plan.job_trainer,
        goals=plan.goals,
        monitor=plan.monitor,
        seed=record.seed,
        data_seed=plan.spec.seed,
        epochs=record.epochs,
        folder=str(trial_folder(folder, series, record.number)),
        attempt=record.attempts,
        resume=resume,
        reported=record.last_step,
        fold=record.fold,
        mirror=None if plan.mirror is None else str(plan.mirror / trial_name(series, record.number)),
        rules=plan.rules,
        deterministic=plan.spec.deterministic,
        gpu_share=plan.gpu_share,
        time_limit_s=plan.spec.limits.time,
        silence_limit_s=plan.spec.limits.silence,
        report=plan.spec.report,
        import_from=plan.import_from,
    )
