"""A LightningModule and its DataModule as an objective, trained by Lightning's own Trainer.

Works with ``lightning`` and with ``pytorch_lightning``, whichever the module is built on.
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hpo import durable
from hpo.adoption.arguments import Maker, for_maker, listed, required, untaken
from hpo.errors import DataError, UnknownName, UserError
from hpo.trial import Job, Metrics, Outcome, Params, TrialContext, TrialStopped, derive_seed
from objectives.adopted import Adopted, Goals, Space, asked_to_stop, ended, trial_process
from objectives.base import DataFacts

_LAST = "lightning.ckpt"
_OURS = frozenset(
    ("max_epochs", "max_steps", "max_time", "default_root_dir", "accelerator", "devices", "enable_checkpointing")
)
_STOPPED = asked_to_stop("from its last finished epoch")


def adopt_lightning(
    module: Maker,
    data: Maker | None = None,
    *,
    goals: Goals,
    space: Space | None = None,
    metrics: Goals | None = None,
    defaults: Params | None = None,
    trainer: Mapping[str, Any] | None = None,
) -> LightningObjective:
    """Make a LightningModule an objective; a study file names it ``my_module:NAME``.

    A trial's parameters, and the fields of the study file's ``data``, go to the constructors that
    have an argument of that name. Every number that the module logs is reported at the end of
    each epoch that ends with a validation (of each epoch where there is none).

    Args:
        module: the LightningModule's class, or a function that makes one.
        data: the same for a LightningDataModule; None where the module brings its loaders.
        goals, space, metrics, defaults: as ``adopt``.
        trainer: further arguments of Lightning's ``Trainer``, copied for every trial: callbacks,
            ``precision``, ``gradient_clip_val``. How long, where and on what it trains is hpo's.

    Raises:
        UserError: a parameter of the space is no argument of either constructor, ``trainer`` sets
            what is hpo's, or as ``adopt``.
    """
    return LightningObjective(module, data, dict(trainer or {}), goals, space, metrics, defaults)


class LightningObjective(Adopted):
    """See ``adopt_lightning``."""

    def __init__(
        self,
        module: Maker,
        data: Maker | None,
        trainer: Mapping[str, Any],
        goals: Goals,
        space: Space | None,
        metrics: Goals | None,
        defaults: Params | None,
    ) -> None:
        name = getattr(module, "__qualname__", type(module).__name__)
        super().__init__(
            name, f"{name}, trained by Lightning", goals=goals, space=space, metrics=metrics, defaults=defaults
        )
        self._module, self._data, self._trainer = module, data, trainer
        for setting in sorted(_OURS & set(trainer)):
            raise UserError(f"adopt {name}: trainer: {setting} is set by hpo, from the study file; leave it out.")
        self._refuse_untaken(self._space or (), UserError)

    @property
    def _makers(self) -> list[Maker]:
        return [self._module] if self._data is None else [self._module, self._data]

    def needs(self, data: Mapping[str, Any]) -> frozenset[str]:
        return frozenset[str]().union(*map(required, self._makers)) - set(data)

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        self._refuse_untaken(data, DataError)
        return super().check_data(data)

    def _refuse_untaken(self, names: Collection[str], error: type[UserError]) -> None:
        for name in untaken(self._makers, names):
            raise error(f"adopt {self.name}: {UnknownName('constructor argument', name, listed(*self._makers))}")

    def run(self, job: Job, context: TrialContext) -> Outcome:
        self._refuse_untaken(job.params, UserError)
        values = {**job.data, **job.params}
        with trial_process(job, context), _quiet():
            module = self._module(**for_maker(self._module, values))
            lightning = _framework_of(module)
            data = None if self._data is None else self._data(**for_maker(self._data, values))
            lightning.seed_everything(job.seed, workers=True, verbose=False)
            report = _report_callback(lightning, job, context)
            trainer = self._make_trainer(lightning, report, job, context)
            last = Path(job.folder) / _LAST
            try:
                begin_at = str(last) if job.resume and last.exists() else None
                trainer.fit(module, datamodule=data, ckpt_path=begin_at, weights_only=True)
            except _sigterm_of(lightning):  # during a validation, where nobody looks between batches
                raise TrialStopped(_STOPPED) from None
        return ended(report.step or job.reported, job.epochs)

    def _make_trainer(self, lightning: ModuleType, report: Any, job: Job, context: TrialContext) -> Any:
        settings = copy.deepcopy(dict(self._trainer))
        callbacks = settings.pop("callbacks", None) or []
        return lightning.Trainer(
            **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False, **settings},
            callbacks=[*(callbacks if isinstance(callbacks, list) else [callbacks]), report],
            max_epochs=job.epochs,
            default_root_dir=job.folder,
            accelerator="gpu" if context.device == "cuda" else "cpu",
            devices=1,
        )


def _framework_of(module: object) -> ModuleType:
    """``lightning.pytorch`` or ``pytorch_lightning``: two packages with the same classes, which must not be mixed.

    Raises:
        UserError: the object is no LightningModule.
    """
    for kind in type(module).__mro__:
        if kind.__name__ == "LightningModule":
            return importlib.import_module(kind.__module__.partition(".core")[0])
    raise UserError(f"adopt_lightning takes a LightningModule; got a {type(module).__name__}.")


def _sigterm_of(lightning: ModuleType) -> type[BaseException]:
    exceptions = importlib.import_module(f"{lightning.__name__}.utilities.exceptions")
    found: type[BaseException] = exceptions.SIGTERMException
    return found


def _report_callback(lightning: ModuleType, job: Job, context: TrialContext) -> Any:
    """The callback that keeps a checkpoint of every epoch and then reports it.

    A ``Checkpoint`` among callbacks comes last, when everything of the epoch is logged, and
    keeps Lightning from adding one of its own.
    """
    callbacks = importlib.import_module(f"{lightning.__name__}.callbacks")

    class Report(callbacks.Checkpoint):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.step = 0  # the last epoch that is done
            self._told: Metrics | None = None  # of that epoch; None where it had no validation
            self._validated = False

        def on_fit_start(self, trainer: Any, module: Any) -> None:
            if self.step:  # it goes on; what it told last may never have arrived
                self._tell()
                self._begin_epoch()

        def on_train_batch_end(self, *args: Any) -> None:
            if context.stop_requested:
                raise TrialStopped(_STOPPED)

        def on_validation_end(self, trainer: Any, module: Any) -> None:
            self._validated = True

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            self.step += 1
            is_measured = self._validated or not trainer.enable_validation
            self._told = _numbers(trainer.callback_metrics) if is_measured else None
            self._validated = False
            durable.write(Path(job.folder) / _LAST, lambda path: trainer.save_checkpoint(path, weights_only=False))
            self._tell()
            self._begin_epoch()

        def _tell(self) -> None:
            if self._told is not None:
                context.checkpoint_saved(_LAST)
                context.report(self.step, **self._told)

        def _begin_epoch(self) -> None:
            """Seed what the next epoch draws, so that one begun after a resume draws the same."""
            lightning.seed_everything(derive_seed(job.seed, "epoch", self.step), workers=True, verbose=False)

        def state_dict(self) -> dict[str, Any]:
            return {"step": self.step, "told": self._told}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.step, self._told = state["step"], state["told"]

    return Report()


def _numbers(logged: Mapping[str, Any]) -> Metrics:
    return {name: float(value) for name, value in logged.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's own words and seeds stay inside: what it says of every trial, and what it sets in the environment."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric",
                                                    "pytorch_lightning", "lightning_fabric")]  # fmt: skip
    levels = [logger.level for logger in loggers]
    before = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_)?lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
