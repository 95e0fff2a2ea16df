"""Use cases around the pre-flight: on request, and once before the first trial of a new study."""

from __future__ import annotations

from collections.abc import Callable

from hpo import preflight as apart
from hpo.errors import StorageError, UserError
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.session import Session
from hpo.strategies.budget import SuggestedBudget, suggest, usual
from hpo.training.checks.findings import Preflight
from objectives import registry
from objectives.base import TrainingObjective
from storage.database import Database
from storage.studies import Studies


def preflight(
    plan: Plan,
    *,
    runner: str | None = None,
    workers: int | None = None,
    interrupt: Interrupt | None = None,
    devices: apart.Devices | None = None,
) -> Preflight | None:
    """What the pre-flight of a plan finds; None for an objective that does not train. Nothing is written.

    With ``devices``, the memory alone, for these.

    Raises:
        KeyboardInterrupt: ``interrupt`` was requested meanwhile.
        UserError: ``devices`` for an objective that does not train.
    """
    if apart.applies(plan):
        return apart.run(plan, runner=runner, workers=workers, interrupt=interrupt, devices=devices)
    if devices is not None:
        raise UserError(
            f"{plan.spec.objective} does not train, so there is no memory to reckon: leave the devices out."
        )
    return None


def suggested_budget(plan: Plan, findings: Preflight) -> SuggestedBudget | None:
    """A budget as the objective says is usual, else by rule of thumb, from what the pre-flight of a plan measured.

    None where it measured too little.
    """
    details = {finding.check: finding.details for finding in findings.findings}
    task, time = details.get("task", {}), details.get("time", {})
    if not task.get("samples") or "epoch_s" not in time:
        return None
    cost = {"epoch_s": time["epoch_s"], "workers": apart.extent(plan)["workers"]}
    found = registry.find(plan.spec.objective, plan.import_from)
    for one in found.usual_budgets if isinstance(found, TrainingObjective) else ():
        if task["trainable"] < one.below_weights:
            return usual(trials=one.trials, epochs=one.epochs, batch_size=one.batch_size, **cost)
    return suggest(parameters=len(plan.space), weights=task["trainable"], samples=task["samples"], **cost)


def before_first_trial(
    plan: Plan,
    storage: str,
    *,
    runner: str | None,
    workers: int | None,
    interrupt: Interrupt | None,
    warn: Callable[[str], None],
) -> Callable[[Session], None]:
    """The pre-flight of a study that is not there yet; gives what keeps its findings, once the study is.

    Raises:
        UserError: a check failed. Nothing has been written.
        KeyboardInterrupt: as ``preflight``.
    """
    if not _is_new(plan.name, storage):
        return lambda session: None
    found = preflight(plan, runner=runner, workers=workers, interrupt=interrupt)
    if found is None:
        return lambda session: None
    if found.failed:
        raise apart.refusal(found)
    for finding in found.warnings:
        warn(f"Warning of the pre-flight: {finding.line}")
    return lambda session: session.studies.add_event(session.study, found.event())


def _is_new(name: str, storage: str) -> bool:
    try:
        with Database(storage) as database:
            return Studies(database).find(name) is None
    except StorageError:
        return True  # no database yet; one that cannot be reached says so itself when it is opened to write
