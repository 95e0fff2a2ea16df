"""Where a bundle comes from: facts for its card, and all that training the same model again takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import environment
from hpo.masking import masked
from hpo.plan import Plan
from hpo.trial import Goal, Job, TrialRecord
from objectives.base import TrainingObjective
from search_spaces import Choice
from storage.records import RETRAIN, Snapshot

if TYPE_CHECKING:
    from hpo.training.task import Task


def of_study(
    plan: Plan,
    objective: TrainingObjective,
    found: Snapshot,
    promise: TrialRecord,
    shipped: TrialRecord,
    best: Mapping[str, Any],
    task: Task,
) -> dict[str, Any]:
    """The origin of a retrained model.

    Args:
        promise: the search's trial that was picked.
        shipped: the run of the retraining whose weights ship.
        best: what its ``best.pt`` holds; the settings that it was trained with stand there.
        task: with its test set.
    """
    facts = plan.data_facts
    trained_with = best.get("facts", {}).get("settings")
    return {
        "study": plan.name,
        "digest": plan.digest,
        "data_fingerprint": plan.data_fingerprint,
        "trial": promise.number,
        "run": shipped.number,
        "seed": shipped.seed,
        "data_seed": plan.spec.seed,
        "epochs": shipped.epochs,
        "best_epoch": shipped.best_step,
        "last_epoch": shipped.last_step,
        "ended": None if shipped.reason is None else shipped.reason.message,
        "finished_at": shipped.finished_at,
        "report": plan.spec.report,
        "deterministic": plan.spec.deterministic,
        "goals": list(map(_goal, plan.goals)),
        "monitor": _goal(plan.monitor),
        "trainer": trained_with or plan.job_trainer.with_params(shipped.params).model_dump(mode="json"),
        "by_hand": dict(objective.default_params),
        "searched": {
            name: str(parameter)
            for name, parameter in plan.space.items()
            if not (isinstance(parameter, Choice) and len(parameter.choices) == 1)
        },
        "data": without_secrets(plan.data),
        "data_counts": dict(facts.counts) if facts else {},
        "data_notes": list(facts.notes) if facts else [],
        "left_out": len(facts.left_out) if facts else 0,
        "split": _samples(task),
        "split_ids": {part: len(ids) for part, ids in _split(objective, plan, found).items()},
        "environment": _trained_on(found, shipped) or environment.describe(),
    }


def of_checkpoint(state: Mapping[str, Any], path: Path, job: Job) -> dict[str, Any]:
    """The origin of a checkpoint's model: the file, and what it says of the trial that wrote it."""
    facts = state["job"]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "checkpoint": path.name,
        "checkpoint_sha256": digest,
        "epoch": state["epoch"],
        **{name: facts[name] for name in ("study", "series", "number", "seed", "data_seed", "epochs", "fold")},
        "report": facts["report"],
        "goals": list(map(_goal, job.goals)),
        "monitor": _goal(job.monitor),
        "trainer": state["settings"],
        "data": without_secrets(facts["data"]),
        "environment": environment.describe(),
    }


def without_secrets(value: Any) -> Any:
    """A value of a study file with ``***`` for passwords and keys in its URLs."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: without_secrets(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(part) for part in value]
    return value


def _goal(goal: Goal) -> dict[str, str]:
    return {"metric": goal.metric, "direction": str(goal.direction)}


def _samples(task: Task) -> dict[str, int]:
    test = {} if task.test is None else {"test": len(task.test())}
    return {"train": len(task.train), "validation": len(task.validation), **test}


def _split(objective: TrainingObjective, plan: Plan, found: Snapshot) -> Mapping[str, Any]:
    """The ids of each part, as they were kept with the study when it began."""
    kept = [event.details for event in found.events if event.kind == "split"]
    return kept[-1] if kept else objective.split_ids(plan.data, plan.spec.seed)


def _trained_on(found: Snapshot, shipped: TrialRecord) -> Mapping[str, Any] | None:
    """What the launch ran on that brought the run to its end."""
    attempts = [a for a in found.other_attempts.get(RETRAIN, ()) if a.number == shipped.number]
    launch = attempts[-1].launch if attempts else None
    return next((one.environment for one in found.launches if one.id == launch), None)
