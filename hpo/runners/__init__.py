"""Where trials run: one file per runner, found by its name. Each defines ``run``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import hpo.runners
from hpo.errors import UnknownName

FILES = {"inline": "inline", "ray": "ray_tune"}


def names() -> list[str]:
    """``inline``, ``ray``, and whatever other file lies here."""
    files = {m.name for m in pkgutil.iter_modules(hpo.runners.__path__)} - {"worker"}
    return sorted((files - set(FILES.values())) | set(FILES))


def find(name: str) -> Callable[..., None]:
    """The function ``run(source, *, workers, cpus, gpus)`` of a runner; imports its library.

    Raises:
        UnknownName: there is no such runner.
    """
    find_name(name)
    run: Callable[..., None] = importlib.import_module(f"hpo.runners.{FILES.get(name, name)}").run
    return run


def find_name(name: str) -> None:
    """Refuse a runner that does not exist, without importing it.

    Raises:
        UnknownName: there is no such runner.
    """
    if name not in names():
        raise UnknownName("runner", name, names())
