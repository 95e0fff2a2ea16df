"""Database URLs as people write them, and as they may be shown: without what is secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from hpo.errors import StorageError

_SECRET = re.compile("pass|pwd|secret|token|key|odbc_connect", re.IGNORECASE)
_HIDDEN = "***"


def parse(url: str) -> URL:
    """The URL that ``url`` spells.

    Raises:
        StorageError: it spells none, or its password is written so that its parts cannot be
            told apart. Nothing of such a text is shown, but for its scheme.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StorageError(
            "The storage is no database URL; write sqlite:///hpo.db, "
            "postgresql://user:password@host/name or mysql+pymysql://user:password@host/name."
        ) from None
    # A raw @ ends the password, so the rest of it would be taken for a host, and be shown.
    if parsed.get_backend_name() != "sqlite" and url.count("@") > 1:
        raise StorageError(
            f"The storage {parsed.drivername}://{_HIDDEN} has more than one @; percent-encode @ in the password (%40)."
        )
    return parsed


def check_kept(text: str) -> None:
    """Refuse a URL that may not be kept with a study. ``$NAME`` stands for one in an environment variable.

    Raises:
        StorageError: as ``parse``, or it has a secret in it.
    """
    if text.startswith("$"):
        return
    url = parse(text)
    if shown(url) != url.render_as_string(hide_password=False):
        raise StorageError(
            f"{shown(url)} has a secret in it, which would be kept with the study. Put the URL into an environment "
            "variable and write $ITS_NAME."
        )


def from_environment(text: str) -> str:
    """The URL that ``text`` is, or that the environment variable holds which it names as ``$NAME``.

    Raises:
        StorageError: there is no such variable.
    """
    if not text.startswith("$"):
        return text
    found = os.environ.get(text[1:])
    if not found:
        raise StorageError(f"the environment variable {text[1:]!r} is not set.")
    return found


def shown(url: URL) -> str:
    """``url`` for people: every secret in it is ``***``."""
    hidden = {key: _HIDDEN for key in url.query if _SECRET.search(key)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace(quote_plus(_HIDDEN), _HIDDEN)


def plain(url: URL) -> str:
    """``url`` as a server's own programs take it: no driver, nothing secret."""
    kept = {key: value for key, value in url.query.items() if not _SECRET.search(key)}
    bare = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database, kept)
    return bare.render_as_string()


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database, absolute; None for a server."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database).absolute()


def without_secrets(url: URL, line: str) -> str:
    """``line``, as a driver wrote it, without the secrets of ``url``."""
    for key, secret in _secrets(url):
        # A short secret is also part of ordinary words; drivers show one only as part of a URL or DSN.
        near = [f":{secret}@", f"{key}={secret}", f"{key}='{secret}'"]
        for found in [*near, *([secret] if len(secret) >= 6 else [])]:
            line = line.replace(found, found.replace(secret, _HIDDEN))
    return line


def _secrets(url: URL) -> Iterator[tuple[str, str]]:
    """Every secret with its key, as it is and as a URL spells it."""
    values = [("password", str(url.password))] if url.password else []
    for key, value in url.query.items():
        if _SECRET.search(key):
            values += [(key, one) for one in ([value] if isinstance(value, str) else value) if one]
    for key, value in values:
        for spelled in {value, quote(value, safe=""), quote_plus(value)}:
            yield key, spelled
