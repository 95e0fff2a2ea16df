"""Work done beside a study, in a thread: what it costs no trial waits for, and no trial fails with it.

Whoever keeps or tells elsewhere what a study does (artifacts, trackers) listens to it through an ``Aside``.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable

from hpo.errors import StorageError
from hpo.trial import Event
from storage.studies import StoredStudy, Studies

_WAIT_S = 60.0  # for what is still to be done when a launch ends


class Aside:
    """Calls made one after the other in a thread of their own.

    What a call raises becomes an event of the study and a line on standard error, once per
    message, told from the thread that calls ``tell``: only the driver's own writes to the database.

    Args:
        kind: of the events, such as ``tracking_failed``.
        what: names the work in messages, such as "MLflow".
    """

    def __init__(self, studies: Studies, study: StoredStudy, kind: str, what: str) -> None:
        self._studies, self._study, self._kind, self._what = studies, study, kind, what
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._failures: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told: set[str] = set()
        self._thread: threading.Thread | None = None

    def do(self, call: Callable[[], object]) -> None:
        """Have ``call`` made after all those before it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name=f"{self._what} of {self._study.name}")
            self._thread.start()
        self._calls.put(call)

    def tell(self) -> None:
        """Pass on what the thread has met."""
        while not self._failures.empty():
            message = self._failures.get()
            if message not in self._told:
                self._told.add(message)
                print(f"hpo: {message}", file=sys.stderr, flush=True)
                self._studies.add_event(self._study, Event(self._kind, message))

    def close(self) -> None:
        """Wait for what is still to be done, a minute at most, and pass on what it met."""
        if self._thread is None:
            return
        self._calls.put(None)
        self._thread.join(_WAIT_S)
        if self._thread.is_alive():
            self._failures.put(f"{self._what} was still behind after {_WAIT_S:g} s; the rest is left out.")
        self._thread = None
        with contextlib.suppress(StorageError):  # the database is gone; its own error says more
            self.tell()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:  # whatever it is, trials go on
                self._failures.put(f"{self._what}: {getattr(error, 'strerror', None) or error}. Trials go on.")
