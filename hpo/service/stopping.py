"""The use case behind ``hpo stop``: asking the launch of a study, wherever it runs, to come to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hpo.errors import UserError
from storage.database import Database
from storage.leases import DRAIN, NOW, Holder, ask_to_stop, holder
from storage.studies import Studies

LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Stopping:
    """Who was asked to stop a study, for what, and whether that launch has ended since."""

    study: str
    where: str  # process and host
    wish: str  # drain, now
    has_ended: bool


def stop(
    storage: str,
    name: str,
    *,
    now: bool = False,
    wait: bool = False,
    said: Callable[[Stopping], None] = lambda it: None,
) -> Stopping:
    """Ask who runs a study to start nothing more, and to let what runs come to its end.

    The launch sees it within about a second, on any host that reaches the database.

    Args:
        now: what runs is to stop at its next step, with a checkpoint. Once asked for, it holds.
        wait: return when that launch has ended.
        said: called once it has been asked, before any waiting.

    Raises:
        StorageError, UnknownName: there is no such database or study.
        UserError: nobody runs it; or its process has died, also while being waited for.
    """
    with Database(storage) as database:
        study = Studies(database).get(name)
        asked = ask_to_stop(database, study.id, NOW if now else DRAIN)
        if asked is None:
            raise UserError(f"Study {name!r} is not being run, so there is nothing to stop.")
        if not asked.is_alive:
            raise _dead(name, asked)
        stopping = Stopping(name, asked.where, asked.wish or DRAIN, has_ended=False)
        said(stopping)
        while wait:
            found = holder(database, study.id)
            if found is None or found.owner != asked.owner:
                return Stopping(name, asked.where, stopping.wish, has_ended=True)
            if not found.is_alive:
                raise _dead(name, found)
            time.sleep(LOOK_EVERY_S)
        return stopping


def _dead(name: str, found: Holder) -> UserError:
    return UserError(
        f"Study {name!r} is not being run any more: {found.where} died without a word "
        f"(last sign of life {found.heartbeat_at}). hpo launch goes on with it; nothing has to be stopped."
    )
