"""Where trials run: one file per runner, found by its name. Each defines ``run``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import hpo.runners
from hpo.errors import UnknownName

FILES = {"inline": "inline", "ray": "ray_tune"}
_SHARED = {"worker", "trial_log", "limits", "address"}  # what runners have in common


@dataclass(frozen=True)
class Site:
    """The machines that trials may run on, and what these must see.

    ``ray_address`` is that of a Ray cluster; None: this machine. Trials keep checkpoints at
    every one of ``checkpoints``, each a path or an address of ``hpo.places``; all machines
    must see one of them. ``code`` is the study file's folder, whose modules they may need.
    """

    ray_address: str | None = None
    checkpoints: tuple[str, ...] = ()
    code: str | None = None


HERE = Site()


def names() -> list[str]:
    """``inline``, ``ray``, and whatever other file lies here."""
    files = {m.name for m in pkgutil.iter_modules(hpo.runners.__path__)} - _SHARED
    return sorted((files - set(FILES.values())) | set(FILES))


def find(name: str) -> Callable[..., None]:
    """The function ``run(source, *, workers, cpus, gpus, site)`` of a runner; imports its library.

    A runner may keep something running for the next call (Ray); ``close`` ends it.

    Raises:
        UnknownName: there is no such runner.
    """
    find_name(name)
    run: Callable[..., None] = importlib.import_module(f"hpo.runners.{FILES.get(name, name)}").run
    return run


def close(name: str) -> None:
    """Let a runner end what it keeps running between two ``run`` calls, if it keeps anything."""
    module = sys.modules.get(f"hpo.runners.{FILES.get(name, name)}")
    if module is not None and hasattr(module, "close"):
        module.close()


def find_name(name: str) -> None:
    """Refuse a runner that does not exist, without importing it.

    Raises:
        UnknownName: there is no such runner.
    """
    if name not in names():
        raise UnknownName("runner", name, names())
