"""Use cases that simulate: another pruner over what is recorded, and a study before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpo.errors import StudyFileError, UserError
from hpo.plan import Plan
from hpo.preflight import extent
from hpo.resolve import search_settings
from hpo.search.view import judging
from hpo.service.preflighting import preflight
from hpo.service.running import check
from hpo.session import check_runner, stored_plan
from hpo.simulation.replay import Replayed, replay
from hpo.simulation.savings import Savings, epochs, savings
from hpo.simulation.synthetic import synthetic_trials
from hpo.spec import Named
from hpo.trial import Goal, TrialRecord, TrialState
from storage.database import Database
from storage.records import SEARCH, Snapshot
from storage.studies import Studies

SEEDS = 10  # of a preview
MOST_TRIALS = 2000  # that a preview makes up where only a time limit ends the study


@dataclass(frozen=True)
class Comparison:
    """Pruners over the recorded trials of a study; the first line is the study as it is recorded.

    ``unended`` trials are left out. ``cut`` are those that the study's own pruner had stopped: only a
    part of their curves is known.
    """

    study: str
    goals: tuple[Goal, ...]
    workers: int
    unended: int
    cut: int
    lines: tuple[tuple[Named, Savings], ...]


@dataclass(frozen=True)
class Spread:
    """The median over the simulations, and between which values 80 % of them lie."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Preview:
    """What a study is expected to do, simulated over made-up trials.

    ``reach`` says how many trials come to a step: the rungs of a pruner that has some, else the
    quarters of a trial. The hours are None where nobody knows how long an epoch takes.
    ``confirm_epochs`` come after the search, at most.
    """

    study: str
    pruner: Named
    trials: int | None
    epochs: int
    workers: int
    simulations: int
    epoch_s: float | None
    started: Spread
    pruned: Spread
    spent: Spread
    share: Spread
    work_h: Spread | None
    wall_h: Spread | None
    reach: Mapping[int, Spread]
    confirm_epochs: int
    remarks: tuple[str, ...]


def compare_pruners(storage: str, name: str, pruners: Sequence[Named], workers: int | None = None) -> Comparison:
    """Replay a study's trials under other pruners, one after the other.

    The trials come as they are recorded, so the sampler's answer to another pruner is not known.

    Args:
        pruners: as in a study file, ``watch`` among their options.
        workers: those of the last launch when left out.

    Raises:
        UserError: no such study, pruner or option; no trial with a curve; too many workers.
    """
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        plan = stored_plan(study)
        found = studies.snapshot(name)
        ended = [trial for trial in found.trials if trial.state.is_finished]
        if not any(trial.points for trial in ended):
            raise UserError(f"Study {name!r} has no ended trial with a curve yet; launch it first.")
        seconds = {t.number: (studies.worked_s(study, SEARCH, t.number) or 0.0) / max(1, t.last_step) for t in ended}
    workers = workers or _workers(found, plan)
    check_runner(plan, None, workers)

    def line(pruner: Named) -> Savings:
        run = _replay(_with_pruner(plan, pruner), ended, workers, seconds)
        return savings(ended, run, plan.goals, seconds=seconds, reference=found.study.reference_point)

    return Comparison(
        study=name,
        goals=plan.goals,
        workers=workers,
        unended=len(found.trials) - len(ended),
        cut=sum(trial.state is TrialState.PRUNED for trial in ended),
        lines=tuple((pruner, line(pruner)) for pruner in (Named(name="none"), *pruners)),
    )


def preview(path: Path, *, workers: int | None = None, epoch_s: float | None = None, measure: bool = False) -> Preview:
    """What the study of a file would do and cost, over trials that are made up; nothing is written.

    Args:
        workers: those of a launch when left out.
        epoch_s: seconds of one epoch.
        measure: take them from a pre-flight instead.

    Raises:
        UserError: something in the file is wrong, the pre-flight fails, or only a time limit ends the
            study and nobody knows how long an epoch takes.
    """
    plan = check(path)
    check_runner(plan, None, workers)
    if epoch_s is not None and not 0 < epoch_s < math.inf:
        raise UserError(f"--epoch-s is the seconds of one epoch, above 0; got {epoch_s:g}.")
    if measure:
        epoch_s = _measured(plan)
    workers = workers or _at_once(plan)
    plan, remarks = _without_thresholds(plan)
    made_up = _made_up(plan, workers, epoch_s)
    seconds = dict.fromkeys(range(made_up), epoch_s or 1.0)
    timeout_s = plan.spec.budget.timeout if epoch_s else None
    runs = [_replay(plan, _trials(plan, made_up, seed), workers, seconds, timeout_s) for seed in range(SEEDS)]
    if plan.spec.budget.trials is None and any(len(run.trials) == made_up for run in runs):
        remarks.append(f"No more than {made_up} trials are simulated; the study may start more.")
    horizon, retrain = plan.spec.budget.epochs, plan.spec.retrain
    full = [horizon * len(run.trials) for run in runs]
    spent = [epochs(run.trials) for run in runs]
    work_h = [count * epoch_s / 3600 for count in spent] if epoch_s else None
    return Preview(
        study=plan.name,
        pruner=plan.spec.pruner,
        trials=plan.spec.budget.trials,
        epochs=horizon,
        workers=workers,
        simulations=SEEDS,
        epoch_s=epoch_s,
        started=_spread([len(run.trials) for run in runs]),
        pruned=_spread([sum(t.state is TrialState.PRUNED for t in run.trials) for run in runs]),
        spent=_spread(spent),
        share=_spread([count / most for count, most in zip(spent, full, strict=True)]),
        work_h=_spread(work_h) if work_h else None,
        wall_h=_spread([run.wall_s / 3600 for run in runs]) if epoch_s else None,
        reach={step: _spread([_reach(run, step) for run in runs]) for step in _marks(runs, horizon)},
        confirm_epochs=retrain.confirm * retrain.confirm_seeds * horizon,
        remarks=(*remarks, *_not_simulated(plan, epoch_s)),
    )


def _replay(
    plan: Plan,
    trials: Sequence[TrialRecord],
    workers: int,
    seconds: Mapping[int, float],
    timeout_s: float | None = None,
) -> Replayed:
    return replay(
        trials, judging(search_settings(plan)), workers=workers, seconds=seconds, concurrency=plan.spec.concurrency,
        deterministic=plan.spec.deterministic, timeout_s=timeout_s,
    )  # fmt: skip


def _with_pruner(plan: Plan, pruner: Named) -> Plan:
    return replace(plan, spec=plan.spec.model_copy(update={"pruner": pruner}))


def _workers(found: Snapshot, plan: Plan) -> int:
    """Those of the last launch; those of the study file where there was none, as after an import."""
    if not found.launches:
        return _at_once(plan)
    last = found.launches[-1]
    return min(_at_once(plan, last.runner, last.workers), plan.spec.concurrency)


def _at_once(plan: Plan, runner: str | None = None, workers: int | None = None) -> int:
    return int(extent(plan, runner, workers)["workers"])


def _measured(plan: Plan) -> float:
    found = preflight(plan)
    if found is None:
        raise UserError(f"{plan.spec.objective} has no pre-flight; say how long an epoch takes with --epoch-s.")
    times = [float(f.details["epoch_s"]) for f in found.findings if f.check == "time" and "epoch_s" in f.details]
    if not times:
        raise StudyFileError("The pre-flight could not measure the time of an epoch; see hpo check.")
    return times[0]


def _without_thresholds(plan: Plan) -> tuple[Plan, list[str]]:
    """Limits are in a metric's own units, which made-up curves do not have."""
    pruner = plan.spec.pruner
    rules = pruner.options.get("of", []) if pruner.name == "any" else [{"name": pruner.name}]
    left = [rule for rule in rules if rule["name"] != "threshold"]
    if len(left) == len(rules):
        return plan, []
    kept = Named.model_validate({**pruner.model_dump(), "of": left}) if left else Named(name="none")
    return _with_pruner(plan, kept), ["The pruner threshold is left out: it asks for the metric's real values."]


def _made_up(plan: Plan, workers: int, epoch_s: float | None) -> int:
    """How many trials may be needed."""
    budget = plan.spec.budget
    if budget.trials is not None:
        return budget.trials
    if epoch_s is None:
        raise UserError(
            "Only a time limit ends this study (budget.timeout): say how long an epoch takes with --epoch-s, "
            "or have it measured with --measure."
        )
    return min(MOST_TRIALS, math.ceil((budget.timeout or 0.0) * workers / epoch_s) + workers)


def _trials(plan: Plan, count: int, seed: int) -> list[TrialRecord]:
    settings = search_settings(plan)
    others = [settings.watched] if settings.watched else []
    return synthetic_trials(
        count, plan.spec.budget.epochs, plan.goals, monitor=plan.monitor, others=others, once=settings.once, seed=seed
    )


def _marks(runs: Sequence[Replayed], horizon: int) -> list[int]:
    """The rungs at which trials were stopped; of a pruner without, the quarters of a trial."""
    reasons = [trial.reason for run in runs for trial in run.trials if trial.reason]
    rungs = {int(reason.details["rung_step"]) for reason in reasons if "rung_step" in reason.details}
    return sorted({1, *rungs, horizon} if rungs else {max(1, math.ceil(horizon * i / 4)) for i in range(5)})


def _reach(run: Replayed, step: int) -> int:
    return sum(trial.last_step >= step for trial in run.trials)


def _not_simulated(plan: Plan, epoch_s: float | None) -> list[str]:
    spec, stop = plan.spec, plan.spec.stop
    remarks = []
    if plan.trainer.early_stopping is not None:
        remarks.append("Early stopping is not simulated; it makes the study shorter.")
    if stop.no_improvement or stop.target or stop.hours:
        remarks.append("What stop says is not simulated; it may end the study earlier.")
    if spec.budget.timeout and not epoch_s:
        remarks.append("The time limit of the budget is not simulated: nobody knows how long an epoch takes.")
    return remarks


def _spread(values: Sequence[float]) -> Spread:
    low, median, high = (float(v) for v in np.quantile(values, [0.1, 0.5, 0.9]))
    return Spread(median, low, high)
