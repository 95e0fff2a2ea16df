"""One driver owns a study at a time: a row with a heartbeat, taken over when its owner died.

On the owner's own machine a dead process is seen at once (its pid and start time); from
another machine a lease counts as dead when its heartbeat is ``STALE_S`` old. Heartbeats
and their age are told by the database's clock, because two machines' clocks differ.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from hpo.errors import HpoError, StorageLost, StudyBusy
from storage import tables
from storage.database import Database, now
from storage.waiting import is_conflict

HEARTBEAT_S = 5.0
STALE_S = 60.0
LOOK_S = 1.0
DRAIN, NOW = "drain", "now"  # what hpo stop asks for: let running trials end, or stop them with a checkpoint


@dataclass(frozen=True)
class Holder:
    """Who holds the lease of a study, and what was asked of it."""

    owner: str  # of this very lease
    host: str
    pid: int
    heartbeat_at: str  # ISO 8601, UTC, by the database's clock
    is_alive: bool
    wish: str | None

    @property
    def where(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    """The right to run a study, held from ``__enter__`` to ``__exit__``.

    It can be lost in between: a machine that sleeps longer than ``STALE_S`` is taken for
    dead, and another driver may go on with the study. From then on ``lost`` is true, and
    whoever holds this must write nothing more.

    Args:
        on_lost: called once, from another thread, when the lease turns out to be lost.
        on_wish: called from that thread with each new wish of ``hpo stop``.

    Raises (on entering):
        StudyBusy: a live process holds it; the message says where.
    """

    def __init__(
        self,
        database: Database,
        study_id: int,
        study: str,
        on_lost: Callable[[], None] = lambda: None,
        on_wish: Callable[[str], None] = lambda wish: None,
    ) -> None:
        self.lost = False
        self._on_lost = on_lost
        self._on_wish = on_wish
        self._db = database
        self._study_id = study_id
        self._study = study
        self._owner = str(uuid.uuid4())
        self._writes = 0
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name=f"lease of {study}")

    def __enter__(self) -> Lease:
        t = tables.leases
        with self._db.write() as conn:
            row = conn.execute(select(t).where(t.c.study_id == self._study_id).with_for_update()).first()
            moment = now(conn)
            if row is not None and _is_alive(row, moment):
                raise StudyBusy(
                    f"Study {self._study!r} is being run right now by process {row.pid} on {row.host} "
                    f"(last sign of life {row.heartbeat_at}). Wait for it, or stop it: hpo stop {self._study}"
                )
            if row is not None:  # that very row: another process may have put its own in its place meanwhile
                conn.execute(delete(t).where(t.c.study_id == self._study_id, t.c.owner == row.owner))
            mine = {
                "study_id": self._study_id, "owner": self._owner, "host": socket.gethostname(), "pid": os.getpid(),
                "process_started": _process_started(os.getpid()), "heartbeat_at": moment,
            }  # fmt: skip
            try:
                conn.execute(insert(t).values(**mine))
            except DBAPIError as error:
                if not (isinstance(error, IntegrityError) or is_conflict(error)):
                    raise
                raise StudyBusy(
                    f"Study {self._study!r} was taken by another process at this very moment. Wait for it."
                ) from error
        self._thread.start()
        self._db.keeper = self
        return self

    def __exit__(self, *_: object) -> None:
        self._db.keeper = None
        self._released.set()
        self._thread.join()
        with self._db.write() as conn:
            conn.execute(delete(tables.leases).where(self._mine))

    def next_write(self) -> int:
        """The number of this session's next transaction, from 1."""
        self._writes += 1
        return self._writes

    def stamp(self, conn: Connection, number: int) -> None:
        """Note a transaction in the lease's row.

        Raises:
            StorageLost: the row is another process's by now, so nothing may be written.
        """
        if not conn.execute(update(tables.leases).where(self._mine).values(writes=number)).rowcount:
            raise StorageLost(f"Another process took study {self._study!r} over; this one has stopped.")

    def has_stamp(self, conn: Connection, number: int) -> bool:
        """Whether the transaction of that number is the last one noted."""
        return bool(conn.execute(select(tables.leases.c.writes).where(self._mine)).scalar() == number)

    def _watch(self) -> None:
        beaten, wish = time.monotonic(), None
        while not self._released.wait(LOOK_S):
            try:
                if time.monotonic() - beaten >= HEARTBEAT_S:
                    self._beat()
                    beaten = time.monotonic()
                found = self._look()
            except HpoError:
                # The driver's own writes meet the same trouble and speak of it; a missed
                # beat only matters after STALE_S, so the next one tries again.
                continue
            if found is None:
                self.lost = True
                self._on_lost()
                return
            if found.stop is not None and found.stop != wish:
                wish = found.stop
                self._on_wish(wish)

    def _beat(self) -> None:
        with self._db.write() as conn:
            conn.execute(update(tables.leases).where(self._mine).values(heartbeat_at=now(conn)))

    def _look(self) -> Row[Any] | None:
        """What is asked of us; None when the lease is no longer ours."""
        with self._db.read() as conn:
            return conn.execute(select(tables.leases.c.stop).where(self._mine)).first()

    @property
    def _mine(self) -> ColumnElement[bool]:
        t = tables.leases
        return (t.c.study_id == self._study_id) & (t.c.owner == self._owner)


def holder(database: Database, study_id: int) -> Holder | None:
    """Who holds the lease of a study, alive or dead; None when nobody does."""
    with database.read() as conn:
        return read_holder(conn, study_id)


def ask_to_stop(database: Database, study_id: int, wish: str) -> Holder | None:
    """Write ``DRAIN`` or ``NOW`` into the lease of a live owner; ``NOW`` is not taken back by a later ``DRAIN``.

    Returns who held the lease, with the wish that holds from now on; None when nobody does.
    """
    t = tables.leases
    with database.write() as conn:
        found = read_holder(conn, study_id)
        if found is None or not found.is_alive or found.wish == NOW:
            return found
        conn.execute(update(t).where(t.c.study_id == study_id, t.c.owner == found.owner).values(stop=wish))
        return replace(found, wish=wish)


def read_holder(conn: Connection, study_id: int) -> Holder | None:
    """``holder``, in a transaction that reads other things too."""
    row = conn.execute(select(tables.leases).where(tables.leases.c.study_id == study_id)).first()
    if row is None:
        return None
    return Holder(row.owner, row.host, row.pid, row.heartbeat_at, _is_alive(row, now(conn)), row.stop)


def _is_alive(row: Row[Any], moment: str) -> bool:
    if row.host == socket.gethostname():
        return _process_started(row.pid) == row.process_started
    age = datetime.fromisoformat(moment) - datetime.fromisoformat(row.heartbeat_at)
    return age.total_seconds() < STALE_S


def _process_started(pid: int) -> str:
    """The start time of a process, which tells it from a later one of the same pid; '' if gone.

    On Linux from /proc (ticks since boot, with the boot's id); elsewhere only "alive".
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")  # a program may bear any name
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "alive"
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else f"{boot}-{fields[19]}"
