"""Notes and tags that people give to a study or to a trial of its search.

Notes are optuna-dashboard's own (``optuna_dashboard._note``): Markdown in pieces, among the
study's system attributes whether they are of the study or of a trial, with a version that
grows. Tags are the user attribute ``tags``, a list of words, which the dashboard shows too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select

from hpo.errors import UserError
from storage import optuna_rows, tables
from storage.database import Database
from storage.records import SEARCH, Annotations

_TAGS = "tags"
_PIECE = 2045  # characters of a note in one attribute, as the dashboard cuts it
_KEY = re.compile(r"dashboard:(?:(\d+):)?note_(ver|str:(\d+))")


def set_note(database: Database, study_id: int, number: int | None, change: Callable[[str], str]) -> str:
    """Make ``change`` of the note of a study, or of trial ``number`` of its search; the note as it is then.

    Raises:
        UserError: there is no such trial.
    """

    def write(conn: Connection) -> str:
        trial_id = None if number is None else _trial_id(conn, study_id, number)
        notes, versions = _notes(conn, study_id)
        note = change(notes.get(trial_id, ""))
        owner = "dashboard:" if trial_id is None else f"dashboard:{trial_id}:"
        t = optuna_rows.study_system_attributes
        mine = t.c.key.startswith(f"{owner}note_", autoescape=True)
        conn.execute(delete(t).where(t.c.study_id == study_id, mine))
        pieces = [note[start : start + _PIECE] for start in range(0, len(note), _PIECE)]
        values = {f"note_str:{i}": piece for i, piece in enumerate(pieces)}
        for name, value in {"note_ver": versions.get(trial_id, 0) + 1, **values}.items():
            conn.execute(insert(t).values(study_id=study_id, key=owner + name, value_json=json.dumps(value)))
        return note

    return database.transact(write)


def set_tags(
    database: Database, study_id: int, number: int | None, change: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> tuple[str, ...]:
    """Make ``change`` of the tags of a study, or of trial ``number`` of its search; the tags as they are then.

    Raises:
        UserError: there is no such trial.
    """

    def write(conn: Connection) -> tuple[str, ...]:
        table, owner = _tagged(conn, study_id, number)
        mine = _tags_in(table, owner)
        before = conn.execute(select(table.c.value_json).where(*mine)).scalar()
        tags = change(_tags(before))
        conn.execute(delete(table).where(*mine))
        if tags:
            conn.execute(insert(table).values(**owner, key=_TAGS, value_json=json.dumps(tags)))
        return tags

    return database.transact(write)


def note_of(database: Database, study_id: int, number: int | None) -> str:
    """The note of a study, or of trial ``number`` of its search; empty where there is none.

    Raises:
        UserError: there is no such trial.
    """
    with database.read() as conn:
        trial_id = None if number is None else _trial_id(conn, study_id, number)
        return _notes(conn, study_id)[0].get(trial_id, "")


def tags_of(database: Database, study_id: int, number: int | None) -> tuple[str, ...]:
    """The tags of a study, or of trial ``number`` of its search.

    Raises:
        UserError: there is no such trial.
    """
    with database.read() as conn:
        table, owner = _tagged(conn, study_id, number)
        return _tags(conn.execute(select(table.c.value_json).where(*_tags_in(table, owner))).scalar())


def annotations_of(conn: Connection, study_id: int) -> Annotations:
    """Everything people said of a study and of its search's trials."""
    t = tables.trials
    query = select(t.c.trial_id, t.c.number).where(t.c.study_id == study_id, t.c.series == SEARCH)
    numbers = {row.trial_id: row.number for row in conn.execute(query)}
    notes, _ = _notes(conn, study_id)
    a, owner = optuna_rows.trial_user_attributes, optuna_rows.trials
    tagged = select(a.c.trial_id, a.c.value_json).join(owner, owner.c.trial_id == a.c.trial_id)
    tagged = tagged.where(owner.c.study_id == study_id, a.c.key == _TAGS)
    tags = {trial_id: _tags(text) for trial_id, text in conn.execute(tagged)}
    return Annotations(
        notes.get(None, ""),
        tags_of_studies(conn).get(study_id, ()),
        {numbers[key]: note for key, note in notes.items() if key in numbers and note},
        {numbers[key]: found for key, found in tags.items() if key in numbers and found},
    )


def tags_of_studies(conn: Connection) -> dict[int, tuple[str, ...]]:
    """By study, its tags; a study without any is left out."""
    t = optuna_rows.study_user_attributes
    return {row.study_id: _tags(row.value_json) for row in conn.execute(select(t).where(t.c.key == _TAGS))}


def _notes(conn: Connection, study_id: int) -> tuple[dict[int | None, str], dict[int | None, int]]:
    """Notes and their versions by Optuna's ``trial_id``, None for the study's own."""
    t = optuna_rows.study_system_attributes
    query = select(t.c.key, t.c.value_json).where(t.c.study_id == study_id, t.c.key.like("dashboard:%note%"))
    pieces: dict[int | None, dict[int, str]] = {}
    versions: dict[int | None, int] = {}
    for key, text in conn.execute(query):
        if found := _KEY.fullmatch(key):
            owner = None if found[1] is None else int(found[1])
            if found[3] is None:
                versions[owner] = int(json.loads(text))
            else:
                pieces.setdefault(owner, {})[int(found[3])] = str(json.loads(text))
    return {owner: "".join(text for _, text in sorted(parts.items())) for owner, parts in pieces.items()}, versions


def _tagged(conn: Connection, study_id: int, number: int | None) -> tuple[Table, dict[str, int]]:
    """Where the attributes of a study or a trial are, and the column that says whose."""
    if number is None:
        return optuna_rows.study_user_attributes, {"study_id": study_id}
    return optuna_rows.trial_user_attributes, {"trial_id": _trial_id(conn, study_id, number)}


def _tags_in(table: Table, owner: dict[str, int]) -> list[ColumnElement[bool]]:
    return [table.c.key == _TAGS, *(table.c[column] == key for column, key in owner.items())]


def _tags(text: str | None) -> tuple[str, ...]:
    """The tags in an attribute; one that somebody else wrote as a word is one tag, anything else is none."""
    found = [] if text is None else json.loads(text)
    found = [found] if isinstance(found, str) else found
    return tuple(str(tag) for tag in found) if isinstance(found, list) else ()


def _trial_id(conn: Connection, study_id: int, number: int) -> int:
    t = tables.trials
    of_search = (t.c.study_id == study_id, t.c.series == SEARCH)
    found = conn.execute(select(t.c.trial_id).where(*of_search, t.c.number == number)).scalar()
    if found is None:
        last = conn.execute(select(t.c.number).where(*of_search).order_by(t.c.number.desc())).scalar()
        known = "has no trials yet" if last is None else f"has trials 0 to {last}"
        raise UserError(f"There is no trial {number}: the study {known}.")
    return int(found)
