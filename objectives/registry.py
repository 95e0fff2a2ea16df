"""Finding an objective by folder name, by entry point, or as ``package.module:Class``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import entry_points

import objectives
from hpo.errors import UnknownName, UserError
from objectives.base import Objective

GROUP = "hpo.objectives"


def names() -> list[str]:
    """Built-in folders and installed entry points, sorted."""
    folders = {m.name for m in pkgutil.iter_modules(objectives.__path__) if m.ispkg}
    return sorted(folders | {point.name for point in entry_points(group=GROUP)})


def find(name: str, import_from: str | None = None) -> Objective:
    """The objective called ``name``.

    ``import_from`` is a folder where ``package.module`` may lie, as the study file's own;
    it is appended to ``sys.path``, so an installed module of the same name wins.

    Raises:
        UnknownName: nobody knows the name.
        UserError: the module or class of ``package.module:Class`` cannot be loaded.
    """
    if ":" in name:
        return _from_path(name, import_from)
    if name not in names():
        raise UnknownName("objective", name, names())
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _instance(point.load(), name)
    return _instance(importlib.import_module(f"objectives.{name}").OBJECTIVE, name)


def _from_path(name: str, import_from: str | None) -> Objective:
    module_name, _, class_name = name.partition(":")
    if import_from and import_from not in sys.path:
        sys.path.append(import_from)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = f" (looked beside the study file, in {import_from}, too)" if import_from else ""
        raise UserError(f"Objective {name!r}: no module named {error.name!r}{where}.") from error
    except Exception as error:
        raise UserError(f"Objective {name!r}: importing {module_name} failed: {error!r}.") from error
    _refuse_shadowed(module_name, module.__file__, import_from)
    if not hasattr(module, class_name):
        known = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Objective)]
        raise UnknownName(f"objective class in {module_name}", class_name, known)
    return _instance(getattr(module, class_name), name)


def _refuse_shadowed(module_name: str, found: str | None, import_from: str | None) -> None:
    """A user's ``storage.py`` beside the study file never loads, ours does: say so."""
    top = module_name.partition(".")[0]
    if top in {"hpo", "objectives", "search_spaces", "storage", "cli"} and import_from:
        from pathlib import Path

        folder = Path(import_from)
        if (folder / f"{top}.py").exists() or (folder / top).is_dir():
            raise UserError(
                f"The module {top!r} in {import_from} has the name of one of hpo's own, so {found} "
                "was found instead. Rename yours."
            )


def _instance(target: object, name: str) -> Objective:
    objective = target() if isinstance(target, type) else target
    if not isinstance(objective, Objective):
        raise UserError(f"Objective {name!r} must be an objectives.base.Objective; got {type(objective).__name__}.")
    return objective
