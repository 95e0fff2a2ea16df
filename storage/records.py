"""What the database remembers, as plain records. No SQL here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpo.trial import Goal, TrialRecord, TrialState

SEARCH = "search"  # the series of the trials a search proposes
CONFIRM = "confirm"  # the top of the front again, with fresh seeds
RETRAIN = "retrain"  # the picked trial on the full budget, several seeds
VALIDATE = "validate"  # the folds of cross-validations
RERUN = "rerun"  # a trial of the search again, with its own seed


@dataclass(frozen=True)
class StudyRecord:
    """A study as it was first launched. ``spec_yaml`` is its file, word for word."""

    name: str
    objective: str
    spec_yaml: str
    digest: str
    goals: tuple[Goal, ...]
    monitor: Goal
    data_fingerprint: str
    created_at: str  # ISO 8601, UTC
    reference_point: tuple[float, ...] | None = None  # of the hypervolume; in goal units
    constraints: tuple[str, ...] = ()  # their names, in the order of a trial's violations


@dataclass(frozen=True)
class StudySummary:
    """One line of ``hpo list``."""

    name: str
    objective: str
    goals: tuple[Goal, ...]
    created_at: str
    counts: Mapping[TrialState, int]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class LaunchRecord:
    """One launch of a study: where, when, with what, and how it ended."""

    started_at: str
    ended_at: str | None
    ended_how: str | None
    host: str
    pid: int
    runner: str
    workers: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # budget and what else may change
    environment: Mapping[str, Any] = field(default_factory=dict)  # packages, Python, OS, CPU, GPU, git
    id: int | None = None  # what its attempts call it


@dataclass(frozen=True)
class EventRecord:
    """Something that happened, to a trial (``number``) or to the study (None)."""

    at: str
    series: str
    number: int | None
    kind: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttemptRecord:
    """One stretch of work on a trial: a trial resumed twice has three.

    ``worked_until`` is where its work ends: of an attempt whose process died, or that is still
    under way, at its last report (None without any), else at its end.
    """

    number: int
    attempt: int
    worker: str | None
    started_at: str
    ended_at: str | None
    ended_how: str | None
    worked_until: str | None = None
    launch: int | None = None  # ``LaunchRecord.id``


@dataclass(frozen=True)
class ModelRecord:
    """A bundle made from a study: where it lies and what its manifest said."""

    created_at: str
    path: str
    trial: int | None
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class VersionRecord:
    """A bundle published under a model's name; nothing here ever changes.

    ``place`` is the folder of its files, at a place of ``hpo.places``; ``digest`` is that of
    ``ModelBundle``. ``forced`` is the reason given where the gates, or the rule of ``latest``, were overruled.
    """

    model: str
    number: tuple[int, int, int]  # major, minor, patch
    created_at: str
    digest: str
    place: str
    bytes: int
    files: int
    manifest: Mapping[str, Any]
    study: str | None
    trial: int | None
    published_by: str
    host: str
    forced: str | None = None
    notes: str | None = None
    id: int | None = None  # None before it is stored

    @property
    def name(self) -> str:
        """Such as ``v1.2.0``."""
        return "v" + ".".join(map(str, self.number))

    @property
    def reference(self) -> str:
        """Such as ``logo-quality@v1.2.0``."""
        return f"{self.model}@{self.name}"


@dataclass(frozen=True)
class LabelMoveRecord:
    """A label of a model that came (``before`` None), moved, or went (``after`` None); both are versions' names."""

    label: str
    before: str | None
    after: str | None
    at: str
    by: str
    reason: str | None


@dataclass(frozen=True)
class RegisteredModel:
    """A model at one moment: its versions, the lowest first, and where its labels point."""

    name: str
    versions: tuple[VersionRecord, ...]
    labels: Mapping[str, VersionRecord]

    def labels_of(self, version: VersionRecord) -> list[str]:
        return sorted(label for label, holder in self.labels.items() if holder.id == version.id)


@dataclass(frozen=True)
class ArtifactRecord:
    """A file kept of a trial, or of the study (``number`` None), at the place that holds the study's artifacts.

    ``id`` is the file's name there; ``kind`` says what it shows: ``picture``, ``log``.
    """

    id: str
    series: str
    number: int | None
    kind: str
    filename: str
    bytes: int
    sha256: str
    created_at: str
    place: str


@dataclass(frozen=True)
class Annotations:
    """What people said of a study: a note (Markdown) and tags, and the same by number of the search's trials.

    Notes are those of optuna-dashboard, whoever wrote them.
    """

    note: str = ""
    tags: tuple[str, ...] = ()
    trial_notes: Mapping[int, str] = field(default_factory=dict)
    trial_tags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """Everything known of one study at one moment, for reports: read, never written.

    ``trials`` are the search's, with their points; ``others`` those of the other series
    (confirm, retrain, validate, rerun) by series name. In ``others`` the seed differs and ``params`` hold
    the picked trial's parameters.
    """

    study: StudyRecord
    trials: tuple[TrialRecord, ...]
    others: Mapping[str, tuple[TrialRecord, ...]] = field(default_factory=dict)
    launches: tuple[LaunchRecord, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()  # at the search's trials
    other_attempts: Mapping[str, tuple[AttemptRecord, ...]] = field(default_factory=dict)  # as ``others``
    events: tuple[EventRecord, ...] = ()
    models: tuple[ModelRecord, ...] = ()
    artifacts: tuple[ArtifactRecord, ...] = ()
    annotations: Annotations = Annotations()
