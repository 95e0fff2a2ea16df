"""Files kept of a study's trials: what they are and where they lie. The files themselves are the caller's business.

Every change is made in our table and in Optuna's in one transaction, so that Optuna's tools
(``optuna.artifacts.get_all_artifact_meta``, optuna-dashboard) list what we do. Optuna has the
search's trials alone; artifacts of other series stand there with the study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, delete, insert, select

from storage import optuna_rows, tables
from storage.database import Database
from storage.records import SEARCH, ArtifactRecord

T = TypeVar("T")

_AT_ONCE = 500  # names in one statement; SQLite takes 32,766


def add(database: Database, study_id: int, artifacts: Sequence[ArtifactRecord]) -> None:
    """Keep what is known of new artifacts."""
    rows = [{"study_id": study_id, **vars(artifact)} for artifact in artifacts]

    def write(conn: Connection) -> None:
        conn.execute(insert(tables.artifacts), rows)
        trial_ids = _trial_ids(conn, study_id, [a.number for a in artifacts if a.series == SEARCH])
        for artifact in artifacts:
            trial_id = trial_ids.get(artifact.number) if artifact.series == SEARCH else None
            optuna_rows.add_artifact(conn, study_id, trial_id, artifact.id, artifact.filename)

    if rows:
        database.transact(write)


def of_study(conn: Connection, study_id: int) -> tuple[ArtifactRecord, ...]:
    """A study's artifacts, the oldest first."""
    t = tables.artifacts
    query = select(t).where(t.c.study_id == study_id).order_by(t.c.created_at, t.c.id)
    return tuple(map(_record, conn.execute(query)))


def find(database: Database, artifact_id: str) -> ArtifactRecord | None:
    """An artifact of any study; None when there is no such."""
    t = tables.artifacts
    with database.read() as conn:
        row = conn.execute(select(t).where(t.c.id == artifact_id)).first()
    return _record(row) if row else None


def remove(database: Database, artifact_ids: Sequence[str]) -> None:
    """Forget artifacts; unknown ones are passed over."""

    def write(conn: Connection) -> None:
        for some in _batches(artifact_ids):
            conn.execute(delete(tables.artifacts).where(tables.artifacts.c.id.in_(some)))
            optuna_rows.remove_artifacts(conn, some)

    if artifact_ids:
        database.transact(write)


def _trial_ids(conn: Connection, study_id: int, numbers: Sequence[int | None]) -> dict[int | None, int]:
    t = tables.trials
    of_search = select(t.c.number, t.c.trial_id).where(t.c.study_id == study_id, t.c.series == SEARCH)
    rows = [row for some in _batches(numbers) for row in conn.execute(of_search.where(t.c.number.in_(some)))]
    return {row.number: row.trial_id for row in rows}


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[i : i + _AT_ONCE] for i in range(0, len(items), _AT_ONCE))


def _record(row: Row[Any]) -> ArtifactRecord:
    return ArtifactRecord(
        row.id, row.series, row.number, row.kind, row.filename, row.bytes, row.sha256, row.created_at, row.place
    )
