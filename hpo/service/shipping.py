"""Use cases from a picked trial to a released model: retrain, export, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo import places
from hpo.choice import Policy
from hpo.errors import UserError
from hpo.evaluation.gains import Gain, gains, main_metrics
from hpo.evaluation.gates import Verdict, bare
from hpo.export.evidence import Kept, from_run
from hpo.export.manifest import MainGoal
from hpo.export.retrain import RetrainSummary, summarise
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.service import origins
from hpo.service.baselines import baselines
from hpo.service.certainty import intervals
from hpo.service.looking import choose_from, get_trial
from hpo.service.releasing import verdicts
from hpo.service.running import MakeListeners
from hpo.session import open_session, stored_plan
from hpo.study import FixedJobs, FixedRun, make_job
from hpo.trial import Metric, Metrics, TrialRecord
from objectives import registry
from objectives.adopted import Adopted
from objectives.base import TrainingObjective
from storage import codec
from storage.database import Database
from storage.records import RETRAIN, ModelRecord, Snapshot
from storage.studies import StoredStudy, Studies

if TYPE_CHECKING:
    from hpo.evaluation.intervals import Interval
    from hpo.export.bundle import ModelBundle
    from hpo.export.verify import VerifyReport
    from hpo.training.task import Task


@dataclass(frozen=True)
class Retrained:
    """The picked trial, its runs over the seeds, and what they showed."""

    name: str
    promise: TrialRecord
    runs: Sequence[TrialRecord]
    summary: RetrainSummary
    has_model: bool  # whether there is something to export
    baselines: Mapping[str, Metrics]  # of simpler methods, on the test set
    gains: Mapping[str, Mapping[str, Sequence[Gain]]]  # over them: part of the data → metric → one per baseline
    verdicts: Sequence[Verdict]  # of the gates; those over the export are not measured yet
    intervals: Mapping[str, Interval]  # of the shipped run's test metrics

    @property
    def shipped(self) -> TrialRecord:
        return next(run for run in self.runs if run.number == self.summary.shipped)


def retrain(
    storage: str,
    name: str,
    *,
    trial: int | None = None,
    pick: Policy | None = None,
    runner: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
) -> Retrained | None:
    """Train the picked trial again on the full budget, once per seed, and read the test set.

    What has been run already is not run again. None when interrupted.

    Raises:
        UserError: there is no such study or trial, or its data changed.
        ExportFailed: no seed completed.
    """
    interrupt = interrupt or Interrupt()
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        found = studies.snapshot(name)
        plan = stored_plan(study)
        if trial is not None:
            promise = get_trial(found, trial)
        else:
            promise = get_trial(found, choose_from(found, plan.spec, pick, ()).number)
        with open_session(database, studies, study, plan, runner, workers, interrupt, ray_address) as session:
            session = replace(session, listeners=(*session.listeners, *listeners(plan, ())))
            policy = plan.spec.retrain
            source = FixedJobs(
                plan,
                studies.trials(study, RETRAIN, session.launch),
                study.folder,
                RETRAIN,
                [FixedRun(promise.number, promise.params, seed) for seed in policy.seeds],
                epochs=policy.epochs or plan.spec.budget.epochs,
                use_test=True,
                listeners=session.listeners,
            )
            session.run(source)
        if interrupt.requested:
            return None
        return _retrained(studies, study, plan, promise, source.results())


def export(
    storage: str, name: str, out: Path, *, formats: Sequence[str] | None = None, overwrite: bool = False
) -> ModelBundle:
    """Write the retrained model of a study as a bundle, and record it with the study.

    The weights are those of the newest retraining's best seed; the formats are those of the
    study file unless ``formats`` names some.

    Raises:
        UnknownName: nobody knows a format.
        UserError: nothing has been retrained yet, or ``out`` cannot be written.
        ExportFailed: not one format could be released.
    """
    from hpo.export.release import export_model
    from hpo.training.checkpoints import find_best

    with Database(storage) as database:
        studies = Studies(database)
        study, found = studies.get(name), studies.snapshot(name)
        plan = stored_plan(study)
        retrained = _newest_retraining(studies, study, plan, found)
        shipped = retrained.shipped
        job = make_job(plan, shipped, RETRAIN, Path(study.folder))
        objective = registry.find(plan.spec.objective, plan.import_from)
        if isinstance(objective, Adopted):
            raise UserError(
                f"{plan.spec.objective} trains with its own code, and its model is where that code keeps it: "
                "hpo exports what its own trainer trained. docs/adopt.md tells how to move on to that."
            )
        if not isinstance(objective, TrainingObjective):
            raise UserError(f"{plan.spec.objective} trains no model, so there is nothing to export.")
        best = find_best(Path(job.folder), places.parse(job.mirror) if job.mirror else None)
        task = objective.task(replace(job, use_test=True))
        evidence = _evidence(plan, objective, task, Path(job.folder))
        bundle = export_model(
            task,
            best["model"],
            objective=plan.spec.objective,
            params=shipped.params,
            out=out,
            formats=formats or plan.spec.export.formats,
            manifest_facts={
                **origins.of_study(plan, objective, found, retrained.promise, shipped, best, task),
                "evidence": evidence.told,
            },
            config_yaml=study.record.spec_yaml,
            metrics={
                "promised": retrained.promise.metrics,
                "shipped": shipped.metrics,
                "seeds": retrained.summary,
                "baselines": retrained.baselines,
                "intervals": retrained.intervals,
                "directions": _directions(objective.metrics_for(plan.data), shipped.metrics),
            },
            atol=plan.spec.export.atol,
            rtol=plan.spec.export.rtol,
            overwrite=overwrite,
            import_from=plan.import_from,
            judge=lambda figures: verdicts(studies, study, plan, retrained.promise, shipped, figures),
            about=objective,
            goal=_main_goal(plan, shipped),
            evidence=evidence.content,
            use_test=True,
        )
        manifest = {**bundle.manifest.model_dump(mode="json"), "digest": bundle.digest}
        studies.add_model(study, ModelRecord(codec.now(), str(out.resolve()), retrained.promise.number, manifest))
        return bundle


def verify(bundle: Path, import_from: Path | None = None, *, run_programs: bool = False) -> VerifyReport:
    """Check every byte and every format of a bundle; formats that are programs only with ``run_programs``.

    ``import_from`` is where an objective named ``package.module:Class`` is looked for; None
    looks in no folder. The bundle itself never says, or it could choose what code runs.

    Raises:
        BundleError: a file is missing, changed, not listed or outside the folder, or
            ``import_from`` lies in the bundle.
    """
    from hpo.export.verify import verify_bundle

    folder = None if import_from is None else str(import_from.resolve())
    return verify_bundle(bundle, import_from=folder, run_programs=run_programs)


def _newest_retraining(studies: Studies, study: StoredStudy, plan: Plan, found: Snapshot) -> Retrained:
    runs = found.others.get(RETRAIN, ())
    if not runs:
        raise UserError(f"Study {plan.name!r} has not been retrained; first: hpo retrain {plan.name}")
    newest = max(runs, key=lambda run: run.number)
    by_seed = {run.seed: run for run in runs if (run.subject, run.epochs) == (newest.subject, newest.epochs)}
    same = [by_seed[seed] for seed in plan.spec.retrain.seeds if seed in by_seed] or [newest]
    return _retrained(studies, study, plan, get_trial(found, newest.subject or 0), same)


def _retrained(
    studies: Studies, study: StoredStudy, plan: Plan, promise: TrialRecord, runs: Sequence[TrialRecord]
) -> Retrained:
    summary = summarise(promise, runs, plan.goals, plan.monitor, promised_epochs=promise.epochs, epochs=runs[0].epochs)
    has_model = isinstance(registry.find(plan.spec.objective, plan.import_from), TrainingObjective)
    shipped = next(run for run in runs if run.number == summary.shipped)
    main = main_metrics(plan.goals, plan.monitor, plan.spec.gates)
    simple = {part: baselines(studies, study, plan, part) for part in ("validation", "test")}
    found = {
        "validation": gains(promise.metrics, simple["validation"], main, "val_"),
        "test": gains(shipped.metrics, simple["test"], main, "test_"),
    }
    judged = verdicts(studies, study, plan, promise, shipped)
    sure = intervals(studies, study, plan, shipped)
    return Retrained(plan.name, promise, runs, summary, has_model, simple["test"], found, judged, sure)


def _main_goal(plan: Plan, shipped: TrialRecord) -> MainGoal | None:
    """The first of the study's goals, or its monitored metric, that was measured on the test set."""
    for goal in main_metrics(plan.goals, plan.monitor):
        if f"test_{goal.metric}" in shipped.metrics:
            return MainGoal(metric=f"test_{goal.metric}", direction=goal.direction)
    return None


def _evidence(plan: Plan, objective: TrainingObjective, task: Task, folder: Path) -> Kept:
    """What the run in ``folder`` said about the test set, unless the study file has it left out."""
    from hpo.training.ending import TEST_PREDICTIONS

    if not plan.spec.export.evidence:
        return Kept.without("the study file says so")
    if task.test is None:
        return Kept.without("there is no test set")
    test = task.test()
    known = objective.split_ids(plan.data, plan.spec.seed).get("test", ())
    return from_run(folder / TEST_PREDICTIONS, test.ids, test.clusters, known, rows=len(test))


def _directions(known: Mapping[str, Metric], metrics: Metrics) -> dict[str, str]:
    """In which direction each metric of the test set is better, as far as the objective says."""
    found = {}
    for name in metrics:
        if name.startswith("test_"):
            facts = known.get(name) or known.get(f"val_{bare(name)}")
            if facts is not None:
                found[name] = str(facts.direction)
    return found
