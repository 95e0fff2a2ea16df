"""The use case of cross-validation: the folds of a trial, or of parameters given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from hpo.choice import Policy
from hpo.errors import UnknownName, UserError
from hpo.evaluation.folds import FoldSummary, summarise_folds
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.service.looking import choose_from, get_trial
from hpo.service.running import MakeListeners
from hpo.session import open_session, stored_plan
from hpo.study import FixedJobs, FixedRun
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Params, TrialRecord, derive_seed
from objectives import registry
from objectives.base import Objective, TrainingObjective
from storage.database import Database
from storage.records import VALIDATE
from storage.studies import Studies


@dataclass(frozen=True)
class Validated:
    """A cross-validation that came to its end, and what it was of."""

    name: str
    params: Params
    monitor: Goal
    goals: tuple[Goal, ...]
    summary: FoldSummary


def validate(
    storage: str,
    name: str,
    *,
    trial: int | None = None,
    pick: Policy | None = None,
    params: Mapping[str, Any] | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    runner: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
) -> Validated | None:
    """Cross-validate the picked trial, ``trial``, or ``params`` over the objective's defaults.

    Every fold trains on the other parts of the data that is not the test set, and is judged
    on its own. Folds that have been run already are not run again. None when interrupted.

    Args:
        folds, epochs: instead of the study file's ``validation``.

    Raises:
        UserError: there is no such study or trial, its data changed, the objective knows
            no folds, or a parameter is unknown or out of its bounds.
    """
    interrupt = interrupt or Interrupt()
    if params and (trial is not None or pick is not None):
        raise UserError("--params stands for itself; leave --trial and --pick out, or it.")
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        plan = stored_plan(study)
        objective = registry.find(plan.spec.objective, plan.import_from)
        require_folds(objective, plan.spec.objective)
        policy = plan.spec.validation
        policy = policy.model_copy(update={"folds": folds or policy.folds, "epochs": epochs or policy.epochs})
        if policy.folds < 2:
            raise UserError(f"--folds: a cross-validation has at least 2 folds; got {policy.folds}.")
        plan = _for_folds(replace(plan, spec=plan.spec.model_copy(update={"validation": policy})), objective)
        if params:
            subject, chosen = None, fixed_params(plan, objective, params)
        else:
            found = studies.snapshot(name)
            number = choose_from(found, plan.spec, pick, ()).number if trial is None else trial
            subject, chosen = number, get_trial(found, number).params
        with open_session(database, studies, study, plan, runner, workers, interrupt, ray_address) as session:
            session = replace(session, listeners=(*session.listeners, *listeners(plan, ())))
            source = FixedJobs(
                plan,
                studies.trials(study, VALIDATE, session.launch),
                study.folder,
                VALIDATE,
                fold_runs(plan, subject, chosen),
                epochs=fold_epochs(plan),
                listeners=session.listeners,
            )
            session.run(source)
        if interrupt.requested:
            return None
        return Validated(name, chosen, plan.monitor, plan.goals, summarise_folds(source.results()))


def fold_epochs(plan: Plan) -> int:
    return plan.spec.validation.epochs or plan.spec.budget.epochs


def fold_runs(plan: Plan, subject: int | None, params: Params) -> list[FixedRun]:
    """The runs of one cross-validation as the study file sets it.

    Runs with another patience are other runs, so it is part of their seeds.
    """
    folds, patience = plan.spec.validation.folds, plan.spec.validation.patience
    own: list[int | str] = [] if patience is None or plan.trainer.early_stopping is None else ["patience", patience]
    whose = "params" if subject is None else subject
    return [
        FixedRun(subject, params, derive_seed(plan.spec.seed, whose, "fold", i, *own), (i, folds)) for i in range(folds)
    ]


def folds_of(plan: Plan, subject: TrialRecord, runs: Sequence[TrialRecord]) -> FoldSummary | None:
    """The cross-validation of ``subject`` exactly as the study file sets it, once all its folds are complete.

    One with fewer folds or epochs is a softer judge: gates do not look at it.
    """
    seeds = {run.fold: run.seed for run in fold_runs(plan, subject.number, subject.params)}
    mine = {
        run.fold: run
        for run in sorted(runs, key=lambda run: run.number)
        if run.subject == subject.number and run.epochs == fold_epochs(plan) and run.seed == seeds.get(run.fold)
    }
    summary = summarise_folds(list(mine.values())) if mine else None
    return summary if summary is not None and summary.is_complete else None


def require_folds(objective: Objective, name: str) -> None:
    """Refuse an objective whose tasks would all be of the same split.

    Raises:
        UserError: it does not say ``folds = True``.
    """
    if not getattr(objective, "folds", False):
        raise UserError(
            f"{name} knows no folds, so it cannot be cross-validated. In its class, let task(job) give the part "
            "job.fold of the data (hpo.evaluation.splits has the ways to cut it) and set folds = True."
        )


def fixed_params(plan: Plan, objective: Objective, given: Mapping[str, Any]) -> Params:
    """``given`` over the objective's defaults: a whole point, which may lie outside the search space.

    Raises:
        UserError: a name is unknown, a value is outside a trainer setting's bounds, or a
            parameter of the search space is left open.
    """
    trains = isinstance(objective, TrainingObjective)
    known = [*plan.space, *objective.default_params, *(TrainerSettings.model_fields if trains else ())]
    for name in given:
        if name not in known:
            raise UnknownName("parameter", name, dict.fromkeys(known))
    whole = {**objective.default_params, **given}
    params = {
        name: value
        for name, value in whole.items()
        if name in given or name not in plan.space or plan.space.is_active(name, whole)
    }
    open_ = [name for name in plan.space if plan.space.is_active(name, params) and name not in params]
    if open_:
        raise UserError(f"--params: {', '.join(open_)} must be given, too; the objective has no default for it.")
    try:
        plan.trainer.with_params(params)
    except ValidationError as error:
        first = error.errors()[0]
        where, rule = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Input ")
        raise UserError(f"--params: {where} {rule}; got {first['input']!r}.") from None
    return params


def _for_folds(plan: Plan, objective: Objective) -> Plan:
    """The plan that folds run under: its own patience, and only goals of every epoch.

    Speed and memory are no question to a fold, and measuring them alone on the device would
    make the folds wait for each other.
    """
    metrics = objective.metrics_for(plan.data)
    goals = tuple(goal for goal in plan.goals if not metrics[goal.metric].once) or (plan.monitor,)
    stopping, patience = plan.trainer.early_stopping, plan.spec.validation.patience
    trainer = plan.trainer
    if stopping is not None and patience is not None:
        trainer = trainer.model_copy(update={"early_stopping": stopping.model_copy(update={"patience": patience})})
    return replace(plan, goals=goals, trainer=trainer)
