"""Which checkpoints a running trial writes, and which one it goes back to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hpo.errors import DataError, TrialFailed
from hpo.training.checkpoints import CheckpointFolder
from hpo.training.progress import Progress
from hpo.training.state import RunState, job_facts
from hpo.training.team.alone import from_first
from hpo.trial import TrialContext


class Saver:
    """The checkpoints of one trial. In a team every process calls it, and rank 0 alone touches files."""

    def __init__(self, state: RunState, context: TrialContext, folder: CheckpointFolder) -> None:
        self._state, self._context, self.folder = state, context, folder
        self._job, self._settings, self._team = state.job, state.settings, state.team
        self._last_counts = self._job.report == "last"  # so every new epoch gives the trial its value
        self._went_back_to = -1  # the epoch, since when none was finished
        self._saved_at = time.monotonic()

    def begin(self) -> bool:
        """Prepare the folder; whether training goes on from a checkpoint that was found there.

        Raises:
            TrialFailed: the checkpoint is of another model or optimiser.
        """
        found = from_first(self._team, lambda: self.folder.begin(resume=self._job.resume))
        if found is not None and self._is_anothers(found["job"]):
            # Left at the mirror by a trial of this number that the study's older copy does not know.
            self._context.event("other_checkpoint", f"began anew: the checkpoint found is of {found['job']['params']}")
            found = from_first(self._team, lambda: self.folder.begin(resume=False))
        if found is None:
            return False
        self._state.restore(found, f"The checkpoint in {self._context.folder}")
        epoch = self._state.epoch
        counts = self._last_counts or self._state.progress.best_epoch == epoch
        if epoch and counts and not found["updates"] and self._is_first and not self.folder.is_best(epoch):
            self._write_best(epoch, found["model"])
        return True

    def start(self) -> None:
        """Keep the state before the first update, for recovering within the first epoch."""
        captured = self._state.capture()
        if self._is_first:
            self.folder.write_start(captured)

    def is_due(self) -> bool:
        """Whether so many minutes have passed since the last checkpoint."""
        minutes = self._settings.checkpoint_minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def now(self) -> bool:
        """Write ``last.pt`` as things stand; the next report says that it is there. False: it cannot be written."""
        captured = self._state.capture()
        name = from_first(self._team, lambda: self.folder.write_last(captured))
        if name is not None:
            self._context.checkpoint_saved(name)
        self._saved_at = time.monotonic()
        return name is not None

    def epoch(self, number: int, *, improved: bool) -> None:
        """Write what a finished epoch owes. ``last.pt`` goes first: it can stand in for a lost ``best.pt``."""
        self._went_back_to = -1
        if self._team.agree(improved or self._owes(number) or self._context.stop_requested):
            self.now()
            if self._is_first:
                self.folder.keep_epoch(number, self._state.best_epochs())
        if improved or self._last_counts:
            weights = self._team.model_state(self._state.task.model)
            if self._is_first:
                self._write_best(number, weights)

    def go_back(self, *, from_nan: bool) -> str:
        """Be again what the last good checkpoint holds, its recoveries apart; says which one that is."""
        bent, elapsed_s = self._state.recovery.state(), self._state.elapsed_s
        found = from_first(self._team, self.folder.newest)
        if found is None:
            raise TrialFailed(
                f"No checkpoint can be read in {self._context.folder}, so there is nothing to go back to."
            )
        again, how = from_nan and found["epoch"] == self._went_back_to, ""
        if again:
            found, how = self._further_back(found)
        self._went_back_to = found["epoch"]
        self._state.restore(found, f"The checkpoint in {self._context.folder}")
        self._state.recovery.restore(bent)
        self._state.elapsed_s = elapsed_s  # what was in vain took its time all the same
        if again:
            self.now()  # or the next recovery would find what this one turned away from
        self._restore_last(found)
        if found["updates"]:
            return f"Went back to update {found['updates']} of epoch {found['epoch'] + 1}{how}."
        return f"Went back to the end of epoch {found['epoch']}{how}." if found["epoch"] else "Began again."

    def _further_back(self, newest: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Where to go back to when ``newest`` led to NaN before, and what is to be said of it."""
        if newest["epoch"] == 0:
            return from_first(self._team, self.folder.start) or newest, ""
        best = from_first(self._team, self._best)
        if best is None or not 0 < best["epoch"] <= newest["epoch"]:
            return _with_fresh_optimizer(newest), ", with a fresh optimiser"
        return self._at_best(newest, best), ", the best so far, with a fresh optimiser"

    def _best(self) -> dict[str, Any] | None:
        """``best.pt`` where it is the best epoch's and there is one."""
        if self._last_counts:
            return None
        try:
            return self.folder.best()
        except DataError:  # the monitored metric was never a number, or the file is damaged
            return None

    def _restore_last(self, found: Mapping[str, Any]) -> None:
        """Where the last epoch counts, let ``best.pt`` be of the one gone back to."""
        epoch = found["epoch"]
        if self._last_counts and epoch and not found["updates"] and self._is_first and not self.folder.is_best(epoch):
            self._write_best(epoch, found["model"])

    def _is_anothers(self, facts: Mapping[str, Any]) -> bool:
        """Whether a checkpoint of this trial's own name was written for another seed or other parameters."""
        mine = job_facts(self._job)
        same_name = all(facts[name] == mine[name] for name in ("study", "series", "number"))
        return same_name and any(facts[name] != mine[name] for name in ("seed", "params", "fold"))

    def _at_best(self, newest: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
        """The state at the end of the best epoch, with an optimiser that remembers nothing."""
        epoch = best["epoch"]
        progress = Progress(self._job.monitor, self._settings.early_stopping)
        for number, metrics in enumerate(newest["history"][:epoch], 1):
            progress.see(number, metrics)
        return {
            **_with_fresh_optimizer(newest), "epoch": epoch, "updates": 0, "totals": None, "model": best["model"],
            "history": newest["history"][:epoch], "progress": progress.state(),
        }  # fmt: skip

    def _owes(self, epoch: int) -> bool:
        settings, state = self._settings, self._state
        every = [settings.checkpoint_every, *([settings.keep_every] if settings.keep_every else [])]
        if any(epoch % n == 0 for n in every) or state.progress.stop_reason(self._job.epochs) is not None:
            return True
        return settings.keep_best > 1 and epoch in state.best_epochs()[: settings.keep_best]

    def _write_best(self, epoch: int, weights: Mapping[str, Any]) -> None:
        facts = {"settings": self._settings.model_dump(mode="json"), "job": job_facts(self._job)}
        self.folder.write_best(epoch, weights, self._state.history[-1], facts)

    @property
    def _is_first(self) -> bool:
        return self._team.rank == 0


def _with_fresh_optimizer(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "optimizer": {**state["optimizer"], "state": {}}}
