"""The contract of an objective: what it measures, what can be varied, and how one trial runs."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpo.errors import DataError, ExportFailed, UnknownName, UserError
from hpo.training.health import Rule
from hpo.trial import Direction, Job, Metric, Metrics, Outcome, Params, TrialContext
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from hpo.training.task import Outline, Task
    from objectives.prediction import Preparation


@dataclass(frozen=True)
class DataFacts:
    """What a check of the data found. ``fingerprint`` changes when the data does.

    ``notes`` are sentences that somebody should read before trusting a figure, such as how
    much was left out; ``left_out`` says of each record that was what is wrong with it. Both
    are told by ``hpo check`` and kept with the study, the notes for its report.
    """

    fingerprint: str
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UsualBudget:
    """What is usually spent on models below ``below_weights`` trainable weights; ``hpo check`` suggests it.

    ``batch_size``: the physical one, from and to.
    """

    below_weights: float
    trials: int
    epochs: int
    batch_size: tuple[int, int]


class Objective(ABC):
    """Something that can be tuned.

    ``metrics`` lists every number that may be a goal, with the direction in which it is
    better. ``default_params`` is the point people pick by hand today. ``default_trainer``
    holds trainer settings that differ from the trainer's own defaults.
    """

    summary: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]
    default_goals: ClassVar[tuple[str, ...]]
    default_params: ClassVar[Params] = {}
    default_trainer: ClassVar[Mapping[str, Any]] = {}
    default_data: ClassVar[Mapping[str, Any]] = {}

    @property
    @abstractmethod
    def space(self) -> SearchSpace:
        """The search space used when the study file names none."""

    def space_for(self, data: Mapping[str, Any]) -> SearchSpace:
        """``space``, for objectives whose parameters depend on the data they are given."""
        return self.space

    def metrics_for(self, data: Mapping[str, Any]) -> Mapping[str, Metric]:
        """``metrics``, for objectives that report different ones for different data."""
        return self.metrics

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        """Look at the data before a study begins; quick, without torch.

        The default takes whatever is given, and the description itself for a fingerprint.

        Raises:
            DataError: a field is unknown, a file is missing, or its content is not usable.
        """
        text = json.dumps(dict(data), sort_keys=True, default=str)
        return DataFacts(fingerprint=hashlib.sha256(text.encode()).hexdigest())

    def needs(self, data: Mapping[str, Any]) -> frozenset[str]:
        """Parameters that a search space must have for trials to run at all."""
        return frozenset()

    def make_data(self, out: Path, *, seed: int, **options: Any) -> Path:
        """Make records really, by doing what the objective is about; an interrupted call goes on.

        Raises:
            UserError: there is nothing to make (the default), or an option is wrong.
        """
        raise UserError(f"{type(self).__name__} makes no data.")

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        """The baselines that there are, without computing any; every built-in objective has two or more."""
        return ()

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        """What simpler methods reach on a part of the data, by name, under the names of this objective's metrics.

        Args:
            part: ``validation``, or ``test``, where ``val_`` becomes ``test_``.
            names: which of ``baseline_names``, in this order; None: all. Begin with ``chosen_baselines``.

        Raises:
            UnknownName: a name or part that there is not. DataError: the data cannot be used.
        """
        self.chosen_baselines(data, part, names)
        return {}

    def chosen_baselines(
        self, data: Mapping[str, Any], part: str, names: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """``names``, or all there are; for ``baselines`` to begin with, and for a study file to be held against.

        Raises:
            UnknownName: a name or part that there is not.
        """
        known = self.baseline_names(data)
        if part not in ("validation", "test"):
            raise UnknownName("part", part, ("validation", "test"))
        for name in names or ():
            if name not in known:
                raise UnknownName("baseline", name, known)
        return known if names is None else tuple(names)

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        """Which ids stand in which part of the data (train, validation, test); kept with the study."""
        return {}

    @abstractmethod
    def run(self, job: Job, context: TrialContext) -> Outcome:
        """Run one trial: call ``context.report(step, **metrics)`` after every step.

        ``TrialStopped`` must pass through; any other exception makes the trial FAIL with
        the exception as its reason.
        """


def facts_of(objective: Objective, data: Mapping[str, Any]) -> DataFacts:
    """``check_data``, with a message for every path at which one may not even look.

    Raises:
        DataError: as ``check_data``, or the system refuses a path (no right to it, too long a name).
    """
    try:
        return objective.check_data(data)
    except OSError as error:
        where = error.filename or data.get("path", "the data")
        raise DataError(f"{where}: {error.strerror or error}. Give a path that can be read.") from error


# What the shared trainer itself reports for every task.
TRAINER_METRICS: Mapping[str, Metric] = {
    "train_loss": Metric(help="mean training loss of the epoch"),
    "val_loss": Metric(help="the task's loss on the validation set, weighted by samples (or tokens)"),
    "lr": Metric(help="learning rate at the end of the epoch"),
    "grad_norm": Metric(help="mean gradient norm before clipping"),
    "epoch_s": Metric(help="seconds of the epoch, pauses left out", timing=True),
    "epoch_samples_per_s": Metric(Direction.MAXIMIZE, "training samples per second of the epoch", timing=True),
    "data_wait_share": Metric(help="share of the epoch's training seconds spent waiting for a batch", timing=True),
    "epoch_memory_mb": Metric(help="on a GPU the epoch's peak; on a CPU the process's resident size", timing=True),
    "gpu_memory_share": Metric(help="the epoch's peak, of the GPU's memory (absent without one)", timing=True),
    "gpu_utilisation_pct": Metric(
        Direction.MAXIMIZE, "how busy the GPU was, mean of the epoch (absent without one)", timing=True
    ),
    "gpu_temperature_c": Metric(help="the GPU's highest temperature of the epoch (absent without one)", timing=True),
    "samples_per_s_spread": Metric(help="width of the 95 % interval of samples_per_s", once=True, timing=True),
    "samples_per_s": Metric(
        Direction.MAXIMIZE, "training samples per second, measured alone on the device", once=True, timing=True
    ),
    "latency_ms_spread": Metric(help="width of the 95 % interval of latency_ms", once=True, timing=True),
    "latency_ms": Metric(help="one prediction at batch 1, measured alone on the device", once=True, timing=True),
    "peak_memory_mb": Metric(help="peak memory of a training step at the physical batch", once=True),
    "forward_gflops": Metric(help="floating-point operations of one forward pass at batch 1, exact", once=True),
    "parameter_mb": Metric(help="size of the parameters, exact", once=True),
}


class TrainingObjective(Objective):
    """An objective that trains a PyTorch model with the shared trainer.

    A subclass says which metrics it adds, its space, and builds a ``Task``. ``health``
    holds its own rules of what a healthy run is, over the trainer's (``COMMON``) by name.
    ``folds`` says whether ``task(job)`` honours ``job.fold``: validation is then the fold's
    part of the training and validation data; the test set is never in it. ``usual_budgets``,
    the smallest first, take the place of the budget by rule of thumb where one applies.
    ``meanings`` says of the exported tensors, by name, what stands in them and in which unit;
    ``limits``, in sentences, where the model should not be trusted: both for the model's card.
    ``shared_facts`` are the names of those of ``Task.facts`` (units, classes, a vocabulary) that must be the
    same in two models for the one's inputs and outputs to mean what the other's do; None: all of them.
    """

    own_metrics: ClassVar[Mapping[str, Metric]] = {}
    health: ClassVar[tuple[Rule, ...]] = ()
    folds: ClassVar[bool] = False
    usual_budgets: ClassVar[Sequence[UsualBudget]] = ()
    meanings: ClassVar[Mapping[str, str]] = {}
    limits: ClassVar[Sequence[str]] = ()
    shared_facts: ClassVar[frozenset[str] | None] = None
    metrics: ClassVar[Mapping[str, Metric]] = TRAINER_METRICS
    default_goals: ClassVar[tuple[str, ...]] = ("val_loss",)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.metrics = {**TRAINER_METRICS, **cls.own_metrics}

    @abstractmethod
    def task(self, job: Job) -> Task:
        """The model and data of one trial, built from ``job.params``, ``job.data`` and its seeds.

        Parameters named like a trainer setting (``lr``, ``batch_size``, ...) are the
        trainer's business and can be ignored here. Data may be cached per process.
        """

    def outline(self, job: Job) -> Outline | None:
        """The model of ``task(job)`` on the meta device, with what else decides its memory.

        For models that may not fit: such a trial is refused before anything is built. None
        (the default): the memory is counted once the model is there.
        """
        return None

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        """The untrained model for these parameters, to load shipped weights into; reads no data.

        ``facts`` are ``Task.facts`` after a trip through JSON.

        Raises:
            ExportFailed: the objective does not say how (the default).
        """
        raise ExportFailed(f"{type(self).__name__} must define model(params, facts) to be shipped as safetensors.")

    def preparation(self, params: Params, facts: Mapping[str, Any], assets: Path) -> Preparation:
        """How files as people have them become the inputs of a shipped model, and its outputs words; without torch.

        Args:
            facts: ``Task.facts`` after a trip through JSON.
            assets: the bundle's folder with what ``Task.assets`` left; absent where that is None.

        Raises:
            UserError: the objective does not say how (the default); arrays by name in an .npz always work.
        """
        raise UserError(
            f"{type(self).__name__} reads no files: it must define preparation(params, facts, assets). "
            "Give an .npz with the model's inputs by name instead."
        )

    def run(self, job: Job, context: TrialContext) -> Outcome:
        settings = job.trainer.with_params(job.params)
        outline = self.outline(job)
        if outline is not None:
            import torch

            from hpo.training.checks.outlined import check_outline

            check_outline(outline, settings, torch.device(context.device), job.gpu_share)
        if settings.devices > 1:
            from hpo.training.team.launching import run_together

            return run_together(job, context, _task_of)
        from hpo.training.trainer import Trainer

        return Trainer(settings).fit(self.task(job), context)


def _task_of(job: Job) -> Task:
    """The task of a job, for a process that has nothing but the job."""
    from objectives import registry

    objective = registry.find(job.objective, job.import_from)
    if not isinstance(objective, TrainingObjective):
        raise TypeError(f"{job.objective} does not train with the shared trainer.")
    return objective.task(job)
