"""Every use case as one function; the only place where the concrete parts are put together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import environment
from hpo.choice import Choice, Policy
from hpo.choice import choose as choose_trial
from hpo.creation import create_or_check, owns_folder
from hpo.errors import UserError, WorkError
from hpo.export.retrain import RetrainSummary, summarise
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.resolve import resolve
from hpo.roles import Listener
from hpo.session import check_runner, open_session, run_confirmation, run_search, stored_plan
from hpo.spec import StudySpec
from hpo.study import FixedJobs, make_job
from hpo.trial import Event, Metrics, TrialRecord, TrialState
from objectives import registry
from objectives.base import TrainingObjective
from storage import codec
from storage.database import Database
from storage.leases import Lease
from storage.records import RETRAIN, ModelRecord, Snapshot
from storage.studies import StoredStudy, Studies, StudySummary

if TYPE_CHECKING:
    from hpo.export.bundle import ModelBundle
    from hpo.export.verify import VerifyReport

MakeListeners = Callable[[Plan, Sequence[TrialRecord]], Sequence[Listener]]


@dataclass(frozen=True)
class Launched:
    """What a launch came to."""

    name: str
    how: str  # done, interrupted
    snapshot: Snapshot
    choice: Choice | None = None  # None before a trial completed, or when interrupted

    @property
    def all_failed(self) -> bool:
        """Whether there are trials and each one failed: the work failed, not just a trial."""
        states = {trial.state for trial in self.snapshot.trials}
        return states == {TrialState.FAIL}


def check(path: Path) -> Plan:
    """The plan of a study file, with everything about it checked; nothing is written.

    Raises:
        UserError: something in the file is wrong.
    """
    spec, _ = StudySpec.load(path)
    return resolve(spec, str(path), str(path.resolve().parent))


def launch(
    path: Path,
    *,
    storage: str,
    runs: Path,
    runner: str | None = None,
    workers: int | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
) -> Launched:
    """Create, resume or extend the study of a file, run it, and confirm the top of its front.

    Args:
        runs: where a new study puts its folder of trials.
        listeners: made from the plan and the trials that ended in earlier launches.

    Raises:
        UserError: the file, the storage or the combination of both is wrong; StudyChanged
            and StudyBusy among them. Nothing has been written then.
        RunnerFailed: the runner broke; the study can be launched again.
    """
    spec, text = StudySpec.load(path)
    plan = resolve(spec, str(path), str(path.resolve().parent))
    check_runner(plan, runner, workers)
    with Database(storage, create=True) as database:
        studies = Studies(database)
        study = create_or_check(studies, plan, text, runs)
        with open_session(database, studies, study, plan, runner, workers, interrupt) as session:
            if study.record.spec_yaml != text or study.import_from != plan.import_from:
                studies.update_file(study, text, plan.import_from)
            ended = [record for record in studies.trials(study).records() if record.state.is_finished]
            session = replace(session, listeners=listeners(plan, ended))
            run_search(session)
            if not session.interrupt.requested:
                run_confirmation(session)
            how = "interrupted" if session.interrupt.requested else "done"
        found = studies.snapshot(plan.name)
        choice = _choose(found, plan.spec, None, ()) if how == "done" and _has_completed(found) else None
        return Launched(plan.name, how, found, choice)


def summaries(storage: str) -> list[StudySummary]:
    """One summary per study of a database."""
    with Database(storage) as database:
        return Studies(database).summaries()


def snapshot(storage: str, name: str) -> Snapshot:
    """Everything known of a study.

    Raises:
        StorageError, UnknownName: there is no such database or study.
    """
    with Database(storage) as database:
        return Studies(database).snapshot(name)


def choose(
    storage: str, name: str, *, pick: Policy | None = None, where: Sequence[str] = ()
) -> tuple[Snapshot, Choice]:
    """The trial that a policy picks among those for which every comparison holds.

    Raises:
        UserError: no trial is left, or the policy or a comparison is wrong.
    """
    found = snapshot(storage, name)
    return found, _choose(found, StudySpec.parse(found.study.spec_yaml, name), pick, where)


def delete(storage: str, name: str) -> Path:
    """Remove a study from the database, and its folder; the folder's path.

    Raises:
        StudyBusy: it is being run.
    """
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        with Lease(database, study.id, name):
            folder, is_own = Path(study.folder), owns_folder(study)
            studies.delete(study)
            if is_own:
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    raise WorkError(
                        f"Study {name!r} is deleted, but not all of {folder}: {error.strerror}. Remove it by hand."
                    ) from error
        return folder


def report(storage: str, name: str, out: Path) -> list[Path]:
    """Write the report of a study; the files, the page first."""
    from hpo.reports.page import write_report

    found = snapshot(storage, name)
    chosen = None
    if _has_completed(found):
        chosen = _choose(found, StudySpec.parse(found.study.spec_yaml, name), None, ()).number
    return write_report(found, out, chosen=chosen)


@dataclass(frozen=True)
class Retrained:
    """The picked trial, its runs over the seeds, and what they showed."""

    name: str
    promise: TrialRecord
    runs: Sequence[TrialRecord]
    summary: RetrainSummary
    has_model: bool  # whether there is something to export
    baselines: Mapping[str, Metrics]  # of simpler methods, on the test set


def retrain(
    storage: str,
    name: str,
    *,
    trial: int | None = None,
    pick: Policy | None = None,
    runner: str | None = None,
    workers: int | None = None,
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
            promise = get_trial(found, _choose(found, plan.spec, pick, ()).number)
        with open_session(database, studies, study, plan, runner, workers, interrupt) as session:
            session = replace(session, listeners=listeners(plan, ()))
            policy = plan.spec.retrain
            source = FixedJobs(
                plan,
                studies.trials(study, RETRAIN, session.launch),
                study.folder,
                RETRAIN,
                [(promise.number, promise.params, seed) for seed in policy.seeds],
                epochs=policy.epochs or plan.spec.budget.epochs,
                use_test=True,
                listeners=session.listeners,
            )
            session.run(source)
        if interrupt.requested:
            return None
        return _retrained(plan, promise, source.results(), _baselines(studies, study, plan))


def export(storage: str, name: str, out: Path, *, overwrite: bool = False) -> ModelBundle:
    """Write the retrained model of a study as a bundle, and record it with the study.

    The weights are those of the newest retraining's best seed.

    Raises:
        UserError: nothing has been retrained yet, or ``out`` cannot be written.
        ExportFailed: not one format could be released.
    """
    from hpo.export.release import export_model
    from hpo.training.checkpoints import BEST, load_weights

    with Database(storage) as database:
        studies = Studies(database)
        study, found = studies.get(name), studies.snapshot(name)
        plan = stored_plan(study)
        retrained = _newest_retraining(studies, study, plan, found)
        shipped = next(run for run in retrained.runs if run.number == retrained.summary.shipped)
        job = make_job(plan, shipped, RETRAIN, Path(study.folder))
        objective = registry.find(plan.spec.objective, plan.import_from)
        if not isinstance(objective, TrainingObjective):
            raise UserError(f"{plan.spec.objective} trains no model, so there is nothing to export.")
        bundle = export_model(
            objective.task(job),
            load_weights(Path(job.folder) / BEST),
            objective=plan.spec.objective,
            params=shipped.params,
            out=out,
            formats=plan.spec.export.formats,
            manifest_facts=_origin(plan, retrained, shipped),
            config_yaml=study.record.spec_yaml,
            metrics={
                "promised": retrained.promise.metrics,
                "shipped": shipped.metrics,
                "seeds": retrained.summary,
                "baselines": retrained.baselines,
            },
            atol=plan.spec.export.atol,
            rtol=plan.spec.export.rtol,
            overwrite=overwrite,
            import_from=plan.import_from,
        )
        manifest = {**bundle.manifest.model_dump(mode="json"), "digest": bundle.digest}
        studies.add_model(study, ModelRecord(codec.now(), str(out.resolve()), retrained.promise.number, manifest))
        return bundle


def verify(bundle: Path, import_from: Path | None = None) -> VerifyReport:
    """Check every byte and every format of a bundle.

    ``import_from`` is where an objective named ``package.module:Class`` is looked for; None
    looks in no folder. The bundle itself never says, or it could choose what code runs.

    Raises:
        BundleError: a file is missing, changed, not listed or outside the folder, or
            ``import_from`` lies in the bundle.
    """
    from hpo.export.verify import verify_bundle

    return verify_bundle(bundle, import_from=None if import_from is None else str(import_from.resolve()))


def dashboard(storage: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve optuna-dashboard for a storage on loopback until interrupted.

    Raises:
        UserError: there is no such database, or the port is taken.
    """
    with Database(storage):
        pass  # told in our words, and before anything is served
    import optuna_dashboard

    ready(f"http://127.0.0.1:{port}/dashboard")
    try:
        optuna_dashboard.run_server(storage, host="127.0.0.1", port=port)
    except OSError as error:
        raise UserError(f"Cannot serve on port {port}: {error.strerror}. Try --port with another.") from error


def make_data(objective: str, out: Path, options: Mapping[str, Any]) -> Path:
    """Make an objective's data with its own maker.

    Raises:
        UserError: the objective has no maker, or an option is wrong.
    """
    return registry.find(objective, str(Path.cwd())).make_data(out, **options)


def _choose(found: Snapshot, spec: StudySpec, pick: Policy | None, where: Sequence[str]) -> Choice:
    return choose_trial(found, spec, pick, where)


def _has_completed(found: Snapshot) -> bool:
    return any(trial.state is TrialState.COMPLETE for trial in found.trials)


def _newest_retraining(studies: Studies, study: StoredStudy, plan: Plan, found: Snapshot) -> Retrained:
    runs = found.others.get(RETRAIN, ())
    if not runs:
        raise UserError(f"Study {plan.name!r} has not been retrained; first: hpo retrain {plan.name}")
    newest = max(runs, key=lambda run: run.number)
    by_seed = {run.seed: run for run in runs if (run.subject, run.epochs) == (newest.subject, newest.epochs)}
    same = [by_seed[seed] for seed in plan.spec.retrain.seeds if seed in by_seed] or [newest]
    return _retrained(plan, get_trial(found, newest.subject or 0), same, _baselines(studies, study, plan))


def _retrained(
    plan: Plan, promise: TrialRecord, runs: Sequence[TrialRecord], baselines: Mapping[str, Metrics]
) -> Retrained:
    summary = summarise(promise, runs, plan.goals, plan.monitor, promised_epochs=promise.epochs, epochs=runs[0].epochs)
    has_model = isinstance(registry.find(plan.spec.objective, plan.import_from), TrainingObjective)
    return Retrained(plan.name, promise, runs, summary, has_model, baselines)


def _baselines(studies: Studies, study: StoredStudy, plan: Plan) -> Mapping[str, Metrics]:
    """What simpler methods reach on the test set: computed once per study, then remembered."""
    for event in studies.snapshot(plan.name).events:
        if event.kind == "baselines":
            known: Mapping[str, Metrics] = event.details["metrics"]
            return known
    objective = registry.find(plan.spec.objective, plan.import_from)
    found = objective.baselines(plan.data, plan.spec.seed, "test")
    if found:
        kept = Event(
            "baselines", f"{', '.join(found)} on the test set", {"metrics": {n: dict(m) for n, m in found.items()}}
        )
        studies.add_event(study, kept, series=RETRAIN)
    return found


def _origin(plan: Plan, retrained: Retrained, shipped: TrialRecord) -> dict[str, Any]:
    """Where a bundle comes from: enough to train the same model again."""
    return {
        "study": plan.name,
        "digest": plan.digest,
        "data_fingerprint": plan.data_fingerprint,
        "trial": retrained.promise.number,
        "run": shipped.number,
        "seed": shipped.seed,
        "data_seed": plan.spec.seed,
        "epochs": shipped.epochs,
        "best_epoch": shipped.best_step,
        "environment": environment.describe(),
    }


def get_trial(found: Snapshot, number: int) -> TrialRecord:
    """A trial by its number.

    Raises:
        UserError: there is no such trial.
    """
    if not 0 <= number < len(found.trials):
        raise UserError(f"Study {found.study.name!r} has trials 0 to {len(found.trials) - 1}; there is no {number}.")
    return found.trials[number]
