"""A server that goes away in the middle of a study is waited for, for ``HPO_STORAGE_WAIT`` seconds.

A commit whose acknowledgement got lost with the connection may have been made. So the
transactions of a session are numbered, and each writes its number into the lease's row:
afterwards the row says whether it was made, and a driver that has lost its lease cannot
write at all.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hpo.errors import UserError

_WAIT_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
# Deadlocks, lock timeouts and failed serialisation: the server has undone everything, so it is done again.
_CONFLICTS = {"40001", "40P01", "1205", "1213"}
_MOST_CONFLICTS = 10


class Keeper(Protocol):
    """Who holds the lease under which a session writes."""

    def next_write(self) -> int:
        """The number of a new transaction."""

    def stamp(self, conn: Connection, number: int) -> None:
        """Write the number into the lease's row; raises StorageLost when the lease is another's."""

    def has_stamp(self, conn: Connection, number: int) -> bool:
        """Whether the transaction of that number was made."""


class Waiting:
    """One transaction's patience, of ``longest_s`` seconds: says when it begins to wait and when that is over."""

    def __init__(self, name: str, longest_s: float) -> None:
        self._name = name
        self._longest_s = longest_s
        self._began: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._conflicts = 0

    def after(self, error: SQLAlchemyError, reason: str) -> None:
        """Pause before another try; raises ``error`` when that would not help, or has been done long enough."""
        if is_conflict(error):
            self._conflicts += 1
            if self._conflicts > _MOST_CONFLICTS:
                raise error
            time.sleep(0.01 * self._conflicts)
            return
        if not is_away(error):
            raise error
        if self._began is None:
            self._began = time.monotonic()
            if self._longest_s:
                most = f"{self._longest_s:g} s at most"
                _say(f"The database {self._name} does not answer ({reason}); waiting for it, {most}.")
        if time.monotonic() - self._began >= self._longest_s:
            raise error
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def over(self) -> None:
        """The transaction was made."""
        if self._began is not None:
            _say(f"The database {self._name} is back after {time.monotonic() - self._began:.0f} s; going on.")


def longest_wait_s() -> float:
    """How long a server is waited for.

    Raises:
        UserError: ``HPO_STORAGE_WAIT`` is no number of seconds.
    """
    text = os.environ.get("HPO_STORAGE_WAIT", "")
    try:
        seconds = float(text) if text else _WAIT_S
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"HPO_STORAGE_WAIT must be a number of seconds, 0 or more; got {text!r}.")
    return seconds


def is_away(error: SQLAlchemyError) -> bool:
    """Whether the connection to a server was lost, or could not be made."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    # An error before any statement is one of connecting: the server is starting up, or shutting down.
    return error.statement is None and type(error.orig).__module__.partition(".")[0] != "sqlite3"


def is_conflict(error: SQLAlchemyError) -> bool:
    """Whether the server gave up one of two transactions that were in each other's way."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    code = getattr(error.orig, "sqlstate", None) or (error.orig.args[0] if error.orig.args else None)
    return str(code) in _CONFLICTS


def _say(message: str) -> None:
    print(f"hpo: {message}", file=sys.stderr, flush=True)
