"""Texts made safe to show: secrets in URLs become ``***``, and what a terminal would obey becomes U+FFFD."""

from __future__ import annotations

import re
from unicodedata import category

_URL = re.compile(r"[a-z][a-z0-9+.\-]*://\S+", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^/:@]*:)[^@]+@")
_OPTION = re.compile(r"([?&][^=&]*(?:key|secret|token|pass|pwd|signature|credential)[^=&]*=)[^&'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """``text`` with ``***`` for the passwords and keys in its URLs."""
    return _URL.sub(lambda url: _OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***@", url[0])), text)


def holds_secret(text: str) -> bool:
    """Whether there is a URL with a password or a key in some text."""
    return masked(text) != text


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: notes, tags, ids and bundles may come from anybody."""
    return "".join(c if c.isprintable() or c in "\n\t" or category(c) == "Zs" else "\ufffd" for c in text)
