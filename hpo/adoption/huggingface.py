"""A Hugging Face ``Trainer`` as an objective: yours trains, evaluates and saves; hpo hears of every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpo import durable
from hpo.errors import DataError, TrialFailed, UserError
from hpo.trial import Job, Metrics, Outcome, Params, TrialContext, TrialStopped
from objectives.adopted import Adopted, Goals, Space, asked_to_stop, ended, trial_process
from objectives.base import DataFacts
from objectives.function import GIVEN, given_to

_LAST = "last-checkpoint.txt"  # names the newest checkpoint that is whole
_STOPPED = asked_to_stop("from its last finished epoch")
_CLOCK = ("_runtime", "_per_second")  # how long an evaluation took; reported where it is declared
_PLACE = ("epoch", "step")


def adopt_trainer(
    make_trainer: Callable[..., Any],
    *,
    goals: Goals,
    space: Space | None = None,
    metrics: Goals | None = None,
    defaults: Params | None = None,
) -> TrainerObjective:
    """Make a Hugging Face Trainer an objective; a study file names it ``my_module:NAME``.

    ``make_trainer(params, arguments)`` gives the ``Trainer`` of one trial. ``arguments`` are what
    hpo decides of ``TrainingArguments`` (folder, epochs, seeds, device, when to evaluate and save)
    and must be passed on: ``TrainingArguments(learning_rate=params["lr"], **arguments)``. As with
    ``adopt``, further arguments are given by name. Every evaluation is reported: ``eval_loss`` and
    what ``compute_metrics`` gives.

    Args:
        goals, space, metrics, defaults: as ``adopt``.

    Raises:
        UserError: ``make_trainer`` cannot be called like this, or as ``adopt``.
    """
    return TrainerObjective(make_trainer, goals, space, metrics, defaults)


class TrainerObjective(Adopted):
    """See ``adopt_trainer``."""

    def __init__(
        self,
        make_trainer: Callable[..., Any],
        goals: Goals,
        space: Space | None,
        metrics: Goals | None,
        defaults: Params | None,
    ) -> None:
        self._make = make_trainer
        self._given = given_to(make_trainer, "arguments")
        name = getattr(make_trainer, "__qualname__", type(make_trainer).__name__)
        summary = f"{name}, trained by the Trainer of transformers"
        super().__init__(name, summary, goals=goals, space=space, metrics=metrics, defaults=defaults)

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        if find_spec("accelerate") is None or find_spec("transformers") is None:
            raise UserError("The Trainer of transformers needs accelerate, too: pip install 'hpo[trainer]'.")
        if data and "data" not in self._given:
            raise DataError(f"data: {self.name} has no argument named data to get it by; leave it out.")
        return super().check_data(data)

    def run(self, job: Job, context: TrialContext) -> Outcome:
        from transformers.trainer_callback import PrinterCallback, ProgressCallback

        given = {name: GIVEN[name](job, context) for name in self._given}
        arguments = training_arguments(job, context.device)
        with trial_process(job, context), _quiet():
            trainer = self._make(dict(job.params), dict(arguments), **given)
            self._check_passed_on(trainer, arguments)
            report = _report_callback(job, context, frozenset(self.metrics))
            trainer.add_callback(report)
            for printer in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(printer)
            trainer.train(resume_from_checkpoint=_newest(Path(job.folder)) if job.resume else None)
        return ended(report.step or job.reported, job.epochs)

    def _check_passed_on(self, trainer: Any, arguments: Mapping[str, Any]) -> None:
        args = getattr(trainer, "args", None)
        if args is None:
            raise TrialFailed(f"{self.name} must return a transformers.Trainer; it returned {trainer!r}.")
        for name in ("output_dir", "num_train_epochs", "max_steps", "seed", "eval_strategy", "save_strategy"):
            if getattr(args, name) != arguments[name]:
                raise TrialFailed(
                    f"{self.name} must pass **arguments on to TrainingArguments: {name} must be "
                    f"{arguments[name]!r}; it is {getattr(args, name)!r}."
                )


def training_arguments(job: Job, device: str) -> dict[str, Any]:
    """What hpo decides of ``TrainingArguments``: where, how long, on what, from which seed."""
    return {
        "output_dir": job.folder,
        "num_train_epochs": job.epochs,
        "max_steps": -1,
        "seed": job.seed,
        "use_cpu": device == "cpu",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,  # one is whole while the other is written
        "report_to": "none",
        "disable_tqdm": True,
    }


def _report_callback(job: Job, context: TrialContext, declared: frozenset[str]) -> Any:
    """The callback that reports an evaluation once the checkpoint of its epoch is there."""
    from transformers import TrainerCallback

    class Report(TrainerCallback):
        def __init__(self) -> None:
            self.step = 0  # the last epoch that is done
            self._metrics: Metrics = {}

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step:  # it goes on; what it told last may never have arrived
                evaluated = [told for told in state.log_history if "eval_runtime" in told]
                self._metrics = _numbers(evaluated[-1], declared) if evaluated else {}
                self._tell(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if context.stop_requested:
                raise TrialStopped(_STOPPED)

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._metrics = _numbers(kwargs["metrics"], declared)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            name = f"checkpoint-{state.global_step}"
            durable.write(Path(job.folder) / _LAST, lambda path: path.write_text(name, encoding="ascii"))
            self._tell(state)

        def _tell(self, state: Any) -> None:
            step = max(1, round(state.epoch))
            if self._metrics and step > self.step:
                self.step = step
                context.checkpoint_saved(f"checkpoint-{state.global_step}")
                context.report(step, **self._metrics)
                self._metrics = {}

    return Report()


def _numbers(metrics: Mapping[str, Any], declared: frozenset[str]) -> Metrics:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and (name in declared or not (name in _PLACE or name.endswith(_CLOCK)))
    }


def _newest(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    try:
        found = folder / (folder / _LAST).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return str(found) if found.is_dir() else None


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of transformers on the terminal: it belongs to the study."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
