"""Whole studies: creating, finding, deleting, and the snapshot that reports read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hpo.errors import StudyBusy, UnknownName, UserError
from hpo.trial import Direction, Event, Goal
from search_spaces import SearchSpace
from storage import codec, optuna_rows, reading, tables
from storage.database import Database
from storage.exchange import ours
from storage.exchange.portable import PortableStudy
from storage.records import SEARCH, EventRecord, LaunchRecord, ModelRecord, Snapshot, StudyRecord, StudySummary
from storage.trials import TrialStore


@dataclass(frozen=True)
class StoredStudy:
    """A study in the database: its record, and what a resume needs besides."""

    id: int
    record: StudyRecord
    identity: dict[str, Any]
    space: SearchSpace
    folder: str
    search_state: dict[str, Any]
    import_from: str | None = None

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def goals(self) -> tuple[Goal, ...]:
        return self.record.goals


class Studies:
    """The studies of one database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def names(self) -> list[str]:
        with self._db.read() as conn:
            return list(conn.execute(select(tables.studies.c.name).order_by(tables.studies.c.name)).scalars())

    def find(self, name: str) -> StoredStudy | None:
        with self._db.read() as conn:
            row = conn.execute(select(tables.studies).where(tables.studies.c.name == name)).first()
        return _stored(row) if row else None

    def get(self, name: str) -> StoredStudy:
        """The study called ``name``.

        Raises:
            UnknownName: there is none; the nearest name is offered.
        """
        found = self.find(name)
        if found is None:
            raise UnknownName("study", name, self.names())
        return found

    def create(
        self,
        record: StudyRecord,
        *,
        identity: Mapping[str, Any],
        space: SearchSpace,
        folder: str,
        import_from: str | None = None,
        imported: PortableStudy | None = None,
        events: Sequence[Event] = (),
    ) -> StoredStudy:
        """A new study, in Optuna's tables and in ours; it begins with ``events`` and the trials of an ``imported`` one.

        Raises:
            UserError: the database holds a plain Optuna study of that name.
            StudyBusy: another process has made the study since this one looked for it.
        """
        taken = f"Study {record.name!r} was created by another process just now; launch again to go on with it."
        with self._db.write() as conn:
            # Optuna's table first: another process that creates the study in between is then seen in ours.
            theirs = select(optuna_rows.studies).where(optuna_rows.studies.c.study_name == record.name)
            is_taken = conn.execute(theirs).first() is not None
            if conn.execute(select(tables.studies).where(tables.studies.c.name == record.name)).first():
                raise StudyBusy(taken)
            if is_taken:
                raise UserError(
                    f"{self._db.name} already holds an Optuna study called {record.name!r} that hpo did not "
                    "make. Choose another name."
                )
            try:
                study_id = optuna_rows.create_study(conn, record.name, record.goals)
                row = _row(study_id, record, identity, space)
                conn.execute(insert(tables.studies).values(**row, folder=folder, import_from=import_from))
                if imported is not None:
                    ours.add(conn, study_id, record.goals, space, imported)
                for event in events:
                    write_event(conn, study_id, event, SEARCH, None)
            except IntegrityError as error:
                # A server lets two processes look at once; the second to write learns of the first here.
                raise StudyBusy(taken) from error
        return StoredStudy(study_id, record, dict(identity), space, folder, {}, import_from)

    def delete(self, study: StoredStudy) -> None:
        """Remove every row of a study; files in its folder are the caller's business."""
        with self._db.write() as conn:
            # Ours first and by hand: a server may have been told not to enforce cascades.
            ids = select(tables.trials.c.id).where(tables.trials.c.study_id == study.id)
            for table in (tables.points, tables.attempts):
                conn.execute(delete(table).where(table.c.trial.in_(ids)))
            v = tables.versions
            conn.execute(update(v).where(v.c.study_id == study.id).values(study_id=None))
            for table in (
                tables.trials, tables.events, tables.launches, tables.leases, tables.models, tables.artifacts,
                tables.studies,
            ):  # fmt: skip
                conn.execute(delete(table).where(table.c.study_id == study.id))
            optuna_rows.delete_study(conn, study.id)

    def trials(self, study: StoredStudy, series: str = SEARCH, launch: int | None = None) -> TrialStore:
        curve = study.goals[0] if len(study.goals) == 1 else None
        return TrialStore(self._db, study.id, series, study.space, curve=curve, launch=launch)

    def update_file(self, study: StoredStudy, spec_yaml: str, import_from: str | None) -> None:
        """Keep the newest study file (same digest, say with more trials) and where it lies."""
        self._set(study, spec_yaml=spec_yaml, import_from=import_from)

    def move(self, study: StoredStudy, folder: str) -> StoredStudy:
        """The study with its trials in another folder (absolute); files are the caller's business."""
        self._set(study, folder=folder)
        return replace(study, folder=folder)

    def set_reference_point(self, study: StoredStudy, point: Sequence[float]) -> None:
        self._set(study, reference_point=codec.dump(list(point)))

    def add_launch(self, study: StoredStudy, launch: LaunchRecord) -> int:
        row = {
            "study_id": study.id, "started_at": launch.started_at, "host": launch.host, "pid": launch.pid,
            "runner": launch.runner, "workers": launch.workers, "settings": codec.dump(dict(launch.settings)),
            "environment": codec.dump(dict(launch.environment)),
        }  # fmt: skip
        adding = insert(tables.launches).values(**row)
        return self._db.transact(lambda conn: optuna_rows.inserted_id(conn.execute(adding)))

    def end_launch(self, launch: int, how: str) -> None:
        t = tables.launches
        ending = update(t).where(t.c.id == launch).values(ended_at=codec.now(), ended_how=how)
        self._db.transact(lambda conn: conn.execute(ending))

    def add_event(self, study: StoredStudy, event: Event, series: str = SEARCH, number: int | None = None) -> None:
        self._db.transact(lambda conn: write_event(conn, study.id, event, series, number))

    def events(self, study: StoredStudy, kind: str) -> list[EventRecord]:
        """The events of one kind, the oldest first."""
        with self._db.read() as conn:
            return reading.events(conn, study.id, kind)

    def add_model(self, study: StoredStudy, model: ModelRecord) -> None:
        row = {
            "study_id": study.id, "created_at": model.created_at, "path": model.path, "trial": model.trial,
            "manifest": codec.dump(dict(model.manifest)),
        }  # fmt: skip
        self._db.transact(lambda conn: conn.execute(insert(tables.models).values(**row)))

    def worked_s(self, study: StoredStudy, series: str, number: int) -> float | None:
        """Seconds of work on a trial, all its attempts, pauses between them left out; None before it ended.

        An attempt whose process died counts up to its last report.
        """
        with self._db.read() as conn:
            return reading.worked_s(conn, study.id, series, number)

    def summaries(self) -> list[StudySummary]:
        """Every study with its counts of the search's trials by state."""
        with self._db.read() as conn:
            return reading.summaries(conn)

    def snapshot(self, name: str, *, curves: bool = True) -> Snapshot:
        """Everything known of a study at this moment; without ``curves``, no trial has its points.

        Raises:
            UnknownName: there is no such study.
        """
        study = self.get(name)
        with self._db.read() as conn:
            return reading.snapshot(conn, study.id, study.record, curves=curves)

    def _set(self, study: StoredStudy, **values: Any) -> None:
        s = tables.studies
        self._db.transact(lambda conn: conn.execute(update(s).where(s.c.study_id == study.id).values(**values)))


def write_event(conn: Connection, study_id: int, event: Event, series: str = SEARCH, number: int | None = None) -> None:
    """Keep something that happened to a study, or to a trial of it, in a transaction of the caller's."""
    row = {
        "study_id": study_id, "series": series, "number": number, "at": codec.now(), "kind": event.kind,
        "message": event.message, "details": codec.dump(event.details),
    }  # fmt: skip
    conn.execute(insert(tables.events).values(**row))


def _row(study_id: int, record: StudyRecord, identity: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "name": record.name,
        "objective": record.objective,
        "spec_yaml": record.spec_yaml,
        "identity": codec.dump(dict(identity)),
        "digest": record.digest,
        "goals": codec.dump([[g.metric, g.direction] for g in record.goals]),
        "monitor": codec.dump([record.monitor.metric, record.monitor.direction]),
        "search_space": codec.dump(space.to_dict()),
        "data_fingerprint": record.data_fingerprint,
        "reference_point": None if record.reference_point is None else codec.dump(list(record.reference_point)),
        "search_state": "{}",
        "created_at": record.created_at,
    }


def _stored(row: Row[Any]) -> StoredStudy:
    metric, direction = codec.load(row.monitor)
    record = StudyRecord(
        name=row.name,
        objective=row.objective,
        spec_yaml=row.spec_yaml,
        digest=row.digest,
        goals=reading.goals(row.goals),
        monitor=Goal(metric, Direction(direction)),
        data_fingerprint=row.data_fingerprint,
        created_at=row.created_at,
        reference_point=tuple(codec.load(row.reference_point)) if row.reference_point else None,
        constraints=tuple(codec.load(row.identity).get("constraints", ())),
    )
    space = SearchSpace.from_dict(codec.load(row.search_space))
    return StoredStudy(
        row.study_id, record, codec.load(row.identity), space, row.folder, codec.load(row.search_state), row.import_from
    )
