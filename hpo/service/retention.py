"""The use case behind ``hpo prune-artifacts``: delete what is kept of trials that nobody needs any more.

What is needed is never deleted: the best weights and the predictions of every trial on the
front, of the picked trial, of trials that were confirmed, retrained or exported and of those
runs themselves; and everything of a trial that is still to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpo import places
from hpo.errors import UserError
from hpo.mirror import MARKER
from hpo.pareto import ParetoFront
from hpo.places import Folder, Place
from hpo.reports.predictions import PARTS
from hpo.service.looking import choose_from, has_completed
from hpo.spec import StudySpec
from hpo.study.jobs import trial_name
from hpo.trial import Event, TrialRecord, TrialState
from storage import artifacts, codec
from storage.database import Database
from storage.leases import Lease
from storage.records import CONFIRM, RETRAIN, SEARCH, ArtifactRecord, Snapshot
from storage.studies import StoredStudy, Studies

Keep = Literal["front", "best", "completed", "none"]
Run = tuple[str, int]  # series and number

CHECKPOINT, PREDICTIONS = "checkpoint", "predictions"  # kinds, beside those of artifacts


@dataclass(frozen=True)
class Held:
    """A file of a run: its ``name`` at its place, its size in bytes, and whether it stays."""

    kind: str
    run: Run
    place: Place
    name: str
    size: int
    stays: bool
    is_artifact: bool = False


@dataclass(frozen=True)
class Pruning:
    """What a pruning finds, and after it which files could not be deleted, with the reasons.

    ``mirror`` is where copies of the checkpoints lie that were left alone; None where none are.
    """

    study: str
    keep: Keep
    files: tuple[Held, ...]
    mirror: str | None
    failures: tuple[str, ...] = ()
    is_done: bool = False

    @property
    def to_go(self) -> tuple[Held, ...]:
        return tuple(held for held in self.files if not held.stays)


def prune_artifacts(
    storage: str, name: str, keep: Keep, *, mirror: bool = False, agree: Callable[[Pruning], bool]
) -> Pruning:
    """Delete checkpoints, predictions, pictures and logs of a study's trials, but for those that ``keep`` names.

    Args:
        keep: whose files all stay: those of ``completed`` trials; of the ``front`` and of every
            run that anything needs; of the picked trial and its runs (``best``); ``none``. What is
            needed stays in any case.
        mirror: delete copies in the study's mirror too.
        agree: is shown what would be deleted, and says whether to do it.

    Raises:
        StorageError, UnknownName: there is no such database or study.
        StudyBusy: it is being run.
        UserError: its folder or its mirror cannot be looked into.
    """
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        with Lease(database, study.id, name):
            found = _look(studies, study, keep, mirror)
            if not found.to_go or not agree(found):
                return found
            return _delete(database, studies, study, found)


def _look(studies: Studies, study: StoredStudy, keep: Keep, mirror: bool) -> Pruning:
    snapshot = studies.snapshot(study.name, curves=False)
    runs = [(SEARCH, trial) for trial in snapshot.trials]
    runs += [(series, run) for series, others in snapshot.others.items() for run in others]
    spec = StudySpec.parse(snapshot.study.spec_yaml, study.name)
    picked = choose_from(snapshot, spec, None, ()).number if has_completed(snapshot) else None
    needed = _needed(snapshot)
    whole = _whole(runs, keep, needed, picked)
    needed |= whole
    copies = places.parse(spec.mirror) / study.name if spec.mirror else None
    searched: list[Place] = [Folder(Path(study.folder)), *([copies] if copies and mirror else [])]
    files: list[Held] = []
    for place in searched:
        try:
            if _owns(study, place):
                for series, run in runs:
                    files += _files(place, (series, run.number), needed, whole)
        except OSError as error:
            raise UserError(f"Cannot look into {place}: {error.strerror or error}. Nothing was deleted.") from error
    kept = [_artifact(artifact, whole) for artifact in snapshot.artifacts]
    return Pruning(study.name, keep, (*files, *kept), str(copies) if copies and not mirror else None)


def _needed(snapshot: Snapshot) -> set[Run]:
    """The runs whose best weights somebody needs."""
    needed = {(SEARCH, number) for number in ParetoFront.of(snapshot.trials, snapshot.study.goals).numbers}
    needed |= {(SEARCH, model.trial) for model in snapshot.models if model.trial is not None}
    for series in (CONFIRM, RETRAIN):
        for run in snapshot.others.get(series, ()):
            needed |= {(series, run.number), *([(SEARCH, run.subject)] if run.subject is not None else [])}
    return needed


def _whole(runs: Sequence[tuple[str, TrialRecord]], keep: Keep, needed: Set[Run], picked: int | None) -> set[Run]:
    """The runs of which everything stays: those still to go on, and those that ``keep`` names."""
    whole = {(series, run.number) for series, run in runs if not run.state.is_finished}
    if keep in ("front", "completed"):
        whole |= needed
    if keep == "completed":
        whole |= {(series, run.number) for series, run in runs if run.state is TrialState.COMPLETE}
    if keep != "none" and picked is not None:
        whole |= {(SEARCH, picked), *((series, run.number) for series, run in runs if run.subject == picked)}
    return whole


def _owns(study: StoredStudy, place: Place) -> bool:
    """Whether a folder is really the study's: one of the same name may have taken its place."""
    if MARKER not in place.names():
        return False
    with place.open(MARKER) as file:
        return file.read().decode() == study.record.created_at


def _files(study: Place, run: Run, needed: set[Run], whole: set[Run]) -> Iterator[Held]:
    """What a run's folder at a place holds of checkpoints and predictions; other files are nobody's business."""
    from hpo.training.checkpoints import BEST, LAST, PREVIOUS, START, epoch_of

    place = study / trial_name(*run)
    names = place.names()
    # Where there are no best weights, whatever weights there are may be needed.
    stays = run in whole or (run in needed and BEST not in names)
    for name in names:
        if name in (BEST, LAST, PREVIOUS, START) or epoch_of(name) is not None:
            yield Held(CHECKPOINT, run, place, name, _size(place, name), stays or (name == BEST and run in needed))
        elif name in PARTS.values():
            yield Held(PREDICTIONS, run, place, name, _size(place, name), run in needed)


def _size(place: Place, name: str) -> int:
    with place.open(name) as file:
        return file.seek(0, 2)


def _artifact(artifact: ArtifactRecord, whole: set[Run]) -> Held:
    run = (artifact.series, -1 if artifact.number is None else artifact.number)
    stays = artifact.number is None or run in whole
    return Held(artifact.kind, run, places.parse(artifact.place), artifact.id, artifact.bytes, stays, is_artifact=True)


def _delete(database: Database, studies: Studies, study: StoredStudy, found: Pruning) -> Pruning:
    deleted, failures = [], []
    for held in found.to_go:
        try:
            held.place.remove(held.name)
            deleted.append(held)
        except OSError as error:
            failures.append(f"{held.place / held.name}: {error.strerror or error}")
    _leave_word(study, found.keep, deleted)
    artifacts.remove(database, [held.name for held in deleted if held.is_artifact])
    if deleted:
        studies.add_event(study, _event(found.keep, deleted, failures))
    return Pruning(found.study, found.keep, found.files, found.mirror, tuple(failures), is_done=True)


def _leave_word(study: StoredStudy, keep: Keep, deleted: Sequence[Held]) -> None:
    """In each trial's folder, say what is no longer there; who looks for it reads that."""
    from hpo.training.checkpoints import note_pruned

    by_run: dict[Run, list[str]] = {}
    for held in deleted:
        if not held.is_artifact:
            by_run.setdefault(held.run, []).append(held.name)
    for run, names in by_run.items():
        folder = Path(study.folder) / trial_name(*run)
        if folder.is_dir():
            note_pruned(folder, sorted(set(names)), f"hpo prune-artifacts --keep {keep} at {codec.now()}")


def _event(keep: Keep, deleted: Sequence[Held], failures: Sequence[str]) -> Event:
    size = sum(held.size for held in deleted)
    trials: dict[str, list[int]] = {}
    for series, number in sorted({held.run for held in deleted}):
        trials.setdefault(series, []).append(number)
    told = f"--keep {keep} deleted {len(deleted)} files ({size / 2**20:.1f} MB)"
    details = {"keep": keep, "files": len(deleted), "bytes": size, "trials": trials, "failed": len(failures)}
    return Event("pruned_artifacts", told, details)
