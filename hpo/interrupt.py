"""A request to stop, from whoever hears signals or reads the lease to whatever runs at the moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpo.roles import JobSource
from storage.leases import DRAIN


class Interrupt:
    """Once somebody has asked, the job source at work and every later one starts nothing more.

    ``requested``: somebody has. ``at_once``: what runs is to stop at its next step, with a
    checkpoint; else it is left to its end. ``how``: what the launch ends as.
    """

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self.how = "done"
        self._source: JobSource | None = None

    def request(self) -> None:
        """Stop at once: a signal, or a lease that was lost."""
        self._pass_on(at_once=True, how="interrupted")

    def obey(self, wish: str) -> None:
        """What ``hpo stop`` wrote into the lease: ``drain`` or ``now``."""
        self._pass_on(at_once=wish != DRAIN, how="stopped")

    @contextmanager
    def watching(self, source: JobSource) -> Iterator[None]:
        self._source = source
        self._tell(source)
        try:
            yield
        finally:
            self._source = None

    def _pass_on(self, *, at_once: bool, how: str) -> None:
        self.how, self.at_once, self.requested = how, self.at_once or at_once, True
        if self._source is not None:
            self._tell(self._source)

    def _tell(self, source: JobSource) -> None:
        if self.at_once:
            source.request_stop()
        elif self.requested:
            source.drain()
