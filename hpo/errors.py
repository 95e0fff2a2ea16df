"""Every error that hpo raises on purpose, drawn as one tree.

HpoError
├── UserError            the input is wrong: one message, exit code 2
│   ├── StudyFileError   a study file cannot be used as it stands
│   ├── SpaceError       a search space, or a point in it, breaks its rules
│   ├── UnknownName      a name nobody knows; the nearest known one is offered
│   ├── DataError        a data file is missing, broken, or of another form
│   ├── StorageError     a database cannot be reached, read or written
│   ├── StudyChanged     the study file no longer describes the stored study
│   ├── StudyBusy        another process is running this study right now
│   └── BundleError      a model bundle is incomplete, changed or unreadable
└── WorkError            the input was fine, the work was not: exit code 1
    ├── TrialFailed      one trial cannot go on; the study can
    │   └── OutOfMemory  it does not fit on its device, or into its share of it
    ├── StorageLost      the database failed while a study was running
    ├── RunnerFailed     the runner itself broke (Ray would not start, ...)
    └── ExportFailed     a format could not be made, or differs from the model
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HpoError(Exception):
    """Base of everything hpo raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the message alone, as the commands do (IPython asks for this)."""
        return [f"hpo: {self}"]


class UserError(HpoError):
    """The input is wrong; the message names the rule, the value and the way out."""


class StudyFileError(UserError):
    """A study file cannot be used as it stands."""


class SpaceError(UserError):
    """A search space, or a point in it, breaks its rules."""


class UnknownName(UserError):
    """A name nobody knows."""

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names) if names else "none"
        super().__init__(f"Unknown {what} {str(name)!r}. Known: {listed}.{hint}")


class DataError(UserError):
    """A data file is missing, broken, or of another form."""


class StorageError(UserError):
    """A database cannot be reached, read or written."""


class StudyChanged(UserError):
    """The study file no longer describes the stored study."""


class StudyBusy(UserError):
    """Another process is running this study right now."""


class BundleError(UserError):
    """A model bundle is incomplete, changed or unreadable; ``fault`` is the file and what is wrong with it."""

    def __init__(self, message: str, fault: str | None = None) -> None:
        super().__init__(message)
        self.fault = fault


class WorkError(HpoError):
    """The input was fine, the work was not."""


class TrialFailed(WorkError):
    """One trial cannot go on; the study can."""


class OutOfMemory(TrialFailed):
    """A trial does not fit on its device, or into its share of it."""


class StorageLost(WorkError):
    """The database failed while a study was running; launch it again."""


class RunnerFailed(WorkError):
    """The runner itself broke."""


class ExportFailed(WorkError):
    """A format could not be made, or differs from the model."""
