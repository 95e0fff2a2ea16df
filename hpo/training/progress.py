"""Which epoch is the best so far, and whether waiting for a better one has lasted too long.

Knows numbers only: no model, no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpo.errors import TrialFailed
from hpo.training.settings import EarlyStopping
from hpo.trial import Direction, Goal, StopKind, StopReason


class Progress:
    """The best epoch by ``monitor``, as ``hpo.trial.best_point`` would choose it, and patience.

    Any gain makes an epoch the best; only a gain of more than ``min_delta`` over the last
    one that counted ends the waiting. NaN is never a gain.
    """

    def __init__(self, monitor: Goal, stopping: EarlyStopping | None) -> None:
        self.monitor, self.stopping = monitor, stopping
        self.best_epoch = 0  # 0: none yet
        self.best_value = math.nan
        self._mark_epoch = 0  # the epoch that patience counts from
        self._mark_value = math.nan
        self._epoch = 0

    def see(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take in an epoch; whether it is the best so far.

        Raises:
            TrialFailed: the monitored metric is not among ``metrics``.
        """
        self._epoch = epoch
        if self.stopping is not None:
            self._wait(epoch, _look_up(metrics, self.stopping.metric))
        value = _look_up(metrics, self.monitor.metric)
        improved = self.monitor.is_better(value, self.best_value)
        if improved:
            self.best_epoch, self.best_value = epoch, value
        return improved

    def stop_reason(self, epochs: int) -> StopReason | None:
        """Why training is over after the last seen epoch of ``epochs``; None: it goes on."""
        if self._epoch >= epochs:
            return StopReason(StopKind.FINISHED, f"all {epochs} epochs done" if epochs > 1 else "its one epoch is done")
        if self.stopping is None or self._epoch - self._mark_epoch < self.stopping.patience:
            return None
        delta = f" by {self.stopping.min_delta:g}" if self.stopping.min_delta else ""
        since = f"epoch {self._mark_epoch} ({self._mark_value:.4g})" if self._mark_epoch else "the start"
        return StopReason(
            StopKind.EARLY,
            f"{self.stopping.metric} has not improved{delta} for {self._epoch - self._mark_epoch} epochs since {since}",
        )

    def _wait(self, epoch: int, value: float) -> None:
        if self.stopping is None:
            return
        goal = Goal(self.stopping.metric, Direction(self.stopping.direction))
        delta = self.stopping.min_delta if goal.direction is Direction.MAXIMIZE else -self.stopping.min_delta
        if goal.is_better(value, self._mark_value + delta):
            self._mark_epoch, self._mark_value = epoch, value

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "mark_epoch": self._mark_epoch,
            "mark_value": self._mark_value,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._epoch = state["epoch"]
        self.best_epoch, self.best_value = state["best_epoch"], state["best_value"]
        self._mark_epoch, self._mark_value = state["mark_epoch"], state["mark_value"]


def _look_up(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise TrialFailed(
            f"The metric that decides the best epoch must be reported by the task; {name!r} is not. "
            f"Reported: {', '.join(sorted(metrics))}."
        )
    return metrics[name]
