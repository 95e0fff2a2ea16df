"""Use case: a bundle from a checkpoint alone, without a study and without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hpo.errors import DataError, UserError
from hpo.oneoff import point_of, study_text
from hpo.service import origins
from hpo.spec import ExportSpec
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Job
from objectives import registry
from objectives.base import TrainingObjective

if TYPE_CHECKING:
    from hpo.export.bundle import ModelBundle


def export_checkpoint(
    path: Path,
    out: Path | None = None,
    *,
    formats: Sequence[str] | None = None,
    import_from: Path | None = None,
    overwrite: bool = False,
) -> ModelBundle:
    """Write the model in a checkpoint as a bundle; its task is built again from the trial's own facts.

    No gate can be judged from a checkpoint alone, so the manifest says that none was, and
    that the model is not released. ``out`` is ``bundles/STUDY-SERIES-NUMBER-epoch-N`` by
    default. ``import_from`` is where an objective named ``package.module:Class`` lies; the
    current folder by default.

    Raises:
        DataError: the file is missing, damaged, or says nothing of its trial.
        UserError: the objective trains no model, or ``out`` cannot be written.
        ExportFailed: the weights are another model's, or not one format could be released.
    """
    from hpo.export.release import export_model
    from hpo.training.checkpoints.takeup import metrics_of, read_facts

    state = read_facts(path)
    facts, defaults = state["job"], ExportSpec()
    folder = str((import_from or Path.cwd()).resolve())
    objective = registry.find(str(facts["objective"]), folder)
    if not isinstance(objective, TrainingObjective):
        raise UserError(f"{facts['objective']} trains no model, so there is nothing to export.")
    job = _job(objective, state, path, folder)
    return export_model(
        objective.task(job),
        state["model"],
        objective=facts["objective"],
        params=facts["params"],
        out=out or Path("bundles") / _name(state),
        formats=formats or defaults.formats,
        manifest_facts=origins.of_checkpoint(state, path, job),
        config_yaml=_study_file(objective, state),
        metrics=metrics_of(state),
        atol=defaults.atol,
        rtol=defaults.rtol,
        overwrite=overwrite,
        import_from=folder,
        judge=None,
        about=objective,
    )


def _name(state: Mapping[str, Any]) -> str:
    job = state["job"]
    return f"{job['study']}-{job['series']}-{job['number']:05d}-epoch-{state['epoch']}"


def _job(objective: TrainingObjective, state: Mapping[str, Any], path: Path, import_from: str) -> Job:
    """The trial's job again, as far as its task depends on it."""
    facts = state["job"]
    try:
        settings = TrainerSettings.model_validate(state["settings"])
    except ValidationError as error:
        raise DataError(f"{path} has trainer settings that this version of hpo does not know: {error}.") from None
    metrics = objective.metrics_for(facts["data"])
    goals = tuple(Goal(name, metrics[name].direction) for name in objective.default_goals if name in metrics)
    return Job(
        study=facts["study"],
        series=facts["series"],
        number=facts["number"],
        objective=facts["objective"],
        params=facts["params"],
        data=facts["data"],
        trainer=settings,
        goals=goals,
        monitor=goals[0],
        seed=facts["seed"],
        data_seed=facts["data_seed"],
        epochs=facts["epochs"],
        folder=str(path.resolve().parent),
        report=facts["report"],
        fold=tuple(facts["fold"]) if facts["fold"] else None,
        import_from=import_from,
    )


def _study_file(objective: TrainingObjective, state: Mapping[str, Any]) -> str:
    """A study file of one trial with the same parameters, settings and data."""
    facts = state["job"]
    point = point_of(objective, facts["params"], state["settings"], {})
    return study_text(
        facts["study"], facts["objective"], point,
        data=facts["data"], epochs=facts["epochs"], seed=facts["data_seed"], report=facts["report"],
    )  # fmt: skip
