"""The study that a plan describes: created, or held against what is stored of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpo import earlier
from hpo.errors import StudyChanged, StudyFileError, UserError
from hpo.mirror import MARKER, say
from hpo.plan import Plan
from hpo.trial import Event, TrialRecord
from objectives import registry
from storage import codec
from storage.exchange.portable import PortableStudy
from storage.records import StudyRecord
from storage.studies import StoredStudy, Studies


def create_or_check(studies: Studies, plan: Plan, text: str, runs: Path, *, restored: bool = False) -> StoredStudy:
    """The stored study of a plan; a new one gets its rows and its folder under ``runs``.

    A folder that is gone is made again: at its place, or of a study that was ``restored``
    from its mirror under ``runs``, because that may have happened on another machine.

    Raises:
        StudyChanged: the stored study was made from another description.
        StudyFileError: the file takes back trials or points that were run already.
        UserError: the folder cannot be made, or belongs to another study.
    """
    study = studies.find(plan.name)
    if study is None:
        return create(studies, plan, text, runs)
    if study.record.digest != plan.digest:
        lines = "\n  ".join(plan.differences(study.identity))
        raise StudyChanged(
            f"Study {plan.name!r} was made from another description, so nothing was run:\n  {lines}\n"
            "Give the file another name to begin a new study, or take the changes back."
        )
    records = studies.trials(study).records()
    trials = plan.spec.budget.trials
    if trials is not None and trials < len(records):
        raise StudyFileError(
            f"budget.trials is {trials}, but study {plan.name!r} has {len(records)} trials already; it can only grow."
        )
    _check_enqueued(replace(plan, warm_points=earlier.kept_points(studies, study)), records)
    return _with_folder(studies, study, plan, runs if restored else None)


def owns_folder(study: StoredStudy) -> bool:
    """Whether the study's folder is really its own."""
    try:
        return (Path(study.folder) / MARKER).read_text(encoding="utf-8") == study.record.created_at
    except OSError:
        return False


def create(studies: Studies, plan: Plan, text: str, runs: Path, imported: PortableStudy | None = None) -> StoredStudy:
    """The new study of a plan, with its folder under ``runs``, and the trials of an ``imported`` one to begin with.

    Raises:
        UserError: as ``create_or_check``, or there is such a study.
        DataError: the data cannot be split into its parts; nothing is written then.
    """
    warm = earlier.warm_points(studies, plan)
    record = StudyRecord(
        name=plan.name,
        objective=plan.spec.objective,
        spec_yaml=text,
        digest=plan.digest,
        goals=plan.goals,
        monitor=plan.monitor,
        data_fingerprint=plan.data_fingerprint,
        created_at=codec.now(),
        constraints=tuple(map(str, plan.constraints)),
    )
    parts = registry.find(plan.spec.objective, plan.import_from).split_ids(plan.data, plan.spec.seed)
    folder = (runs / plan.name).resolve()
    _make_folder(folder)
    events = [] if warm is None else [earlier.event(plan, warm)]
    study = studies.create(
        record, identity=plan.identity(), space=plan.space, folder=str(folder), import_from=plan.import_from,
        imported=imported, events=[*events, *_split(plan, parts), *_notes(plan)],
    )  # fmt: skip
    if warm is not None and plan.spec.warm_start is not None:
        say(f"hpo: Warm start from study {plan.spec.warm_start.study!r}: {warm}.")
    for told in _notes(plan):
        say(f"hpo: {told.message}")
    (folder / MARKER).write_text(record.created_at, encoding="utf-8")
    return study


def _with_folder(studies: Studies, study: StoredStudy, plan: Plan, runs: Path | None) -> StoredStudy:
    """The study with a folder that exists; ``runs`` is where one that is gone or another study's goes."""
    lost = Path(study.folder)
    if lost.exists() and (runs is None or owns_folder(study)):
        return study
    folder = lost if runs is None else (runs / plan.name).resolve()
    _make_folder(folder)
    (folder / MARKER).write_text(study.record.created_at, encoding="utf-8")
    source = f"the mirror {plan.mirror}, or begin again" if plan.mirror else "no checkpoint: they begin again"
    done = f"The study's folder {lost} was gone; trials that were under way go on in {folder} from {source}."
    say(f"hpo: {done}")
    if folder != lost:
        study = studies.move(study, str(folder))
    studies.add_event(study, Event("folder_made_again", done))
    return study


def _make_folder(folder: Path) -> None:
    try:
        if folder.exists() and any(path.name != MARKER for path in folder.iterdir()):
            raise UserError(
                f"{folder} holds another study's trials (perhaps of another database). Remove it, or give --runs."
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise UserError(f"Cannot make the study's folder {folder}: {error.strerror}. Give --runs another.") from error


def _check_enqueued(plan: Plan, records: Sequence[TrialRecord]) -> None:
    """Points that were run keep their place; new ones may only be appended."""
    used = [record for record in records if record.enqueued]
    for i, record in enumerate(used[len(plan.warm_points) :]):
        point = plan.spec.enqueue[i] if i < len(plan.spec.enqueue) else None
        if point is None or any(record.params.get(name) != value for name, value in point.items()):
            raise StudyFileError(
                f"enqueue[{i}] was run as trial {record.number} with {record.params}; the file now has {point}. "
                "Leave the points that were run as they are and append new ones."
            )


def _split(plan: Plan, parts: Mapping[str, Sequence[str]]) -> Iterator[Event]:
    """Which records, by part, the study trains on, validates on and will test on."""
    if parts:
        sizes = ", ".join(f"{len(ids)} {part}" for part, ids in parts.items())
        yield Event("split", f"data seed {plan.spec.seed}: {sizes}", {part: list(ids) for part, ids in parts.items()})


def _notes(plan: Plan) -> Iterator[Event]:
    """What the check of the data found worth telling, and what it left out."""
    facts = plan.data_facts
    if facts is not None and facts.notes:
        yield Event("data", " ".join(facts.notes), {"counts": dict(facts.counts), "left_out": dict(facts.left_out)})
