"""Ready-made spaces by name: every file of this folder that defines ``SPACE`` is one."""

from __future__ import annotations

import importlib
import pkgutil

import search_spaces
from hpo.errors import UnknownName
from search_spaces.space import SearchSpace

_LANGUAGE = {"middle", "parameters", "space", "presets"}


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(search_spaces.__path__) if m.name not in _LANGUAGE)


def named(name: str) -> SearchSpace:
    """The ready-made space ``name``.

    Raises:
        UnknownName: no file here has that name.
    """
    if name not in names():
        raise UnknownName("search space", name, names())
    space = importlib.import_module(f"search_spaces.{name}").SPACE
    if not isinstance(space, SearchSpace):
        raise TypeError(f"search_spaces/{name}.py must define SPACE as a SearchSpace.")
    return space
