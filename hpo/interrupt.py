"""A request to stop, from whoever hears signals (the CLI) to whatever runs at the moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpo.roles import JobSource


class Interrupt:
    """Once requested, the job source at work and every later one stops at its next step."""

    def __init__(self) -> None:
        self.requested = False
        self._source: JobSource | None = None

    def request(self) -> None:
        self.requested = True
        if self._source is not None:
            self._source.request_stop()

    @contextmanager
    def watching(self, source: JobSource) -> Iterator[None]:
        self._source = source
        if self.requested:
            source.request_stop()
        try:
            yield
        finally:
            self._source = None
