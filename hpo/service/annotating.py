"""The use cases behind ``hpo note`` and ``hpo tag``: what people say of a study or a trial."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from hpo.errors import UnknownName, UserError
from storage.annotations import note_of, set_note, set_tags, tags_of
from storage.database import Database
from storage.studies import Studies

LONGEST_NOTE_KB = 64
LONGEST_TAG = 50  # characters


def annotate(
    storage: str,
    name: str,
    text: str | None = None,
    *,
    file: Path | None = None,
    trial: int | None = None,
    replace: bool = False,
) -> str:
    """Add ``text``, or what stands in ``file``, to the note of a study or of a trial; the note as it is then.

    Without both nothing is changed. ``replace`` takes the place of what was there; an empty text
    then removes it.

    Raises:
        UserError: no such study or trial, both ``text`` and ``file``, a file that cannot be
            read, a control character, nothing to add, or more than 64 kB.
    """
    if text is not None and file is not None:
        raise UserError("A note comes from TEXT or from --file, not from both.")
    if file is not None:
        text = _read(file)
    said = None if text is None else _checked(text)

    def change(before: str) -> str:
        if said is None:
            return before
        note = said if replace or not before else f"{before.rstrip()}\n\n{said}"
        size_kb = len(note.encode()) / 1024
        if size_kb > LONGEST_NOTE_KB:
            raise UserError(f"A note may have {LONGEST_NOTE_KB} kB; with this text it has {size_kb:.1f}.")
        return note

    with Database(storage) as database:
        study = Studies(database).get(name)
        if said is None:
            return note_of(database, study.id, trial)
        if not said and not replace:
            raise UserError("This text is empty; with --replace it would remove the note that is there.")
        return set_note(database, study.id, trial, change)


def tag(
    storage: str, name: str, words: Sequence[str] = (), *, trial: int | None = None, remove: bool = False
) -> tuple[str, ...]:
    """Give tags to a study or a trial, or take them away; the tags as they are then. Without ``words`` none change.

    Raises:
        UserError: no such study or trial, a tag that is empty, longer than 50 characters or has a
            control character, or one to be removed that is not there.
    """
    asked = tuple(dict.fromkeys(map(_checked_tag, words)))

    def change(before: tuple[str, ...]) -> tuple[str, ...]:
        if not remove:
            return tuple(dict.fromkeys((*before, *asked)))
        unknown = [word for word in asked if word not in before]
        if unknown:
            raise UnknownName("tag", unknown[0], before)
        return tuple(word for word in before if word not in asked)

    with Database(storage) as database:
        study = Studies(database).get(name)
        if not asked:
            return tags_of(database, study.id, trial)
        return set_tags(database, study.id, trial, change)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not text in UTF-8; a note is Markdown.") from error


def _checked(text: str) -> str:
    """The text with lines that end as they do here, and nothing that a terminal would obey."""
    text = text.replace("\r\n", "\n")
    if found := _control(text, allowed="\n\t"):
        raise UserError(f"A note is plain text; this one has the control character {found!r}.")
    return text.strip("\n")


def _checked_tag(word: str) -> str:
    word = word.strip()
    if found := _control(word):
        raise UserError(f"A tag is a word or two; {word!r} has the control character {found!r}.")
    if not word or len(word) > LONGEST_TAG:
        raise UserError(f"A tag has 1 to {LONGEST_TAG} characters; got {len(word)}.")
    return word


def _control(text: str, allowed: str = "") -> str | None:
    """The first control character, or half of a character that no encoding has."""
    return next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in allowed), None)
