"""Published versions of models and the labels that point at them. The files themselves are the caller's business.

A label is moved by comparing and swapping: it changes only while it still points at what
this process saw, so two that move it at once both find a true history. Where another
process was quicker, the transaction is done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from hpo.errors import StorageError, UnknownName
from hpo.trial import Event
from storage import codec, optuna_rows, tables
from storage.database import Database, now
from storage.records import LabelMoveRecord, RegisteredModel, VersionRecord
from storage.studies import write_event
from storage.waiting import is_conflict

T = TypeVar("T")

_TRIES, _PAUSE_S = 20, 0.02


@dataclass(frozen=True)
class LabelMove:
    """A label that is to point at a version; with ``seen`` only while it points at the version of that id.

    ``seen`` is ``NOWHERE`` for a label that must not be there yet.
    """

    label: str
    reason: str | None = None
    seen: int | None = None


NOWHERE = 0  # no version has this id


class VersionTaken(Exception):
    """The number is another publisher's, or the same bundle stands there already: ``holder``."""

    def __init__(self, holder: VersionRecord) -> None:
        super().__init__(holder.reference)
        self.holder = holder


class LabelMoved(Exception):
    """A label no longer points at what was seen."""


class Registry:
    """The models of one database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def names(self) -> list[str]:
        """Every model that has a version, sorted."""
        with self._db.read() as conn:
            return sorted(conn.execute(select(tables.versions.c.model).distinct()).scalars())

    def find(self, model: str) -> RegisteredModel | None:
        """A model with its versions and labels; None where it has no version."""
        with self._db.read() as conn:
            # Labels first: a version that is published in between then lacks its label, never a label its version.
            t = tables.labels
            labels = conn.execute(select(t.c.label, t.c.version).where(t.c.model == model)).all()
            versions = _versions(conn, model)
        by_id = {version.id: version for version in versions}
        return RegisteredModel(model, versions, {label: by_id[id_] for label, id_ in labels}) if versions else None

    def get(self, model: str) -> RegisteredModel:
        """The model of that name.

        Raises:
            UnknownName: it has no version.
        """
        found = self.find(model)
        if found is None:
            raise UnknownName("model", model, self.names())
        return found

    def moves(self, model: str) -> list[LabelMoveRecord]:
        """What became of a model's labels, the oldest first."""
        t = tables.label_moves
        with self._db.read() as conn:
            rows = conn.execute(select(t).where(t.c.model == model).order_by(t.c.id)).all()
            names = {version.id: version.name for version in _versions(conn, model)}
        return [
            LabelMoveRecord(
                row.label, names.get(row.from_version), names.get(row.to_version), row.at, row.moved_by, row.reason
            )
            for row in rows
        ]

    def publish(self, version: VersionRecord, moves: Sequence[LabelMove]) -> VersionRecord:
        """Store a version and move labels to it, in one transaction; the study it came from is told, where it is here.

        Raises:
            VersionTaken: its number or its bundle stands there already.
            LabelMoved: a label was not where a move saw it.
        """

        def write(conn: Connection) -> VersionRecord:
            for other in _versions(conn, version.model):
                if other.number == version.number or other.digest == version.digest:
                    raise VersionTaken(other)
            stored = replace(version, created_at=now(conn))
            study_id = _study_id(conn, stored)
            added = conn.execute(insert(tables.versions).values(**_row(stored), study_id=study_id))
            stored = replace(stored, id=optuna_rows.inserted_id(added))
            for move in moves:
                _move(conn, stored.model, move, stored.id, stored.published_by)
            if study_id is not None:
                _tell_study(conn, study_id, stored)
            return stored

        return self._settled(write)

    def move(self, model: str, move: LabelMove, to: VersionRecord, by: str) -> None:
        """Have a label point at a version.

        Raises:
            LabelMoved: it was not where ``move`` saw it.
        """
        self._settled(lambda conn: _move(conn, model, move, to.id, by))

    def remove_label(self, model: str, move: LabelMove, by: str) -> None:
        """Take a label away; as ``move``."""
        self._settled(lambda conn: _move(conn, model, move, None, by))

    def _settled(self, work: Callable[[Connection], T]) -> T:
        for tries in range(_TRIES):
            try:
                with self._db.write() as conn:
                    try:
                        return work(conn)
                    except DBAPIError as error:
                        if isinstance(error, IntegrityError) or is_conflict(error):
                            raise _AnotherWasQuicker from error
                        raise
            except _AnotherWasQuicker:
                time.sleep(_PAUSE_S * tries)
        raise StorageError(f"Others keep writing to the models in {self._db.name}. Run the same command again.")


class _AnotherWasQuicker(Exception):
    """What was read in this transaction has changed since; nothing of it is kept."""


def _move(conn: Connection, model: str, move: LabelMove, to: int | None, by: str) -> None:
    t = tables.labels
    mine = (t.c.model == model, t.c.label == move.label)
    before = conn.execute(select(t.c.version).where(*mine)).scalar()
    if move.seen is not None and (before or NOWHERE) != move.seen:
        raise LabelMoved(move.label)
    if before == to:
        return
    if before is None:
        conn.execute(insert(t).values(model=model, label=move.label, version=to))
    else:
        held = (*mine, t.c.version == before)
        change = delete(t).where(*held) if to is None else update(t).where(*held).values(version=to)
        if conn.execute(change).rowcount != 1:
            raise _AnotherWasQuicker
    conn.execute(
        insert(tables.label_moves).values(
            model=model, label=move.label, from_version=before, to_version=to, at=now(conn), moved_by=by,
            reason=move.reason,
        )
    )  # fmt: skip


def _study_id(conn: Connection, version: VersionRecord) -> int | None:
    """The study a version came from, where this database holds that very one."""
    s = tables.studies
    same = (s.c.name == version.study, s.c.digest == version.manifest.get("origin", {}).get("digest"))
    found = conn.execute(select(s.c.study_id).where(*same)).scalar()
    return None if found is None else int(found)


def _tell_study(conn: Connection, study_id: int, version: VersionRecord) -> None:
    details = {"model": version.model, "version": version.name, "digest": version.digest, "trial": version.trial}
    message = f"published as {version.reference} by {version.published_by}"
    write_event(conn, study_id, Event("published", message, details))


def _versions(conn: Connection, model: str) -> tuple[VersionRecord, ...]:
    t = tables.versions
    query = select(t).where(t.c.model == model).order_by(t.c.major, t.c.minor, t.c.patch)
    return tuple(map(_record, conn.execute(query)))


def _row(version: VersionRecord) -> dict[str, Any]:
    row = {name: value for name, value in vars(version).items() if name not in ("id", "number", "manifest")}
    major, minor, patch = version.number
    return {**row, "major": major, "minor": minor, "patch": patch, "manifest": codec.dump(dict(version.manifest))}


def _record(row: Row[Any]) -> VersionRecord:
    return VersionRecord(
        model=row.model, number=(row.major, row.minor, row.patch), created_at=row.created_at, digest=row.digest,
        place=row.place, bytes=row.bytes, files=row.files, manifest=codec.load(row.manifest), study=row.study,
        trial=row.trial, published_by=row.published_by, host=row.host, forced=row.forced, notes=row.notes, id=row.id,
    )  # fmt: skip
