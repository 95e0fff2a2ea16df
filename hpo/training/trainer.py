"""The one training loop, for every task.

Trains, judges and checkpoints epoch by epoch, and reports each epoch once its checkpoint
is durable. It knows neither the study nor the runner, installs no signal handler, and
learns of a wish to stop from its context alone.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from hpo import places
from hpo.errors import TrialFailed
from hpo.training.batches import Loading, check_accumulation, make_batches
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checkpoints import LAST, CheckpointFolder
from hpo.training.checks.estimate import check_memory
from hpo.training.checks.fitting import fit_once
from hpo.training.compiling import compile_model
from hpo.training.device_lock import DeviceLock, WorkClock
from hpo.training.ending import are_kept, finish
from hpo.training.epoch import Epoch, NotFiniteError
from hpo.training.health import Watch
from hpo.training.meters import MEASURED, Subject, measure, measure_unasked
from hpo.training.nvml import DeviceWatch
from hpo.training.optimizers import make_optimizer
from hpo.training.precision import Precision
from hpo.training.process import device_use, memory_mb, process_state, release_memory, reset_peak_memory
from hpo.training.recovery import is_out_of_memory, is_recoverable
from hpo.training.saving import Saver
from hpo.training.schedules import Schedule
from hpo.training.seeds import preserved_rng
from hpo.training.settings import TrainerSettings
from hpo.training.state import RunState
from hpo.training.task import Task
from hpo.training.team.alone import Alone, Team, from_first
from hpo.training.update import Updater
from hpo.training.validation import Validation
from hpo.trial import Metrics, Outcome, StopKind, StopReason, TrialContext, derive_seed

ALWAYS_MEASURED = frozenset({"forward_gflops", "parameter_mb"})

# How often, at most, the loop looks whether somebody wants the device or wants it to stop.
_LOOK_EVERY_S = 0.005

_GOES_ON = "; goes on from there"


class Trainer:
    """Trains a task as its settings say.

    The result depends on the settings, the task, the job's seed and the device; neither on
    earlier trials in the process nor on what was measured or interrupted in between.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self.settings = settings

    def fit(self, task: Task, context: TrialContext, team: Team | None = None) -> Outcome:
        """Train ``task.model`` in place, up to ``context.job.epochs`` epochs.

        At the end the model has the weights of the epoch that gives the trial its value:
        the best by ``job.monitor``, or with ``job.report`` "last" the last. The same stand
        in ``best.pt``. With ``job.resume`` training goes on after the newest intact
        checkpoint in ``context.folder`` (or its mirror) exactly as if it had never stopped,
        and epochs that were not known to be reported are reported again. A stop request
        ends the trial between two updates as INTERRUPTED, a spent ``time_limit`` as
        TIME_LIMIT, both with a checkpoint of that very update. Memory that runs out and a
        loss or gradient that is not finite are recovered from (``hpo.training.recovery``).

        Raises:
            TrialFailed: the data are empty, model and data do not fit, the checkpoint is
                another model's, recovering did not help; OutOfMemory where memory was the cause,
                or where what must be kept is more than the device has before anything is tried.
            TrialStopped: a report was answered with a stop; passes through untouched.
        """
        job, device = context.job, torch.device(context.device)
        seed = derive_seed(job.seed, "training")
        try:
            with (
                process_state(
                    device,
                    seed=seed,
                    deterministic=job.deterministic,
                    threads=self.settings.threads,
                    gpu_share=job.gpu_share,
                ),
                DeviceLock(device) as lock,
                checkpointed_blocks(task.blocks, wanted=self.settings.gradient_checkpointing),
            ):
                check_memory(task.model, self.settings, device, job.gpu_share, (task.train, task.validation))
                return _Fit(self.settings, task, context, device, lock, team or Alone()).run()
        finally:
            release_memory(device)


class _LeaveError(Exception):
    """Leaves the epoch in progress, for this reason."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class _Fit:
    """One call of ``Trainer.fit``: everything that changes while a trial trains."""

    def __init__(
        self,
        settings: TrainerSettings,
        task: Task,
        context: TrialContext,
        device: torch.device,
        lock: DeviceLock,
        team: Team,
    ) -> None:
        self.settings, self.task, self.context, self.job = settings, task, context, context.job
        self.device, self.lock, self.team = device, lock, team
        loading = Loading.of(settings, drop_single=any(isinstance(m, _BatchNorm) for m in task.model.modules()))
        self.train = make_batches(
            task.train, "training", settings.batch_size, device, seed=self.job.seed, shuffle=True, loading=loading
        )
        self.updates_per_epoch = math.ceil(len(self.train) / settings.accumulation)
        check_accumulation(len(task.train), settings)
        model = task.model.to(device)
        self.updater = Updater(
            team.wrap(model),
            task.loss,
            make_optimizer(settings, model),
            Precision(settings.precision, device),
            settings.grad_clip,
            team=team,
            weigh=task.weigh,
        )
        self.schedule = Schedule.over(settings, epochs=self.job.epochs, updates_per_epoch=self.updates_per_epoch)
        self.state = RunState(self.job, settings, task, self.updater, device, WorkClock(lock).now)
        self.validation = Validation(self.state, context.event)
        mirror = places.parse(self.job.mirror) if self.job.mirror else None
        self.folder = CheckpointFolder(Path(context.folder), settings, context.event, mirror)
        self.saver = Saver(self.state, context, self.folder)
        self.best_outputs: tuple[int, Tensor, Tensor] | None = None  # epoch, outputs, targets
        self.health = Watch(self.job.rules, self.job.reported)
        self.device_watch = DeviceWatch(device, context.event)
        self._last_counts = self.job.report == "last"  # so every new epoch gives the trial its value
        self._epoch_now: Epoch | None = None
        self._reported = 0  # the last epoch that was told
        self._is_void = False  # some that were reported have been taken back, and none since
        self._next_look = 0.0
        self._looks = 0

    def run(self) -> Outcome:
        self._begin()
        try:
            while (reason := self._stop_reason()) is None:
                recovered = self._try_epoch()
                if recovered is not None:
                    self._go_back(*recovered)
            return self._finish(reason)
        except _LeaveError as left:
            if left.reason.kind is StopKind.TIME_LIMIT:
                return self._finish(left.reason)
            self.folder.leave()
            return Outcome(left.reason, dict(self.state.measured), self.context.take_events())

    def _finish(self, reason: StopReason) -> Outcome:
        if self._is_void:  # the epochs taken back would count, were the last one that stands not told again
            self.context.rewind(self.state.epoch - 1)
            self._report(self.state.epoch)
        return finish(self, reason)

    # The beginning

    def _begin(self) -> None:
        self.task.model.train()
        resumed = self.saver.begin()
        self.updater.parts = self.state.recovery.parts
        with preserved_rng(self.device):
            if not resumed:
                self._check_fits()
                self.saver.start()
            if self.settings.compile:
                self._compile()
            if resumed and self.state.epoch:
                self._report_again()

    def _report_again(self) -> None:
        """The epoch that training goes on after, and those before it that the study does not know."""
        done = self.state.epoch
        for epoch in range(min(self.job.reported + 1, done), done + 1):
            if epoch == done:
                self.context.checkpoint_saved(LAST)
            self._report(epoch)

    def _check_fits(self) -> None:
        try:
            fit_once(self.task, next(iter(self.train.epoch(1))), self.updater.precision)
        except TrialFailed as error:
            if error.__cause__ is None or not is_out_of_memory(error.__cause__):
                raise
            # The first epoch will run out of memory likewise, and recover.

    def _compile(self) -> None:
        batches = self.train.epoch(1)
        group = [batch for batch, _ in zip(batches, range(self.settings.accumulation), strict=False)]
        self.updater.model = compile_model(
            self.updater.model, group, self._subject().updater_of, self.device, self.context.event
        )

    # One epoch

    def _try_epoch(self) -> tuple[str, str] | None:
        """An epoch; what happened and what was done about it when it has to be done again."""
        try:
            self._epoch(self.state.epoch + 1)
            return None
        except Exception as error:
            # Of its memory a process of a team learns alone, and the others would wait for it.
            if not is_recoverable(error) or (self.team.size > 1 and is_out_of_memory(error)):
                raise
            done = self.state.recovery.after(error)
            # The frames hold the very tensors for which there was no room.
            traceback.clear_frames(error.__traceback__)
            return type(error).__name__, done

    def _epoch(self, number: int) -> None:
        self._next_look = 0.0  # the first look of an epoch is always taken
        state = self.state
        epoch = self._epoch_now = Epoch(
            self.updater,
            number,
            first_update=(number - 1) * self.updates_per_epoch,
            accumulation=self.settings.accumulation,
            lr=lambda update: self.settings.lr * self.schedule(update) * state.recovery.lr_factor,
            totals=state.totals,
        )
        state.totals = epoch.totals
        reset_peak_memory(self.device)
        self._clock = WorkClock(self.lock)
        self._look()
        epoch.train(self.train.epoch(number, start=epoch.totals.updates * self.settings.accumulation), self._look)
        epoch.totals.seconds += self._clock.lap()
        metrics, outputs, targets = self.validation.run(self._look)
        epoch_s = epoch.totals.seconds + self._clock.lap()
        # What follows may draw random numbers (measuring, and the study's code when it runs
        # in this process); the next epoch must not notice.
        with preserved_rng(self.device):
            self._note_skipped(epoch)
            metrics = {**epoch.totals.metrics(), **metrics, "epoch_s": epoch_s}
            train_s = max(epoch.totals.seconds, 1e-9)
            metrics["epoch_samples_per_s"] = epoch.totals.samples / train_s
            metrics["data_wait_share"] = min(1.0, epoch.totals.waited_s / train_s)
            metrics["epoch_memory_mb"] = memory_mb(self.device)
            metrics.update(device_use(self.device), **self.device_watch.take())
            if not state.measured:
                state.measured = self._measure()
            state.history.append(self.team.agree({**metrics, **state.measured}))
            state.totals = self._epoch_now = None
            improved = state.progress.see(number, state.history[-1])
            if (improved or self._last_counts) and are_kept(outputs, targets):
                self.best_outputs = (number, outputs, targets)
            self.saver.epoch(number, improved=improved)
            self._report(number)

    def _subject(self) -> Subject:
        compiled = self.team.size == 1 and self.updater.model is not self.task.model
        return Subject(self.task, self.train, self.settings, self.device, self.state.recovery.parts, compiled)

    def _measure(self) -> Metrics:
        goals = {goal.metric for goal in self.job.goals}
        wanted = ALWAYS_MEASURED | (goals & set(MEASURED))
        if self.team.size == 1:
            unasked = measure_unasked(self._subject(), wanted - goals, self.context.event)
            return {**measure(self._subject(), wanted & goals), **unasked}
        from hpo.training.team.meters import measure_team  # torch.distributed, for whom it is needed

        if self.team.rank:
            self.lock.release()  # rank 0 asks for its device, and must not wait for one of its own team
        measured = measure_team(self.team, self._subject(), self.updater, wanted)
        self.lock.take()
        return measured

    def _note_skipped(self, epoch: Epoch) -> None:
        if epoch.totals.skipped:
            self.context.event(
                "skipped_updates",
                f"fp16 gradients overflowed: {epoch.totals.skipped} updates of epoch {epoch.number} were skipped",
                epoch=epoch.number,
                skipped=epoch.totals.skipped,
            )

    def _report(self, epoch: int) -> None:
        """Report an epoch of the history, letting others measure while the answer is awaited."""
        for verdict in self.health.see(self.state.history[:epoch]):
            self.context.event("health", verdict.message, **verdict.details)
        self.lock.release()
        self._reported, self._is_void = epoch, False
        self.context.report(epoch, **self.state.history[epoch - 1])
        self.lock.take()

    # Between two updates

    def _look(self) -> None:
        """Let a measurement pass, and see whether to stop or to save."""
        if not self._is_time_to_look():
            return
        self.device_watch.sample()
        self.lock.pause_if_wanted()
        leave = from_first(self.team, self._wish_to_leave)
        if leave is not None or self.team.agree(self.saver.is_due()):
            is_saved = self._save_within()
            if leave is not None:
                raise _LeaveError(leave if is_saved else _without_checkpoint(leave))
        self._next_look = time.perf_counter() + _LOOK_EVERY_S

    def _is_time_to_look(self) -> bool:
        if self.team.size == 1:
            return time.perf_counter() >= self._next_look
        self._looks += 1  # a team must look together, so at the same updates
        return self._looks % 8 == 1

    def _wish_to_leave(self) -> StopReason | None:
        done = self._epoch_now.done if self._epoch_now else 0
        of = f"{done} of {self.updates_per_epoch} updates of epoch {self.state.epoch + 1}"
        if self.context.stop_requested:
            return StopReason(StopKind.INTERRUPTED, f"asked to stop after {of}{_GOES_ON}")
        limit = self.settings.time_limit
        return None if limit is None or self.state.elapsed_s < limit else self._time_is_up(of)

    def _time_is_up(self, of: str) -> StopReason:
        if not self.state.history:
            raise TrialFailed(
                f"The time limit of {self.settings.time_limit:g} s passed before the first epoch was done ({of}). "
                "Raise trainer.time_limit."
            )
        return StopReason(
            StopKind.TIME_LIMIT,
            f"its time limit of {self.settings.time_limit:g} s has passed; "
            f"{self.state.epoch} of {self.job.epochs} epochs are done",
        )

    def _stop_reason(self) -> StopReason | None:
        over = self.state.progress.stop_reason(self.job.epochs)
        limit = self.settings.time_limit
        if over is None and limit is not None and self.team.agree(self.state.elapsed_s >= limit):
            return self._time_is_up("in none of its updates")
        return over

    def _save_within(self) -> bool:
        """Write a checkpoint in the middle of an epoch; whether that could be done."""
        if self._epoch_now is not None:
            self._epoch_now.read()  # weights that are not finite must not be saved
            self._epoch_now.totals.seconds += self._clock.lap()
        return self.saver.now()

    # Recovery

    def _go_back(self, error: str, done: str) -> None:
        """Go on after the last good checkpoint, with the settings bent."""
        gc.collect()
        release_memory(self.device)
        self.updater.clear()
        self.device_watch.take()  # what the lost epoch used
        self._epoch_now = None
        where = self.saver.go_back(from_nan=error == NotFiniteError.__name__)
        if self.updater.parts != self.state.recovery.parts:
            self.updater.parts = self.state.recovery.parts
            self.state.measured = {}  # speed and memory were those of the larger batch
        self.context.rewind(self.state.epoch)
        self._is_void = self._is_void or self.state.epoch < self._reported
        self.context.event(
            "recovery", f"{done} {where}", cause=error, epoch=self.state.epoch, **self.state.recovery.state()
        )


def _without_checkpoint(leave: StopReason) -> StopReason:
    """The same reason, with no promise of a checkpoint that could not be written."""
    told = "; no checkpoint of it could be written, so it goes on from an earlier one"
    return StopReason(leave.kind, leave.message.replace(_GOES_ON, told))
