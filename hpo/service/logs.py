"""The use cases behind ``hpo logs``: the log of a trial, also while it grows, and what happened in a study."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import UnknownName, UserError
from hpo.runners.trial_log import FILE
from hpo.study import trial_folder
from hpo.trial import TrialState
from storage.database import Database
from storage.happenings import newest, state_of
from storage.leases import holder
from storage.records import CONFIRM, RERUN, RETRAIN, SEARCH, VALIDATE
from storage.studies import StoredStudy, Studies

EVERY_S = 0.5


@dataclass(frozen=True)
class Happening:
    """One thing that happened; ``where`` is ``study``, ``trial 3``, ``confirm 0`` and the like."""

    at: str  # ISO 8601, UTC
    where: str
    kind: str
    message: str
    details: Any


def happenings(storage: str, name: str, last: int = 50) -> list[Happening]:
    """The last things that happened in a study, the oldest first: launches, attempts and events.

    Raises:
        StorageError, UnknownName: there is no such database or study.
    """
    with Database(storage) as database:
        study = Studies(database).get(name)
        with database.read() as conn:
            found = newest(conn, study.id, last)
    return [Happening(it.at, _where(it.series, it.number), it.kind, it.message, it.details) for it in found]


def trial_log(
    storage: str,
    name: str,
    number: int,
    series: str = SEARCH,
    *,
    last: int = 50,
    follow: bool = False,
    said: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """The last lines of a trial's log; with ``follow`` then each new one until the trial has ended.

    Args:
        said: told why nothing comes, whenever that changes: the trial has not begun, nobody runs the study.

    Raises:
        StorageError, UnknownName: there is no such database, study or series.
        UserError: there is no such trial, or it has no log here.
    """
    with Database(storage) as database:
        study = Studies(database).get(name)
        if series not in (known := (SEARCH, CONFIRM, RETRAIN, VALIDATE, RERUN)):
            raise UnknownName("series", series, known)
        file = _Growing(trial_folder(Path(study.folder), series, number) / FILE)
        state = _state(database, study, series, number)
        if state is None and not follow:
            raise UserError(f"Study {name!r} has no {_where(series, number)} yet; -f waits for it.")
        yield from deque(file.new_lines(), maxlen=last)
        told = ""
        while follow and not (state and state.is_finished):
            waiting = _waiting(database, study, _where(series, number), state)
            if waiting != told:
                told = waiting
                if waiting:
                    said(waiting)
            time.sleep(EVERY_S)
            state = _state(database, study, series, number)  # before reading: its last lines were written by then
            yield from file.new_lines()
        if not file.was_there:
            raise UserError(
                f"{_where(series, number).capitalize()} of study {name!r} has no log here: there is no {file.path}. "
                "It was removed, lies on another machine, or is from before hpo kept logs."
            )


class _Growing:
    """A text file that somebody may be appending lines to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.was_there = False
        self._offset = 0

    def new_lines(self) -> list[str]:
        """The lines that have ended since the last call; all of them again when the file was begun anew.

        Raises:
            UserError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                self.was_there = True
                if file.seek(0, 2) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {self.path}: {error.strerror}.") from error
        self._offset += len(whole[0]) + len(whole[1])
        return whole[0].decode("utf-8", "replace").split("\n") if whole[1] else []


def _state(database: Database, study: StoredStudy, series: str, number: int) -> TrialState | None:
    with database.read() as conn:
        return state_of(conn, study.id, series, number)


def _waiting(database: Database, study: StoredStudy, what: str, state: TrialState | None) -> str:
    """Why no line comes at the moment; empty while the trial runs."""
    found = holder(database, study.id)
    if found is None or not found.is_alive:
        return f"Nobody runs study {study.name} at the moment; waiting for {what}."
    if state is TrialState.RUNNING:
        return ""
    return f"{what.capitalize()} {'has not begun' if state is None else 'waits to go on'}; waiting for it."


def _where(series: str, number: int | None) -> str:
    if number is None:
        return "study"
    return f"trial {number}" if series == SEARCH else f"{series} {number}"
