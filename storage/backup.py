"""Consistent copies of a SQLite database: taken while a study runs, and put back when the file is lost.

Copies are made by SQLite's own online backup (sqlite.org/backup.html), which sees one
moment of the database and holds up no writer. A copy is one file in rollback mode, so that
it can be read where WAL cannot be used. Servers have their own means and are left to them.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from hpo import durable
from hpo.errors import StorageError

# Bytes 18 and 19 of the header are 2 in WAL mode, else 1 (sqlite.org/fileformat2.html, 1.3.2).
_MODE_AT, _ROLLBACK = 18, b"\x01\x01"

_FIXED = "immutable=1"  # a file that nobody changes is read without locks

_LAST_CHANGE = """
SELECT max(at) FROM (
    SELECT s.created_at AS at FROM hpo_studies s WHERE s.name = :name
    UNION ALL
    SELECT max(l.started_at, coalesce(l.ended_at, '')) FROM hpo_launches l
        JOIN hpo_studies s USING (study_id) WHERE s.name = :name
    UNION ALL
    SELECT max(t.started_at, coalesce(t.finished_at, '')) FROM hpo_trials t
        JOIN hpo_studies s USING (study_id) WHERE s.name = :name
    UNION ALL
    SELECT p.at FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial
        JOIN hpo_studies s USING (study_id) WHERE s.name = :name
)
"""


@dataclass(frozen=True)
class Found:
    """A study in a database file: its digest, and when the newest thing was written about it."""

    digest: str
    changed_at: str


def back_up(file: Path, copy: Path) -> None:
    """Put a consistent copy of the database ``file`` in the place of ``copy``, durable on return.

    Raises:
        StorageError: one of them cannot be read or written; an earlier copy is untouched.
    """
    try:
        durable.write(copy, lambda temporary: _copy(file, temporary))
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"Cannot copy the database {file} to {copy}: {_reason(error)}.") from error


def beside(file: Path) -> Path:
    """A new file next to ``file`` for a copy of it, named after this second (UTC)."""
    return file.with_name(f"{file.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}{file.suffix}")


def copy(file: Path, target: Path) -> None:
    """Make a consistent copy of the database ``file`` as a new file ``target``, not yet durable.

    Raises:
        StorageError: one of them cannot be read or written.
    """
    try:
        _copy(file, target)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"Cannot copy the database {file}: {_reason(error)}.") from error


def restore(copy: Path, file: Path) -> bool:
    """Put an intact copy in the place of a database that is gone; False when there is one after all.

    Raises:
        StorageError: the copy is damaged, or ``file`` cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with durable.locked(file.parent):  # two launches at once restore once
            if file.exists():
                return False
            for name in ("-wal", "-shm"):  # of the lost file: they would be taken for this one's
                file.with_name(file.name + name).unlink(missing_ok=True)
            durable.write(file, lambda temporary: _checked_copy(copy, temporary))
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"Cannot restore the database {file} from {copy}: {_reason(error)}.") from error
    return True


def find(file: Path, study: str, *, is_copy: bool = False) -> Found | None:
    """What a database knows of a study; None without such a study.

    Args:
        is_copy: whether ``file`` is one that ``back_up`` made, so that nobody writes to it.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        with closing(_open(file, *([_FIXED] if is_copy else []))) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'hpo_studies'").fetchone() is None:
                return None
            row = connection.execute("SELECT digest FROM hpo_studies WHERE name = ?", (study,)).fetchone()
            if row is None:
                return None
            return Found(row[0], connection.execute(_LAST_CHANGE, {"name": study}).fetchone()[0])
    except sqlite3.Error as error:
        raise StorageError(f"Cannot read the database {file}: {_reason(error)}.") from error


def _copy(file: Path, temporary: Path) -> None:
    with closing(_open(file)) as source, _new(temporary) as target:
        source.backup(target)
    with temporary.open("r+b") as header:
        header.seek(_MODE_AT)
        header.write(_ROLLBACK)


def _checked_copy(copy: Path, temporary: Path) -> None:
    shutil.copyfile(copy, temporary)
    with closing(_open(temporary, _FIXED)) as connection:
        problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
        if problems != ["ok"]:
            raise sqlite3.DatabaseError(f"it is damaged ({'; '.join(problems)})")


def _open(file: Path, *options: str) -> sqlite3.Connection:
    """A connection that only reads, and makes no file."""
    return sqlite3.connect(f"file:{quote(str(file))}?{'&'.join(('mode=ro', *options))}", uri=True, timeout=30)


@contextmanager
def _new(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a new file, which nobody else knows: no locks, which some mounted drives lack, no journal."""
    with closing(sqlite3.connect(f"file:{quote(str(file))}?nolock=1", uri=True)) as connection:
        connection.execute("PRAGMA journal_mode = OFF").close()
        connection.execute("PRAGMA synchronous = OFF").close()  # it is synced as a whole
        yield connection


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
