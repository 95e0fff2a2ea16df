"""Taking up another trial's checkpoint: what it holds, and how a new trial begins with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hpo import durable
from hpo.errors import DataError, TrialFailed
from hpo.training.checkpoints import BEST, FORMAT, LAST, kept_name, read, why_pruned
from hpo.training.progress import Progress
from hpo.training.settings import EarlyStopping
from hpo.trial import Goal

_RESUME_NEEDS = ("optimizer", "rng", "progress", "history")


def read_facts(path: Path) -> dict[str, Any]:
    """A checkpoint's content with the facts of its trial under ``job`` and ``settings``.

    Raises:
        DataError: the file is missing, damaged, or says nothing of its trial.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a checkpoint in it, such as {path / LAST}.")
    if not path.exists() and (why := why_pruned(path)) is not None:
        raise DataError(f"{path} is no longer there: {why}.")
    state = read(path)
    state = {**state, **state.get("facts", {})}  # where best.pt has them
    if "job" not in state or "settings" not in state:
        raise DataError(f"{path} does not say which trial it is of: a version of hpo wrote it that kept no such facts.")
    return state


def read_resumable(path: Path) -> dict[str, Any]:
    """A checkpoint that training can go on from.

    Raises:
        DataError: as ``read_facts``, or the file holds weights alone.
    """
    state = read_facts(path)
    missing = [part for part in _RESUME_NEEDS if part not in state]
    if missing:
        raise DataError(
            f"{path} holds weights without what training needs to go on ({', '.join(missing)}). "
            f"Give {LAST} or an epoch's checkpoint (epoch-00012.pt) of the same trial."
        )
    return state


def metrics_of(state: Mapping[str, Any]) -> dict[str, float]:
    """What was measured at the checkpoint's epoch; empty before the first."""
    if "metrics" in state:
        return dict(state["metrics"])
    return dict(state["history"][-1]) if state.get("history") else {}


def check_monitored(state: Mapping[str, Any], source: Path, monitor: Goal, stopping: EarlyStopping | None) -> None:
    """Whether a new trial can judge the epochs behind ``state`` by what it monitors.

    Raises:
        DataError: they do not have the metric.
    """
    _replayed(state["history"], monitor, stopping, source)


def place(
    state: Mapping[str, Any], source: Path, folder: Path, *, monitor: Goal, stopping: EarlyStopping | None, report: str
) -> str | None:
    """Make ``state``, read from ``source``, the newest checkpoint in the folder of a new trial.

    The best epoch so far is judged anew by ``monitor`` and ``stopping``, and its weights
    come along from beside ``source``. Where they lie there no more, the epochs before the
    checkpoint's do not count; the returned sentence says so. None when nothing is lost.

    Raises:
        DataError: as ``check_monitored``.
        TrialFailed: the folder cannot be written to.
    """
    history = [dict(metrics) for metrics in state["history"]]
    progress, lost = _replayed(history, monitor, stopping, source), None
    if report == "best" and progress.best_epoch not in (0, len(history)):
        best = _best_beside(source, progress.best_epoch, history)
        if best is None:
            lost = (
                f"the weights of the best epoch so far, {progress.best_epoch}, do not lie beside {source.name}: "
                f"the epochs before {len(history)} do not count"
            )
            history = [*({} for _ in history[:-1]), history[-1]]
            progress = _replayed(history, monitor, stopping, source)
        else:
            _save(folder / BEST, best)
    _save(folder / LAST, {**state, "history": history, "progress": progress.state(), "elapsed_s": 0.0})
    return lost


def _replayed(
    history: Sequence[Mapping[str, float]], monitor: Goal, stopping: EarlyStopping | None, source: Path
) -> Progress:
    progress = Progress(monitor, stopping)
    try:
        for epoch, metrics in enumerate(history, 1):
            if metrics:
                progress.see(epoch, metrics)
    except TrialFailed as error:
        raise DataError(f"{source} cannot be gone on from: {error}") from None
    return progress


def _best_beside(source: Path, epoch: int, history: list[dict[str, float]]) -> dict[str, Any] | None:
    """What ``best.pt`` of that epoch holds, from a file beside ``source`` that has its weights."""
    for name in (BEST, kept_name(epoch)):
        try:
            found = read_facts(source.with_name(name))
        except DataError:
            continue
        if found["epoch"] == epoch and not found.get("updates"):
            facts = {"settings": found["settings"], "job": found["job"]}
            weights = {"epoch": epoch, "model": found["model"], "metrics": history[epoch - 1]}
            return {"format": FORMAT, **weights, "facts": facts}
    return None


def _save(path: Path, state: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, lambda temporary: torch.save(dict(state), temporary))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise TrialFailed(f"Cannot write {path}: {error}. Free space or choose another folder, then resume.") from error
