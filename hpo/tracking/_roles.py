"""What a tracker is: options out of the study file, and runs that are begun, told and ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from hpo.trial import Job, Point, TrialRecord
from storage.records import VersionRecord
from storage.studies import StoredStudy


class TrackerOptions(BaseModel):
    """What a study file may say of a tracker. Their form is checked wherever the file is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def check_here(self) -> None:
        """Hold them against this machine, which only a launch needs.

        Raises:
            UserError: something that they name is not here.
        """

    def hide(self, message: str) -> str:
        """``message`` without what is secret of them."""
        return message


class Run(Protocol):
    """One trial, as a tracker has it. ``told`` are the steps that it knows."""

    told: set[int]

    def rewind(self, step: int) -> None:
        """What was told of ``step`` and later ones is void; they come again."""

    def tell(self, points: Sequence[Point]) -> None:
        """Take in steps, each above the one before."""

    def end(self, record: TrialRecord) -> None:
        """Take in how the trial ended. One that is only interrupted is begun again some time."""


class Tracker(Protocol):
    """A tracker at work. One thread makes all calls; whatever they raise, trials go on."""

    def begin(self, job: Job) -> Run:
        """The run of a trial: the one that an earlier attempt left, or a new one."""

    def close(self) -> None:
        """End what is open."""


class TrackerModule(Protocol):
    """What each module in this folder offers.

    ``PACKAGE`` is what it imports; the extra of the tracker's own name installs it. One whose library
    keeps models defines ``register`` too (``Registers``).
    """

    TITLE: str
    PACKAGE: str
    Options: type[TrackerOptions]

    def Tracker(self, options: TrackerOptions, study: StoredStudy) -> Tracker: ...  # noqa: N802 (a class)


class Registers(Protocol):
    """A tracker that keeps published models beside runs."""

    def register(
        self, options: TrackerOptions, version: VersionRecord, labels: Sequence[str], gone: Sequence[str]
    ) -> None:
        """Let the version stand there, once whatever happens, with these labels on it, and without those ``gone``."""
