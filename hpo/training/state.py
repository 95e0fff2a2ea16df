"""Everything of a running trial that a checkpoint keeps, and how it is put back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from hpo.errors import TrialFailed
from hpo.training.checkpoints import check_fits
from hpo.training.epoch import EpochTotals
from hpo.training.progress import Progress
from hpo.training.recovery import Recovery
from hpo.training.seeds import rng_state, set_rng_state
from hpo.training.settings import TrainerSettings
from hpo.training.task import Task
from hpo.training.team.alone import Team
from hpo.training.update import Updater
from hpo.trial import Job, Metrics

_JOB_FACTS = (
    "study", "series", "number", "objective", "params", "data", "seed", "data_seed", "epochs", "report", "fold",
)  # fmt: skip


def job_facts(job: Job) -> dict[str, Any]:
    """Which trial a checkpoint is of: enough to build its task again, as plain data."""
    facts = {name: getattr(job, name) for name in _JOB_FACTS}
    return {**facts, "fold": list(job.fold) if job.fold else None}


class RunState:
    """What changes while a trial trains, apart from model and optimiser, which it refers to.

    ``history`` holds one entry of metrics per finished epoch, ``totals`` what the epoch
    in progress came to so far (None between two epochs).
    """

    def __init__(
        self,
        job: Job,
        settings: TrainerSettings,
        task: Task,
        updater: Updater,
        device: torch.device,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job, self.settings, self.task, self.updater, self.device = job, settings, task, updater, device
        self.progress = Progress(job.monitor, settings.early_stopping)
        self.recovery = Recovery(settings.batch_size, settings.max_recoveries)
        self.measured: Metrics = {}
        self.history: list[Metrics] = []
        self.totals: EpochTotals | None = None
        self.rng_before: dict[str, Any] | None = None  # a validation in progress, which would begin anew
        self._now = now
        self._spent_s, self._since = 0.0, now()

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.history)

    @property
    def elapsed_s(self) -> float:
        """Seconds of this attempt and of those it goes on from, by the clock ``now``."""
        return self._spent_s + self._now() - self._since

    @elapsed_s.setter
    def elapsed_s(self, seconds: float) -> None:
        self._spent_s, self._since = seconds, self._now()

    def best_epochs(self) -> list[int]:
        """The finished epochs, the best by the monitored metric first; without those where it is NaN."""
        monitor = self.job.monitor
        values = [(entry.get(monitor.metric, float("nan")), epoch) for epoch, entry in enumerate(self.history, 1)]
        sign = 1 if monitor.is_better(0, 1) else -1
        return [epoch for _, epoch in sorted((sign * value, epoch) for value, epoch in values if value == value)]

    def capture(self) -> dict[str, Any]:
        """All of it as tensors and plain containers; every process of a team must call it."""
        team, scaler = self.team, self.updater.precision.scaler
        return {
            "epoch": self.epoch,
            "updates": self.totals.updates if self.totals else 0,
            "model": team.model_state(self.task.model),
            "optimizer": team.optimizer_state(self.task.model, self.updater.optimizer),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "rng": self.rng_before or rng_state(self.device),
            "progress": self.progress.state(),
            "recovery": self.recovery.state(),
            "measured": dict(self.measured),
            "history": [dict(metrics) for metrics in self.history],
            "totals": self.totals.state() if self.totals else None,
            "elapsed_s": self.elapsed_s,
            "settings": self.settings.model_dump(mode="json"),
            "job": job_facts(self.job),
        }

    def restore(self, state: dict[str, Any], path: str) -> None:
        """Be again what ``capture`` saw.

        Raises:
            TrialFailed: the state is of another model or optimiser; ``path`` names it.
        """
        team = self.team
        check_fits(team.model_state(self.task.model), state["model"], path)
        team.load_model(self.task.model, state["model"])
        try:
            team.load_optimizer(self.task.model, self.updater.optimizer, state["optimizer"])
        except (ValueError, KeyError) as error:
            raise TrialFailed(f"{path} was written by another optimiser: {error}. Start from the beginning.") from error
        if self.updater.precision.scaler is not None and state["scaler"]:
            self.updater.precision.scaler.load_state_dict(state["scaler"])
        self.progress.restore(state["progress"])
        self.recovery.restore(state["recovery"])
        self.measured = dict(state["measured"])
        self.history = [dict(metrics) for metrics in state["history"]]
        self.totals = EpochTotals(**state["totals"]) if state["totals"] else None
        self.elapsed_s, self.rng_before = state["elapsed_s"], None
        set_rng_state(state["rng"], self.device)

    @property
    def team(self) -> Team:
        return self.updater.team
