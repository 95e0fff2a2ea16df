"""Checkpoints: written so that a crash at any moment leaves a whole one behind.

Three files in a trial's folder. ``last.pt`` holds everything an exact resume needs,
``last.prev.pt`` is the one before it, ``best.pt`` holds the weights of the epoch that
gives the trial its value: the best, or where the study says ``report: last`` the last.
A file is written beside its place, fsynced, and renamed into it. Every byte is covered
by the CRC-32 that ``torch.save`` stores in its zip, so damage is seen before loading.

Only tensors and plain containers go in; everything loads with ``weights_only=True``.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo.errors import DataError, TrialFailed

LAST = "last.pt"
PREVIOUS = "last.prev.pt"
BEST = "best.pt"
FORMAT = 1


def write_last(folder: Path, state: Mapping[str, Any]) -> None:
    """Make ``state`` the newest checkpoint, durable on return; the one before stays as ``last.prev.pt``.

    Raises:
        TrialFailed: the file cannot be written (disk full, folder gone).
    """
    _write(folder / LAST, {"format": FORMAT, **state}, keep=folder / PREVIOUS)


def write_best(folder: Path, epoch: int, model: Mapping[str, Tensor], metrics: Mapping[str, float]) -> None:
    """Make these the weights that give the trial its value, durable on return.

    Raises:
        TrialFailed: the file cannot be written.
    """
    _write(folder / BEST, {"format": FORMAT, "epoch": epoch, "model": model, "metrics": dict(metrics)})


def read_newest(folder: Path, broken: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest intact checkpoint, on the CPU; None when there is none at all.

    ``broken`` is told, in a sentence, about each file that had to be passed over. What is
    found is ``last.pt`` afterwards, so that the next write does not push a broken file
    over the good one.
    """
    for name in (LAST, PREVIOUS):
        path = folder / name
        if path.exists():
            try:
                state = read(path)
            except DataError as error:
                broken(str(error))
                continue
            if name != LAST:
                path.replace(folder / LAST)
            return state
    return None


def read(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Raises:
        DataError: there is no such file, it is damaged, or of another format.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged is not None:
            raise DataError(f"{path} is damaged: {damaged!r} in it fails its checksum. Use another checkpoint.")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"There is no checkpoint {path}.") from error
    except DataError:
        raise
    except Exception as error:  # zipfile and torch raise a dozen types on damaged files
        raise DataError(f"{path} is no intact checkpoint ({error}). Use another one.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise DataError(f"{path} must be a checkpoint of format {FORMAT}, not {found!r}.")
    return state


def load_weights(path: Path | str) -> dict[str, Tensor]:
    """The model's weights out of ``best.pt`` or ``last.pt``, on the CPU, ready for ``load_state_dict``.

    Raises:
        DataError: there is no such file, it is damaged, or of another format.
    """
    weights: dict[str, Tensor] = read(path)["model"]
    return weights


def remove_checkpoints(folder: Path) -> None:
    """Forget an earlier attempt's checkpoints, and unfinished files of a killed one."""
    for name in (LAST, PREVIOUS, BEST):
        (folder / name).unlink(missing_ok=True)
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process left that died while writing."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def check_fits(mine: Mapping[str, Any], stored: Mapping[str, Any], path: str) -> None:
    """Whether weights ``stored`` in ``path`` belong to the model whose state is ``mine``.

    Raises:
        TrialFailed: keys or shapes differ; the first few are named.
    """
    missing, unknown = sorted(mine.keys() - stored.keys()), sorted(stored.keys() - mine.keys())
    shapes = [
        f"{key} {tuple(stored[key].shape)} for {tuple(value.shape)}"
        for key, value in mine.items()
        if key in stored and isinstance(value, Tensor) and stored[key].shape != value.shape
    ]
    faults = [
        f"{what} {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
        for what, keys in (("it lacks", missing), ("it has the unknown", unknown), ("it has", shapes))
        if keys
    ]
    if faults:
        raise TrialFailed(
            f"{path} is a checkpoint of another model: {'; '.join(faults)}. "
            "Start this trial from the beginning, or use the folder of the model it belongs to."
        )


def write_atomically(path: Path, write: Callable[[Path], object], keep: Path | None = None) -> None:
    """Have ``write`` fill a file that then takes the place of ``path`` whole and durable, or not at all.

    ``keep``: where the file that ``path`` named until now goes.

    Raises:
        TrialFailed: it cannot be written; what ``path`` named before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        _sync(temporary)
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise TrialFailed(f"Cannot write {path}: {error}. Free space or choose another folder, then resume.") from error


def _write(path: Path, state: Mapping[str, Any], keep: Path | None = None) -> None:
    write_atomically(path, lambda temporary: torch.save(dict(state), temporary), keep)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
