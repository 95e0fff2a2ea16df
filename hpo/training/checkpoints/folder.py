"""Checkpoints: written so that a crash at any moment leaves a whole one behind.

In a trial's folder, ``last.pt`` holds everything an exact resume needs, ``last.prev.pt`` is
the one before it, ``epoch-00012.pt`` an earlier one that is kept, and ``best.pt`` holds the
weights of the epoch that gives the trial its value: the best, or where the study says
``report: last`` the last. Every byte is covered by the CRC-32 that ``torch.save`` stores in
its zip, so damage is seen before loading.

Only tensors and plain containers go in; everything loads with ``weights_only=True``.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hpo import durable
from hpo.errors import DataError, TrialFailed
from hpo.places import Place
from hpo.training.checkpoints.file import FORMAT, State, on_cpu, progress, read, save
from hpo.training.checkpoints.mirror import Mirror
from hpo.training.settings import TrainerSettings

LAST = "last.pt"
PREVIOUS = "last.prev.pt"
BEST = "best.pt"
START = "start.pt"

_KEPT = re.compile(r"epoch-(\d+)\.pt")
_FETCHED = ".fetched"  # what was copied here from a mirror that is no folder
_MIRROR_WAIT_S = 60.0
_MIRROR_CLEAR_S = 10.0
_MIRROR_LEAVE_S = 10.0


class CheckpointFolder:
    """A trial's checkpoints: all that the trainer sees of its folder and of the mirror.

    A file that cannot be written is told as an event, once per cause, and training goes on.

    Args:
        settings: ``keep_best`` and ``keep_every`` count here.
        event: takes a kind and a message, as ``TrialContext.event`` does.
        mirror: a second place for the same files.
    """

    LAST = LAST

    def __init__(
        self, folder: Path, settings: TrainerSettings, event: Callable[..., None], mirror: Place | None = None
    ) -> None:
        self._folder = folder
        self._keep_best = settings.keep_best if settings.keep_best > 1 else 0  # best.pt is always there
        self._keep_every = settings.keep_every
        self._event = event
        self._mirror = None if mirror is None else Mirror(folder, mirror, {LAST: PREVIOUS})
        self._told: set[str] = set()
        self._best: State | None = None  # when it could not be written
        self._start: State | None = None  # likewise
        self._ended_epoch: int | None = None  # of last.pt, when it was written at the end of an epoch

    def begin(self, *, resume: bool) -> State | None:
        """Make the folder, and give the newest intact checkpoint of an earlier attempt, on the CPU.

        It is looked for here and in the mirror; what has come furthest wins. With
        ``resume`` false, and where nothing is found, an earlier attempt is forgotten.

        Raises:
            TrialFailed: the folder cannot be made, or an earlier checkpoint not be removed.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrialFailed(f"Cannot make the trial's folder {self._folder}: {error}. Choose another.") from error
        durable.remove_unfinished(self._folder)
        found = self._find([*self._here(), *self._there()]) if resume else None
        if found is None:
            self._forget()
        elif self._mirror is not None and found[1].parent == self._folder:
            for path in (self._folder / LAST, self._folder / BEST, *kept_epochs(self._folder).values()):
                self._mirror.copy(path.name)
        shutil.rmtree(self._folder / _FETCHED, ignore_errors=True)
        self._tell()
        return found[0] if found else None

    def write_last(self, state: Mapping[str, Any]) -> str | None:
        """Make ``state`` the newest checkpoint, durable on return; its name, or None when it cannot be written.

        The one before stays as ``last.prev.pt``.
        """
        if not self._write(LAST, state, keep=PREVIOUS):
            return None
        self._ended_epoch = None if state.get("updates") else state["epoch"]
        if state["epoch"]:  # one within the first epoch may lead to NaN again
            self._start = None
            (self._folder / START).unlink(missing_ok=True)
        if self._best is not None and self._write(BEST, self._best):  # there is room again
            self._best = None
        return LAST

    def write_best(
        self, epoch: int, model: Mapping[str, Tensor], metrics: Mapping[str, float], facts: Mapping[str, Any]
    ) -> None:
        """Make these the weights that give the trial its value, durable on return.

        Where they cannot be written they stay in memory, and are written with a later ``last.pt``.
        """
        state = {"epoch": epoch, "model": model, "metrics": dict(metrics), "facts": dict(facts)}
        self._best = None
        if not self._write(BEST, state):
            self._best = {"format": FORMAT, **state, "model": {k: v.detach().cpu().clone() for k, v in model.items()}}

    def keep_epoch(self, epoch: int, best_epochs: Sequence[int]) -> None:
        """Keep ``last.pt``, just written at the end of ``epoch``, where the settings say so; clean up what they do not.

        ``best_epochs``: all finished epochs, the best first.
        """
        wanted = set(best_epochs[: self._keep_best])

        def is_kept(number: int) -> bool:
            return number in wanted or (self._keep_every is not None and number % self._keep_every == 0)

        try:
            if is_kept(epoch) and self._ended_epoch == epoch:
                durable.link(self._folder / LAST, self._folder / kept_name(epoch))
                self._to_mirror(kept_name(epoch))
            for number, path in kept_epochs(self._folder).items():
                if not is_kept(number):
                    path.unlink(missing_ok=True)
                    if self._mirror is not None:
                        self._mirror.delete(path.name)
        except OSError as error:
            self._cannot_write(kept_name(epoch), error)

    def best(self) -> State:
        """What ``write_best`` was last given, from the folder, memory or the mirror.

        Raises:
            DataError: it is nowhere, or damaged.
        """
        if self._best is not None:
            return self._best
        return find_best(self._folder, self._mirror.target if self._mirror else None)

    def is_best(self, epoch: int) -> bool:
        """Whether ``best`` would give the weights of this epoch."""
        try:
            return bool(self.best()["epoch"] == epoch)
        except DataError:
            return False

    def newest(self) -> State | None:
        """The newest intact checkpoint of this attempt: of ``write_last``, else of ``write_start``."""
        if found := self._find(self._here()):
            return found[0]
        if (start := self.start()) is not None:  # before the mirror, where an earlier attempt's may not be cleared yet
            return start
        found = self._find(self._there())
        return found[0] if found else None

    def write_start(self, state: Mapping[str, Any]) -> None:
        """Keep the state before the first update, to go back to until an epoch is in ``last.pt``; not crash-safe."""
        self._start = None
        if not self._write(START, state, sync=False):
            self._start = {"format": FORMAT, **on_cpu(dict(state))}

    def start(self) -> State | None:
        """What ``write_start`` was given; None once there is a checkpoint of an epoch, or when it is damaged."""
        if self._start is not None:
            return on_cpu(self._start)
        found = self._find([self._folder / START], adopt=False)
        return found[0] if found else None

    def leave(self) -> None:
        """Give the mirror a moment: the trial goes on later, perhaps where only the mirror is seen."""
        if self._mirror is not None:
            self._mirror.wait(_MIRROR_LEAVE_S)

    def finish(self) -> None:
        """Wait for the mirror, a minute at most: the trial has ended and nothing more will be written."""
        if self._best is not None and self._write(BEST, self._best):
            self._best = None
        if self._mirror is not None:
            for path in self._folder.glob("*.npz"):  # its predictions
                self._mirror.copy(path.name)
            self._mirror.wait(_MIRROR_WAIT_S)
            self._tell()

    # Looking for the newest

    def _here(self) -> list[Path]:
        return _checkpoints(self._folder)

    def _there(self) -> list[Path]:
        if self._mirror is None:
            return []
        place, there = self._mirror.target, self._folder / _FETCHED
        try:
            taken = [place.take(name, there) for name in place.names() if name.endswith(".pt")]
        except OSError as error:
            reason = error.strerror or error
            self._event("mirror_failed", f"Cannot look for checkpoints in {place}: {reason}.")
            return []
        return _checkpoints(taken[0].parent) if taken else []

    def _find(self, paths: Sequence[Path], adopt: bool = True) -> tuple[State, Path] | None:
        """The intact checkpoint that has come furthest, and where it was; broken ones are told."""
        for path in self._by_progress(paths):
            try:
                state = read(path)
            except DataError as error:
                self._event("broken_checkpoint", str(error))
                continue
            if adopt:
                self._adopt(path)
                self._ended_epoch = None if state.get("updates") else state["epoch"]
            return state, path
        return None

    def _by_progress(self, paths: Sequence[Path]) -> Iterator[Path]:
        found: list[tuple[tuple[int, int, int], Path]] = []
        for path in paths:
            try:
                if path.exists():
                    found.append((progress(path), path))
            except (DataError, OSError) as error:
                self._event("broken_checkpoint", str(error))
        return (path for _, path in sorted(found, key=lambda entry: entry[0], reverse=True))

    def _adopt(self, path: Path) -> None:
        """Make what was found ``last.pt``, so that the next write pushes no broken file over the good one."""
        last = self._folder / LAST
        try:
            if path == self._folder / PREVIOUS:
                path.replace(last)
            elif path.parent != self._folder:
                place = self._mirror.target if self._mirror else path.parent
                told = f"Went on from {path.name} of {place}: nothing in {self._folder} is as new."
                self._event("checkpoint_from_mirror", told)
                for lost in (BEST, *(kept.name for kept in kept_epochs(path.parent).values())):
                    if (path.parent / lost).exists() and not (self._folder / lost).exists():
                        durable.copy(path.parent / lost, self._folder / lost)
                durable.copy(path, last)
            elif path != last:
                durable.link(path, last)
        except OSError as error:
            self._cannot_write(LAST, error)

    # Writing

    def _write(self, name: str, state: Mapping[str, Any], keep: str | None = None, sync: bool = True) -> bool:
        self._tell()
        path = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
            keep_as = self._folder / keep if keep else None
            durable.write(path, lambda temporary: save(state, temporary), keep=keep_as, sync=sync)
        except OSError as error:
            self._cannot_write(name, error)
            return False
        if sync:
            self._to_mirror(name)
        return True

    def _cannot_write(self, name: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason not in self._told:
            self._told.add(reason)
            self._event(
                "checkpoint_failed",
                f"Cannot write {self._folder / name}: {reason}. Training goes on, and what was saved before is kept.",
            )

    def _forget(self) -> None:
        try:
            for path in (*_checkpoints(self._folder), self._folder / BEST, self._folder / START):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise TrialFailed(
                f"Cannot remove an earlier attempt's checkpoint: {error}. Make {self._folder} writable, or remove it."
            ) from error
        if self._mirror is not None:
            self._mirror.clear()
            self._mirror.wait(_MIRROR_CLEAR_S)

    def _to_mirror(self, name: str) -> None:
        if self._mirror is not None:
            self._mirror.copy(name)

    def _tell(self) -> None:
        """Pass on what the mirror's thread has met: events are the training thread's business."""
        for message in self._mirror.news() if self._mirror else ():
            self._event("mirror_failed", message)


def find_best(folder: Path, mirror: Place | None = None) -> State:
    """What ``best.pt`` of a trial's folder holds, else that of its mirror: epoch, model, metrics, facts.

    Raises:
        DataError: it is in neither, or damaged in both.
    """
    try:
        return read(folder / BEST)
    except DataError as error:
        if mirror is None:
            raise
        try:
            with tempfile.TemporaryDirectory() as scratch:
                return read(mirror.take(BEST, Path(scratch)))
        except (DataError, OSError) as second:
            raise DataError(f"{error} Nor is it in the mirror: {second}") from error


def kept_name(epoch: int) -> str:
    """The file that an epoch's checkpoint is kept in."""
    return f"epoch-{epoch:05d}.pt"


def epoch_of(name: str) -> int | None:
    """The epoch whose checkpoint is kept in a file of this name; None for any other name."""
    found = _KEPT.fullmatch(name)
    return int(found[1]) if found else None


def kept_epochs(folder: Path) -> dict[int, Path]:
    """The checkpoints that are kept in a folder, by their epoch."""
    named = ((epoch_of(path.name), path) for path in folder.glob("epoch-*.pt"))
    return dict(sorted((epoch, path) for epoch, path in named if epoch is not None))


def load_weights(path: Path | str) -> dict[str, Tensor]:
    """The model's weights out of a checkpoint, on the CPU, ready for ``load_state_dict``.

    Raises:
        DataError: there is no such file, it is damaged, or of another format.
    """
    weights: dict[str, Tensor] = read(path)["model"]
    return weights


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


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` fill a file that then takes the place of ``path`` whole and durable, or not at all.

    Raises:
        TrialFailed: it cannot be written; what ``path`` named before is untouched.
    """
    try:
        durable.write(path, write)
    except OSError as error:
        raise TrialFailed(f"Cannot write {path}: {error}. Free space or choose another folder, then resume.") from error


def _checkpoints(folder: Path) -> list[Path]:
    """Whatever an attempt could go on from, in the order in which it is looked at."""
    return [folder / LAST, folder / PREVIOUS, *reversed(kept_epochs(folder).values())]
