"""The use case behind ``hpo reproduce``: the model of a bundle trained again, from what the bundle itself says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hpo import environment
from hpo.creation import create_or_check
from hpo.errors import BundleError, DataError, TrialFailed, UserError
from hpo.evaluation.groups import split_by_group
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.resolve import resolve
from hpo.service.registry.reading import opened
from hpo.service.running import MakeListeners
from hpo.session import open_session
from hpo.spec import ArtifactsSpec, Budget, Named, StopSpec, StudySpec
from hpo.study import FixedJobs, FixedRun, make_job
from hpo.training.settings import TrainerSettings
from hpo.trial import Job, TrialRecord, TrialState
from objectives import registry
from objectives.base import TrainingObjective
from storage.database import Database
from storage.records import RETRAIN
from storage.studies import Studies

if TYPE_CHECKING:
    from hpo.export.again import Sameness
    from hpo.export.bundle import ModelBundle

_DATABASE = "reproduce.db"  # beside the run in its folder
_NEEDED = ("data_fingerprint", "seed", "data_seed", "epochs")


@dataclass(frozen=True)
class Reproduced:
    """A bundle's model and its second training.

    ``metrics``: of the test set (without one: the goals), by name, then and now; None where one has no
    such value. ``ended``: how the run ended, then and now. ``folder``: where the run was kept, if it was.
    """

    study: str
    seed: int
    sameness: Sameness
    metrics: Mapping[str, tuple[float | None, float | None]]
    best_epoch: tuple[int | None, int | None]
    ended: tuple[str | None, str | None]
    is_deterministic: bool
    environment: tuple[str, ...]
    folder: Path | None


@dataclass(frozen=True)
class _Recipe:
    """What training the model again takes: all of it from the bundle."""

    plan: Plan
    objective: TrainingObjective
    text: str
    run: FixedRun
    epochs: int


def reproduce(
    storage: str,
    reference: str,
    *,
    keep: Path | None = None,
    data: Mapping[str, Any] | None = None,
    import_from: Path | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
    say: Callable[[str], None] = lambda line: None,
) -> Reproduced | None:
    """Train the model of a bundle again and hold its weights against the bundle's. None when interrupted.

    Args:
        storage: the database that knows a model's versions; a bundle's folder needs none.
        keep: the folder that the run stays in, and goes on in where it was interrupted; by default it
            lives in a temporary one.
        data: fields of the data over those of the study file, where it has moved; its fingerprint must be the same.
        import_from: where an objective named ``package.module:Class`` is looked for; None looks in no
            folder. The bundle itself never says, or it could choose what code runs.
        say: gets what differs in the environment, before the training begins, and what an interrupt left.

    Raises:
        BundleError: the bundle is not whole, or a folder that is named lies in it.
        UserError: it does not say enough, its objective is not here, or the data is not what it was.
        TrialFailed: the training did.
    """
    with opened(storage, reference) as bundle:
        bundle.refuse_inside(import_from)
        bundle.refuse_inside(keep, "--keep")
        recipe = _recipe(bundle, data or {}, None if import_from is None else str(import_from.resolve()))
        differs = _environment(bundle, recipe)
        for line in differs:
            say(f"Not as it was then: {line}")
        with _folder(keep) as folder:
            found = _trained(recipe, folder, interrupt or Interrupt(), listeners)
            if found is None:
                say(f"What was done is kept in {keep}." if keep else "Nothing was kept; with --keep FOLDER it goes on.")
                return None
            return _compared(bundle, recipe, *found, differs, keep)


def _recipe(bundle: ModelBundle, data: Mapping[str, Any], import_from: str | None) -> _Recipe:
    """The plan of one run, with everything that was recorded of it in its place.

    Raises:
        UserError: as ``reproduce``.
    """
    origin, manifest = bundle.manifest.origin, bundle.manifest
    if "checkpoint" in origin:
        raise UserError(
            f"{bundle.folder} was made from {origin['checkpoint']} alone, which says neither what its data was nor "
            "whether the trial came to its end, so it cannot be reproduced; a bundle of hpo export STUDY can. "
            "Its config.yaml is a study file of that one trial, for hpo launch."
        )
    missing = [name for name in _NEEDED if origin.get(name) is None]
    if missing:
        raise UserError(
            f"To train a model again its bundle must say how it was trained; the manifest of {bundle.folder} lacks "
            f"origin.{', origin.'.join(missing)}."
        )
    spec, text = StudySpec.load(bundle.folder / "config.yaml")
    objective = _objective(spec.objective, import_from)
    plan = _plan(bundle, spec, data, import_from)
    if plan.data_fingerprint != origin["data_fingerprint"]:
        raise DataError(
            "A model can be trained again on the data that it was trained on alone; this is other data.\n"
            f"  fingerprint: was {origin['data_fingerprint']}\n               is  {plan.data_fingerprint}\n"
            "Where the data has moved, name its place: --data path=FILE."
        )
    _check_device(plan)
    run = FixedRun(None, dict(manifest.params), int(origin["seed"]))
    return _Recipe(_as_trained(plan, bundle), objective, text, run, int(origin["epochs"]))


def _objective(name: str, import_from: str | None) -> TrainingObjective:
    try:
        objective = registry.find(name, import_from)
    except UserError as error:
        if ":" in name and import_from is None:
            raise UserError(f"{error} Give --import-from the folder of its module, if you trust it.") from error
        raise
    if not isinstance(objective, TrainingObjective):
        raise UserError(f"{name} does not train with the shared trainer, so hpo cannot train its model again.")
    return objective


def _plan(bundle: ModelBundle, spec: StudySpec, data: Mapping[str, Any], import_from: str | None) -> Plan:
    """The study file's plan without all that concerns a search, other places and other programs."""
    origin = bundle.manifest.origin
    alone = spec.model_copy(
        update={
            "data": {**(spec.data or {}), **data},
            "seed": int(origin["data_seed"]),
            "budget": Budget(trials=1, epochs=int(origin["epochs"])),
            "sampler": Named(name="random"), "pruner": Named(name="none"), "enqueue": [], "warm_start": None,
            "stop": StopSpec(), "concurrency": 1, "runner": "inline", "mirror": None, "tracking": [],
            "artifacts": ArtifactsSpec(pictures=False), "gates": [], "baselines": [],
        }
    )  # fmt: skip
    try:
        return resolve(alone, f"{bundle.folder}/config.yaml", import_from)
    except UserError as error:
        if isinstance(error.__cause__, DataError):
            raise DataError(
                f"{str(error).rstrip('. ')}. Where the data has moved, name its place: --data path=FILE."
            ) from error
        raise


def _check_device(plan: Plan) -> None:
    if plan.spec.resources.gpus == 0:
        return
    from hpo.training.accelerators import gpu_count

    if gpu_count() == 0:
        raise UserError("The model was trained on a GPU, and torch sees none here; reproduce it where there is one.")


def _as_trained(plan: Plan, bundle: ModelBundle) -> Plan:
    """The plan with the trainer's settings that were recorded; those of today are the next best."""
    recorded = bundle.manifest.origin.get("trainer")
    if recorded is None:
        return plan
    try:
        return replace(plan, trainer=TrainerSettings.model_validate(recorded))
    except ValidationError as error:
        raise BundleError(
            f"{bundle.folder} has trainer settings that this version of hpo does not know: {error}"
        ) from None


def _environment(bundle: ModelBundle, recipe: _Recipe) -> tuple[str, ...]:
    """What is not as it was when the model was trained, in sentences."""
    then = bundle.manifest.origin.get("environment")
    if not then:
        return ("The bundle does not say what it was trained on.",)
    now = environment.describe({"git": recipe.plan.import_from or str(Path.cwd())})
    threads = recipe.plan.job_trainer.threads
    lines = environment.differences(then, now)
    if threads is not None and threads > (now["cpus"] or threads):
        lines.append(f"threads: {threads}, as then, but this machine has {now['cpus']} cores")
    return tuple(lines)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the run lives.

    Raises:
        UserError: the folder cannot be made, or holds something else.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="hpo-reproduce-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()) and not (keep / _DATABASE).is_file():
            raise UserError(
                f"--keep needs an empty folder, or one of an earlier hpo reproduce; {keep} holds other files."
            )
    except OSError as error:
        raise UserError(f"--keep: cannot make the folder {keep}: {error.strerror}.") from error
    yield keep.resolve()


def _trained(
    recipe: _Recipe, folder: Path, interrupt: Interrupt, listeners: MakeListeners
) -> tuple[TrialRecord, Job] | None:
    """The run and what it was told to do, trained in ``folder``; None when interrupted. One that was goes on."""
    plan = recipe.plan
    with Database(f"sqlite:///{folder / _DATABASE}", create=True) as database:
        studies = Studies(database)
        study = create_or_check(studies, plan, recipe.text, folder)
        with open_session(database, studies, study, plan, None, 1, interrupt) as session:
            source = FixedJobs(
                plan,
                studies.trials(study, RETRAIN, session.launch),
                study.folder,
                RETRAIN,
                [recipe.run],
                epochs=recipe.epochs,
                use_test=True,
                anew=True,
                listeners=(*session.listeners, *listeners(plan, ())),
            )
            session.run(source)
        if interrupt.requested:
            return None
        run = source.results()[0]
        if run.state is not TrialState.COMPLETE:
            reason = run.reason.message if run.reason else "no reason was kept"
            raise TrialFailed(f"The model could not be trained again: {reason}. With --keep FOLDER its log stays.")
        return run, make_job(plan, run, RETRAIN, Path(study.folder))


def _compared(
    bundle: ModelBundle, recipe: _Recipe, run: TrialRecord, job: Job, differs: tuple[str, ...], keep: Path | None
) -> Reproduced:
    from hpo.export.again import held_against
    from hpo.training.checkpoints import find_best

    origin, plan = bundle.manifest.origin, recipe.plan
    weights = find_best(Path(job.folder))["model"]
    then = bundle.metrics.get("shipped") or {}
    names, _ = split_by_group([name for name in {**then, **run.metrics} if name.startswith("test_")])
    return Reproduced(
        study=plan.name,
        seed=run.seed,
        sameness=held_against(bundle, weights, lambda: recipe.objective.task(job)),
        metrics={name: (then.get(name), run.metrics.get(name)) for name in names or [g.metric for g in plan.goals]},
        best_epoch=(origin.get("best_epoch"), run.best_step),
        ended=(origin.get("ended"), run.reason.message if run.reason else None),
        is_deterministic=plan.spec.deterministic,
        environment=differs,
        folder=keep,
    )
