"""A study at a second place: its database there too, and what a launch finds there.

The trainer keeps each trial's checkpoints at ``<mirror>/<study>/<trial>``; this file keeps a
snapshot of a SQLite database beside them, and brings it back when the database is lost.
A place that fails is told once per cause and stops nothing.
"""

from __future__ import annotations

import errno
import sys
import tempfile
import threading
import time
from pathlib import Path

from hpo.errors import StorageError, StudyChanged, UserError
from hpo.places import Place
from hpo.plan import Plan
from hpo.trial import Event, Job, Point, TrialRecord
from storage import backup, urls
from storage.studies import StoredStudy, Studies

DATABASE = "study.db"
MARKER = ".study"  # which study the folder belongs to, as in the study's own folder

_EVERY_S = 30.0  # between snapshots while trials report
_SHARE = 0.1  # of the time at most that is spent on snapshots when trials end quickly
_WAIT_S = 60.0  # for the last one


def restore(plan: Plan, storage: str) -> str | None:
    """Bring a SQLite database that is gone back from the mirror; what was done, None when nothing was.

    Raises:
        StudyChanged: the snapshot is of another description.
        StorageError: the snapshot is damaged, or the database cannot be written.
    """
    file = urls.sqlite_file(urls.parse(storage))
    if file is None or file.exists() or plan.mirror is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        copy = _snapshot(plan, Path(scratch))
        return None if copy is None else _restore(plan, file, copy, f"{plan.mirror / DATABASE}")


def _restore(plan: Plan, file: Path, copy: Path, place: str) -> str | None:
    try:
        found = backup.find(copy, plan.name, is_copy=True)
        if found is not None and found.digest != plan.digest:
            raise StudyChanged(
                f"{plan.mirror} holds a study {plan.name!r} made from another description, so {file} was not restored "
                "from it. Give this study another name or mirror, or take the changes back."
            )
        if found is None or not backup.restore(copy, file):
            return None
    except StorageError as error:
        raise StorageError(f"{error} To begin a new study instead, remove {plan.mirror}.") from error
    done = f"The database {file} was gone; restored it from {place}, as it was at {found.changed_at}."
    say(f"hpo: {done}")
    return done


def check(plan: Plan, study: StoredStudy | None, file: Path | None) -> None:
    """Refuse to mirror a study over another one, or over a later state of itself.

    Args:
        study: as the database has it; None when it has not.
        file: the database's file; None for a server.

    Raises:
        UserError: that would happen; the ways out are named.
    """
    if plan.mirror is None:
        return
    owner = _owner(plan.mirror)
    with tempfile.TemporaryDirectory() as scratch:
        there = _change(_snapshot(plan, Path(scratch)), plan)
    if study is None:
        if file is not None and there is not None:
            raise UserError(
                f"{file} has no study {plan.name!r}, but the mirror holds one, and two databases are never merged. "
                f"To go on with it, give --storage a file that does not exist (it is restored there), or copy "
                f"{plan.mirror / DATABASE} there by hand; to begin a new study, remove {plan.mirror}."
            )
        if owner is not None:
            raise UserError(
                f"{plan.mirror} belongs to another study called {plan.name!r} (perhaps of another database). "
                "Remove it, or give the study another name or mirror."
            )
        return
    if owner and owner != study.record.created_at:
        raise UserError(
            f"{plan.mirror} belongs to another study called {plan.name!r}, created {owner}; "
            f"this one was created {study.record.created_at}. Remove it, or give the study another mirror."
        )
    if there is not None and file is not None:
        here = backup.find(file, plan.name)
        if here is not None and there > here.changed_at:
            raise UserError(
                f"The mirror knows more of study {plan.name!r} than {file}: its last change is of {there}, here of "
                f"{here.changed_at}. To go on from the mirror, move {file} away; to go on from {file}, remove "
                f"{plan.mirror / DATABASE}."
            )


class StudyMirror:
    """Keeps ``<mirror>/<study>/study.db``, a snapshot of the study's SQLite database. Listens to a study.

    A thread takes the snapshots: when a trial begins and when it ends, and half a minute
    after the last one while trials report. They take a tenth of the time at most.

    Args:
        folder: the study's at the mirror.
        file: the database's; None for a server, which is not copied.
    """

    def __init__(self, studies: Studies, study: StoredStudy, folder: Place, file: Path | None) -> None:
        self._studies, self._study, self._folder, self._file = studies, study, folder, file
        self._changed = threading.Condition(threading.RLock())
        self._due = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._asked_at = time.monotonic()
        self._failures: list[str] = []
        self._told: set[str] = set()
        self._is_open = False

    def open(self) -> None:
        """Make the folder. Where that fails, training goes on and it is tried again with each snapshot."""
        self._is_open = True
        try:
            self._folder.make(above=None if self._is_new else 0)
            self._mark()
        except OSError as error:
            self._fail(f"Cannot write to the mirror {self._folder}: {error.strerror or error}.")
        self._tell()

    def close(self) -> None:
        """Take the last snapshot, and wait for it, a minute at most; nothing if it was never opened."""
        if not self._is_open:
            return
        self._closing.set()
        self._ask()
        until = time.monotonic() + _WAIT_S
        with self._changed:
            while self._thread is not None and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._thread is not None:
                self._fail(f"The mirror {self._folder} was still behind after {_WAIT_S:g} s.")
        try:
            self._tell()
        except StorageError as error:  # the database is gone; its own error has been told, or is about to be
            say(f"hpo: {error}")

    def started(self, job: Job) -> None:
        """Take a snapshot: a trial that the copy does not know would begin again, whatever its checkpoints."""
        self._ask()

    def reported(self, number: int, point: Point) -> None:
        """Take a snapshot when the last one is old."""
        if time.monotonic() - self._asked_at >= _EVERY_S:
            self._ask()
        self._tell()

    def finished(self, record: TrialRecord) -> None:
        """Take a snapshot."""
        self._ask()
        self._tell()

    def _ask(self) -> None:
        if self._file is None:
            return
        self._asked_at = time.monotonic()
        with self._changed:
            self._due = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name=f"mirror of {self._study.name}")
                self._thread.start()

    def _work(self) -> None:
        while self._take():
            began = time.monotonic()
            try:
                self._back_up()
            except StorageError as error:
                self._fail(str(error))
            except Exception as error:  # told as an event: whatever it is, trials go on
                self._fail(f"Cannot write to the mirror {self._folder}: {getattr(error, 'strerror', None) or error}.")
            spent = time.monotonic() - began
            self._closing.wait(min(_EVERY_S, spent / _SHARE))

    def _take(self) -> bool:
        with self._changed:
            due, self._due = self._due, False
            if not due:
                self._thread = None
                self._changed.notify_all()
            return due

    def _back_up(self) -> None:
        if self._file is None:  # a server's database is safe where it is
            return
        self._folder.make()
        self._mark()
        self._folder.remove_unfinished()
        file = self._file
        self._folder.fill(DATABASE, lambda path: backup.copy(file, path))

    @property
    def _is_new(self) -> bool:
        return not self._studies.trials(self._study).records()

    def _mark(self) -> None:
        owner, made = _owner(self._folder), self._study.record.created_at
        if owner and owner != made:
            raise FileExistsError(errno.EEXIST, f"it belongs to another study, created {owner}")
        if not owner:
            self._folder.fill(MARKER, lambda path: path.write_text(made, encoding="utf-8"))

    def _fail(self, message: str) -> None:
        with self._changed:
            self._failures.append(f"{message} Trials go on; it is tried again with the next snapshot.")

    def _tell(self) -> None:
        """Pass on what the thread has met, once per cause, from the driver's own thread."""
        with self._changed:
            failures, self._failures = self._failures, []
        for message in failures:
            if message not in self._told:
                self._told.add(message)
                say(f"hpo: {message}")
                self._studies.add_event(self._study, Event("mirror_failed", message))


def say(message: str) -> None:
    """A line on standard error, above the live table where there is one."""
    print(message, file=sys.stderr, flush=True)


def _snapshot(plan: Plan, scratch: Path) -> Path | None:
    """The mirror's copy of the database, as a file; None where there is none, or no mirror to be seen."""
    try:
        if plan.mirror is not None and DATABASE in plan.mirror.names():
            return plan.mirror.take(DATABASE, scratch)
    except OSError:
        pass
    return None


def _change(copy: Path | None, plan: Plan) -> str | None:
    """When the study last changed in the mirror's copy; None where no copy can be read, which the next replaces."""
    try:
        found = None if copy is None else backup.find(copy, plan.name, is_copy=True)
    except StorageError as error:
        say(f"hpo: {error}")
        return None
    return None if found is None else found.changed_at


def _owner(folder: Place) -> str | None:
    """What the marker in a mirror's folder says; '' where there is something but no marker; None for nothing at all."""
    try:
        names = folder.names()
        if MARKER not in names:
            return "" if names else None
        with tempfile.TemporaryDirectory() as scratch:
            return folder.take(MARKER, Path(scratch)).read_text(encoding="utf-8")
    except OSError:
        return None
