"""The one training loop, for every task.

Trains, judges and checkpoints epoch by epoch, and reports each epoch once its checkpoint
is durable. It knows neither the study nor the runner, installs no signal handler, and
learns of a wish to stop from its context alone.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpo.errors import DataError, TrialFailed
from hpo.training import checkpoints
from hpo.training.batches import make_batches
from hpo.training.device_lock import DeviceLock
from hpo.training.epoch import EpochTotals, train_epoch
from hpo.training.evaluate import evaluate, evaluate_batches
from hpo.training.meters import MEASURED, Subject, measure
from hpo.training.optimizers import make_optimizer
from hpo.training.precision import Precision
from hpo.training.preflight import check_fits_data
from hpo.training.process import memory_mb, process_state, release_memory, reset_peak_memory
from hpo.training.progress import Progress
from hpo.training.schedules import Schedule
from hpo.training.seeds import preserved_rng, rng_state, set_rng_state
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task
from hpo.training.update import Updater
from hpo.trial import Metrics, Outcome, StopKind, StopReason, TrialContext, derive_seed

ALWAYS_MEASURED = frozenset({"forward_gflops", "parameter_mb"})
PREDICTIONS = "test_predictions.npz"

# How often, at most, the loop looks whether somebody wants the device or wants it to stop.
_LOOK_EVERY_S = 0.005


class Trainer:
    """Trains a task as its settings say.

    The result depends on the settings, the task, the job's seed and the device; neither on
    earlier trials in the process nor on what was measured or interrupted in between.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self.settings = settings

    def fit(self, task: Task, context: TrialContext) -> Outcome:
        """Train ``task.model`` in place, up to ``context.job.epochs`` epochs.

        At the end the model has the weights of the epoch that gives the trial its value:
        the best by ``job.monitor``, or with ``job.report`` "last" the last. The same stand
        in ``best.pt``. With ``job.resume`` training goes on after the newest intact
        checkpoint in ``context.folder`` exactly as if it had never stopped, and that
        checkpoint's epoch is reported again, because its report may have been lost.
        A stop request between two updates ends the trial at once as INTERRUPTED.

        Raises:
            TrialFailed: the data are empty, model and data do not fit, the loss is not
                finite, the checkpoint is another model's or cannot be written.
            TrialStopped: a report was answered with a stop; passes through untouched.
        """
        job, device = context.job, torch.device(context.device)
        seed = derive_seed(job.seed, "training")
        try:
            with (
                process_state(device, seed=seed, deterministic=job.deterministic, threads=self.settings.threads),
                DeviceLock(device) as lock,
            ):
                return _Fit(self.settings, task, context, device, lock).run()
        finally:
            release_memory(device)


class _StopAskedError(Exception):
    """Leaves the epoch in progress after a stop request."""


class _Fit:
    """One call of ``Trainer.fit``: everything that changes while a trial trains."""

    def __init__(
        self, settings: TrainerSettings, task: Task, context: TrialContext, device: torch.device, lock: DeviceLock
    ) -> None:
        self.settings, self.task, self.context, self.job = settings, task, context, context.job
        self.device, self.lock = device, lock
        self.folder = Path(context.folder)
        self.eval_batch_size = settings.eval_batch_size or 4 * settings.batch_size
        self.train = make_batches(
            task.train,
            "training",
            settings.batch_size,
            device,
            seed=self.job.seed,
            shuffle=True,
            workers=settings.loader_workers,
        )
        self.validation = make_batches(
            task.validation, "validation", self.eval_batch_size, device, workers=settings.loader_workers
        )
        model = task.model.to(device)
        self.precision = Precision(settings.precision, device)
        self.updater = Updater(model, task.loss, make_optimizer(settings, model), self.precision, settings.grad_clip)
        self.schedule = Schedule.over(
            settings.schedule,
            epochs=self.job.epochs,
            updates_per_epoch=math.ceil(len(self.train) / settings.accumulation),
            warmup_epochs=settings.warmup_epochs or 0,
        )
        self.progress = Progress(self.job.monitor, settings.early_stopping)
        self._last_counts = self.job.report == "last"  # so every new epoch gives the trial its value
        self.measured: Metrics = {}
        self.history: list[Metrics] = []
        self._next_look = 0.0

    def run(self) -> Outcome:
        self._begin()
        try:
            while (reason := self.progress.stop_reason(self.job.epochs)) is None:
                self._epoch(len(self.history) + 1)
            return self._finish(reason)
        except _StopAskedError:
            done = len(self.history)
            message = f"asked to stop during epoch {done + 1}; {done} of {self.job.epochs} epochs are done"
            return Outcome(StopReason(StopKind.INTERRUPTED, message), dict(self.measured), self.context.take_events())

    def _begin(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrialFailed(f"Cannot make the trial's folder {self.folder}: {error}. Choose another.") from error
        self.task.model.train()
        state = self._newest() if self.job.resume else None
        if state is not None:
            self._restore(state)
        with preserved_rng(self.device):
            if state is not None:
                self.context.checkpoint_saved(checkpoints.LAST)
                self._report(len(self.history))
                return
            checkpoints.remove_checkpoints(self.folder)
            check_fits_data(self.task, next(iter(self.train.epoch(1))), self.precision)

    def _epoch(self, epoch: int) -> None:
        self._next_look = 0.0  # the first look of an epoch is always taken
        self._look()
        reset_peak_memory(self.device)
        began, paused = time.perf_counter(), self.lock.paused_s
        totals = train_epoch(
            self.updater,
            self.train.epoch(epoch),
            epoch=epoch,
            first_update=(epoch - 1) * math.ceil(len(self.train) / self.settings.accumulation),
            accumulation=self.settings.accumulation,
            lr=lambda update: self.settings.lr * self.schedule(update),
            between=self._look,
        )
        train_s = time.perf_counter() - began - (self.lock.paused_s - paused)
        metrics = self._validate()
        epoch_s = time.perf_counter() - began - (self.lock.paused_s - paused)
        # What follows may draw random numbers (measuring, and the study's code when it runs
        # in this process); the next epoch must not notice.
        with preserved_rng(self.device):
            self._note_skipped(epoch, totals)
            metrics = {**totals.metrics(), **metrics, "epoch_s": epoch_s}
            metrics["epoch_samples_per_s"] = totals.samples / train_s
            metrics["epoch_memory_mb"] = memory_mb(self.device)
            if not self.measured:
                self.measured = self._measure()
            self.history.append({**metrics, **self.measured})
            self._save(epoch, improved=self.progress.see(epoch, self.history[-1]))
            self._report(epoch)

    def _validate(self) -> Metrics:
        metrics, _, _ = evaluate_batches(
            self.task.model, self.validation, self.task.validation, self.task.loss, self.precision, self._look
        )
        return {"val_loss": metrics.pop("loss"), **metrics}

    def _measure(self) -> Metrics:
        goals = {goal.metric for goal in self.job.goals}
        subject = Subject(self.task, self.train, self.settings, self.device)
        return measure(subject, ALWAYS_MEASURED | (goals & set(MEASURED)))

    def _look(self) -> None:
        """Between two updates: let a measurement pass, and see whether to stop."""
        now = time.perf_counter()
        if now < self._next_look:
            return
        self.lock.pause_if_wanted()
        if self.context.stop_requested:
            raise _StopAskedError
        self._next_look = time.perf_counter() + _LOOK_EVERY_S

    def _report(self, epoch: int) -> None:
        """Report an epoch of the history, letting others measure while the answer is awaited."""
        self.lock.release()
        self.context.report(epoch, **self.history[epoch - 1])
        self.lock.take()

    def _note_skipped(self, epoch: int, totals: EpochTotals) -> None:
        if totals.skipped:
            self.context.event(
                "skipped_updates",
                f"fp16 gradients overflowed: {totals.skipped} updates of epoch {epoch} were skipped",
                epoch=epoch,
                skipped=totals.skipped,
            )

    # Checkpoints

    def _save(self, epoch: int, *, improved: bool) -> None:
        """Write what this epoch owes. ``last.pt`` goes first: it can stand in for a lost ``best.pt``."""
        over = self.progress.stop_reason(self.job.epochs) is not None
        due = epoch % self.settings.checkpoint_every == 0
        if due or improved or over or self.context.stop_requested:
            checkpoints.write_last(self.folder, self._state(epoch))
            self.context.checkpoint_saved(checkpoints.LAST)
        if improved or self._last_counts:
            checkpoints.write_best(self.folder, epoch, self.task.model.state_dict(), self.history[-1])

    def _state(self, epoch: int) -> dict[str, Any]:
        scaler = self.precision.scaler
        return {
            "epoch": epoch,
            "model": self.task.model.state_dict(),
            "optimizer": self.updater.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "rng": rng_state(self.device),
            "progress": self.progress.state(),
            "measured": dict(self.measured),
            "history": [dict(metrics) for metrics in self.history],
            "settings": self.settings.model_dump(mode="json"),
        }

    def _newest(self) -> dict[str, Any] | None:
        checkpoints.remove_unfinished(self.folder)
        return checkpoints.read_newest(self.folder, lambda message: self.context.event("broken_checkpoint", message))

    def _restore(self, state: dict[str, Any]) -> None:
        path = f"The checkpoint in {self.folder}"
        checkpoints.check_fits(self.task.model.state_dict(), state["model"], path)
        self.task.model.load_state_dict(state["model"])
        try:
            self.updater.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise TrialFailed(f"{path} was written by another optimiser: {error}. Start from the beginning.") from error
        if self.precision.scaler is not None and state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.progress.restore(state["progress"])
        self.measured, self.history = state["measured"], state["history"]
        set_rng_state(state["rng"], self.device)
        best = self.folder / checkpoints.BEST
        counts = self._last_counts or self.progress.best_epoch == state["epoch"]
        if counts and not _is_best_of(best, state["epoch"]):
            checkpoints.write_best(self.folder, state["epoch"], state["model"], self.history[-1])

    # The end

    def _finish(self, reason: StopReason) -> Outcome:
        if not self._last_counts:
            self._restore_best()
        metrics = dict(self.measured)
        if self.job.use_test and self.task.test is not None:
            with preserved_rng(self.device):
                metrics.update(self._test(self.task.test()))
        return Outcome(reason, metrics, self.context.take_events())

    def _restore_best(self) -> None:
        if self.progress.best_epoch == 0:
            self.context.event(
                "no_best_epoch", f"{self.job.monitor.metric} was never a number: the weights are the last epoch's"
            )
            return
        try:
            best = checkpoints.read(self.folder / checkpoints.BEST)
        except DataError as error:
            raise TrialFailed(f"The best epoch's weights are lost: {error} Run the trial again.") from error
        if best["epoch"] != self.progress.best_epoch:
            self.context.event(
                "other_best_epoch",
                f"best.pt holds epoch {best['epoch']}, not {self.progress.best_epoch}: a replay after a crash differed",
            )
        self.task.model.load_state_dict(best["model"])

    def _test(self, split: Split) -> Metrics:
        """Metrics of the test set, named ``test_...``; its outputs and targets are kept in the folder."""
        found, outputs, targets = evaluate(
            self.task.model,
            split,
            self.task.loss,
            self.device,
            self.eval_batch_size,
            precision=self.precision.name,
        )
        checkpoints.write_atomically(
            self.folder / PREDICTIONS, lambda path: _write_npz(path, outputs=outputs.numpy(), targets=targets.numpy())
        )
        return {f"test_{name.removeprefix('val_').removeprefix('test_')}": value for name, value in found.items()}


def _is_best_of(path: Path, epoch: int) -> bool:
    try:
        return bool(checkpoints.read(path)["epoch"] == epoch)
    except DataError:
        return False


def _write_npz(path: Path, **arrays: np.ndarray) -> None:
    with path.open("wb") as file:  # given a name, savez would add a suffix to it
        np.savez(file, **arrays)  # type: ignore[arg-type]
