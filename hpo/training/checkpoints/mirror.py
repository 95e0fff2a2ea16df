"""A trial's checkpoints at a second place, a mounted drive or a bucket of S3, copied behind training's back.

A thread copies the newest version of each file, so a slow place slows nothing down. What
fails is kept in mind and tried again with the next file; training never stops for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from hpo.places import Place


class _Task(Enum):
    COPY = "copy"
    DELETE = "delete"
    CLEAR = "clear"  # delete what an earlier attempt left


_EVERYTHING = ""  # the name that CLEAR stands under

# A stopped trial's last copies may still be under way when its next attempt begins.
_one_at_a_time = threading.Lock()


class Mirror:
    """Keeps files of ``folder`` at ``target`` too. Apart from ``wait``, every call returns at once.

    Args:
        target: made when needed, and its parent too; what lies above must be there, or a
            drive that is not mounted would be taken for one.
        previous: for some names, the name that the copy of until now goes on under.
    """

    def __init__(self, folder: Path, target: Place, previous: Mapping[str, str]) -> None:
        self._folder, self.target, self._previous = folder, target, previous
        self._changed = threading.Condition()
        self._wanted: dict[str, _Task] = {}
        self._failed: dict[str, _Task] = {}
        self._thread: threading.Thread | None = None
        self._causes: dict[str, str] = {}  # of each kind of failure, what there is to tell
        self._told: set[str] = set()

    def copy(self, name: str) -> None:
        """Have the newest version of a file copied."""
        self._want(name, _Task.COPY)

    def delete(self, name: str) -> None:
        """Have a copy deleted."""
        self._want(name, _Task.DELETE)

    def clear(self) -> None:
        """Have all checkpoints deleted there, before anything else is copied."""
        with self._changed:
            self._wanted, self._failed = {}, {}
        self._want(_EVERYTHING, _Task.CLEAR)

    def wait(self, timeout_s: float) -> bool:
        """Try again what failed, and wait until nothing is left to do; whether all of it succeeded."""
        until = time.monotonic() + timeout_s
        with self._changed:
            self._start()
            while self._thread is not None and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._thread is not None:
                self._causes.setdefault("slow", f"{self.target} was still behind after {timeout_s:g} s")
            return self._thread is None and not self._failed

    def news(self) -> list[str]:
        """What has gone wrong, in a sentence per cause; each cause is told once."""
        with self._changed:
            new = [message for cause, message in self._causes.items() if cause not in self._told]
            self._told.update(self._causes)
            return new

    def _want(self, name: str, task: _Task) -> None:
        with self._changed:
            self._wanted.pop(name, None)
            self._wanted[name] = task
            self._start()

    def _start(self) -> None:
        self._wanted = {**self._failed, **self._wanted}
        self._failed = {}
        if self._wanted and self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name=f"mirror {self.target}")
            self._thread.start()

    def _work(self) -> None:
        while tasks := self._take():
            for name, task in tasks.items():
                try:
                    with _one_at_a_time:
                        self._do(name, task)
                except Exception as error:  # told as an event: whatever it is, training goes on
                    self._note(name, task, error)
                    if task is _Task.CLEAR:  # nothing may be put beside what should have gone
                        with self._changed:
                            self._failed.update(tasks)
                        break

    def _take(self) -> dict[str, _Task]:
        with self._changed:
            tasks, self._wanted = self._wanted, {}
            if _EVERYTHING in self._failed:  # it comes first, and is tried again with the next file
                self._failed.update(tasks)
                tasks = {}
            if not tasks:
                self._thread = None
                self._changed.notify_all()
            return tasks

    def _do(self, name: str, task: _Task) -> None:
        self.target.make(above=1)
        if task is _Task.CLEAR:
            for found in self.target.names():
                if found.endswith(".pt"):
                    self.target.remove(found)
            self.target.remove_unfinished()
        elif task is _Task.DELETE:
            self.target.remove(name)
        elif (self._folder / name).exists():  # else it has been deleted since
            self.target.put(self._folder / name, name, keep=self._previous.get(name))

    def _note(self, name: str, task: _Task, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"Cannot {task.value} {name or 'old checkpoints'} {'to' if task is _Task.COPY else 'in'} {self.target}"
        with self._changed:
            if name not in self._wanted:
                self._failed[name] = task
            self._causes.setdefault(
                reason, f"{what}: {reason}. Training goes on; it is tried again with the next checkpoint."
            )
