"""When trials fail: how to tell that it was the same failure again, and when enough is enough."""

from __future__ import annotations

import re

from hpo.trial import StopReason, TrialRecord, TrialState

_PATH = re.compile(r"[^\s'\"(]*[/\\][^\s'\",;()]*")
_NUMBER = re.compile(r"0x[0-9a-f]+|[-+]?\d[\d_]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def sameness(reason: StopReason) -> str:
    """What two failures have in common that happened the same way.

    The first line of the reason, which begins with the exception's type; paths and numbers
    (sizes, addresses, the trial's own folder) are left out.
    """
    first = reason.message.partition("\n")[0]
    return f"{reason.kind}: {_NUMBER.sub('#', _PATH.sub('', first))}"


class Streak:
    """Trials that failed the same way one after the other; so many end a launch.

    Args:
        limit: how many are enough.
        concurrency: of a deterministic study: there trial *n* looks at the trials up to
            *n - concurrency*, in number order, so that the end is the same for any number of
            workers. None: at all that have ended, in the order in which they did.
    """

    def __init__(self, limit: int, concurrency: int | None = None) -> None:
        self.limit = limit
        self._concurrency = concurrency
        self._count = 0
        self._last: StopReason | None = None
        self._ended: dict[int, TrialRecord] = {}  # not counted yet

    def finished(self, record: TrialRecord) -> None:
        """Take in how a trial ended. One that goes on later has not ended."""
        if not record.state.is_finished:
            return
        if self._concurrency is None:
            self._take(record)
        else:
            self._ended[record.number] = record

    def spent(self, number: int) -> str | None:
        """Why trial ``number`` is not to be started any more; None when it is."""
        if self._concurrency is not None:
            for ended in sorted(n for n in self._ended if n <= number - self._concurrency):
                self._take(self._ended.pop(ended))
        if self._last is None or self._count < self.limit:
            return None
        return f"the last {self._count} trials all failed the same way: {self._last.message.partition(chr(10))[0]}"

    def _take(self, record: TrialRecord) -> None:
        if record.state is not TrialState.FAIL or record.reason is None:
            self._count, self._last = 0, None
            return
        same = self._last is not None and sameness(self._last) == sameness(record.reason)
        self._count, self._last = self._count + 1 if same else 1, record.reason
