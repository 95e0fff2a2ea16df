"""The end of a trial: the best weights put back, what they predict kept, the test set read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from hpo.errors import DataError, TrialFailed
from hpo.training.batches import Loading
from hpo.training.checkpoints import write_atomically
from hpo.training.evaluate import evaluate
from hpo.training.health import summary
from hpo.training.seeds import preserved_rng
from hpo.training.task import Split, prediction_kind
from hpo.training.team.alone import from_first
from hpo.trial import Metrics, Outcome, StopReason

if TYPE_CHECKING:
    from hpo.training.trainer import _Fit

VALIDATION_PREDICTIONS = "val_predictions.npz"
TEST_PREDICTIONS = "test_predictions.npz"
_MOST_NUMBERS = 2_000_000  # larger predictions (language models) are not kept


def finish(fit: _Fit, reason: StopReason) -> Outcome:
    """The outcome of a trial that is over, with its model at the weights that gave it its value.

    Raises:
        TrialFailed: the best epoch's weights are lost.
    """
    _restore_best(fit)
    metrics = dict(fit.state.measured)
    with preserved_rng(fit.device):
        _keep_validation(fit)
        if fit.job.use_test and fit.task.test is not None:
            metrics.update(_test(fit, fit.task.test()))
    if flags := fit.health.flags(fit.state.history):
        message, details = summary(flags)
        fit.context.event("health_flags", message, flags=details)
    if fit.team.rank == 0:
        fit.folder.finish()
    return Outcome(reason, metrics, fit.context.take_events())


def are_kept(outputs: Tensor, targets: Tensor) -> bool:
    """Whether predictions are small enough to be kept."""
    return outputs.numel() + targets.numel() <= _MOST_NUMBERS


def _restore_best(fit: _Fit) -> None:
    wanted = fit.state.epoch if fit.job.report == "last" else fit.state.progress.best_epoch
    if wanted == 0:
        fit.context.event(
            "no_best_epoch", f"{fit.job.monitor.metric} was never a number: the weights are the last epoch's"
        )
        return
    if wanted == fit.state.epoch and fit.state.totals is None:
        return  # the model has them
    try:
        best = from_first(fit.team, fit.folder.best)
    except DataError as error:
        raise TrialFailed(f"The best epoch's weights are lost: {error} Run the trial again.") from error
    if best["epoch"] != wanted:
        fit.context.event(
            "other_best_epoch",
            f"best.pt holds epoch {best['epoch']}, not {wanted}: a replay after a crash differed",
        )
    fit.team.load_model(fit.task.model, best["model"])


def _keep_validation(fit: _Fit) -> None:
    """What the weights that count say about the validation set, for the picture of the run."""
    known = fit.best_outputs
    wanted = fit.state.epoch if fit.job.report == "last" else fit.state.progress.best_epoch or fit.state.epoch
    if known is not None and known[0] == wanted:
        outputs, targets = known[1:]
    elif fit.team.size == 1:  # resumed after the best epoch
        _, outputs, targets = _evaluate(fit, fit.task.validation)
    else:
        return
    _keep(fit, VALIDATION_PREDICTIONS, outputs, targets)


def _test(fit: _Fit, split: Split) -> Metrics:
    """Metrics of the test set, named ``test_...``; its outputs and targets are kept in the folder."""
    found, outputs, targets = _evaluate(fit, split)
    _keep(fit, TEST_PREDICTIONS, outputs, targets)
    return {f"test_{name.removeprefix('val_').removeprefix('test_')}": value for name, value in found.items()}


def _evaluate(fit: _Fit, split: Split) -> tuple[Metrics, Tensor, Tensor]:
    return evaluate(
        fit.task.model,
        split,
        fit.task.loss,
        fit.device,
        fit.validation.batch_size,
        precision=fit.updater.precision.name,
        loading=Loading.of(fit.settings),
        weigh=fit.task.weigh,
        keep=fit.task.keep,
    )


def _keep(fit: _Fit, name: str, outputs: Tensor, targets: Tensor) -> None:
    if fit.team.rank != 0 or not are_kept(outputs, targets):
        return
    try:
        kind = np.array(prediction_kind(fit.task, targets))
        arrays = {"outputs": outputs.numpy(), "targets": targets.numpy(), "kind": kind}
        if fit.task.columns is not None:
            arrays["columns"] = np.array(fit.task.columns)
        write_atomically(Path(fit.context.folder) / name, lambda path: _write_npz(path, arrays))
    except TrialFailed as error:  # a picture less is no reason to lose the trial
        fit.context.event("predictions_not_kept", str(error))


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # given a name, savez would add a suffix to it
        np.savez(file, **arrays)  # type: ignore[arg-type]
