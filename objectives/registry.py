"""Finding an objective by folder name, by entry point, or as ``package.module:Class`` (or ``:function``)."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import objectives
from hpo.errors import UnknownName, UserError
from hpo.trial import Metric
from objectives.adopted import Adopted
from objectives.base import Objective
from objectives.function import FunctionObjective
from search_spaces import SearchSpace

GROUP = "hpo.objectives"


def names() -> list[str]:
    """Built-in folders and installed entry points, sorted."""
    folders = {m.name for m in pkgutil.iter_modules(objectives.__path__) if m.ispkg}
    return sorted(folders | {point.name for point in _installed()})


@functools.cache
def _installed() -> tuple[EntryPoint, ...]:
    """Entry points, looked up once: it takes milliseconds, and every trial finds its objective."""
    return tuple(entry_points(group=GROUP))


def find(name: str, import_from: str | None = None) -> Objective:
    """The objective called ``name``.

    ``import_from`` is a folder where ``package.module`` may lie, as the study file's own;
    it is appended to ``sys.path``, so an installed module of the same name wins.

    Raises:
        UnknownName: nobody knows the name.
        UserError: its module or class cannot be loaded, or leaves out something that every
            objective must say; the message names it.
    """
    if ":" in name:
        return _from_path(name, import_from)
    if name not in names():
        raise UnknownName("objective", name, names())
    for point in _installed():
        if point.name == name:
            return _instance(_tried(name, f"importing {point.value}", point.load), name)
    module = _tried(name, f"importing objectives.{name}", lambda: importlib.import_module(f"objectives.{name}"))
    if not hasattr(module, "OBJECTIVE"):
        raise UserError(f"Objective {name!r}: objectives/{name}/__init__.py must define OBJECTIVE.")
    return _instance(module.OBJECTIVE, name)


def _from_path(name: str, import_from: str | None) -> Objective:
    module_name, _, class_name = name.partition(":")
    if import_from and import_from not in sys.path:
        sys.path.append(import_from)

    def load() -> ModuleType:
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            where = f" (looked beside the study file, in {import_from}, too)" if import_from else ""
            raise UserError(f"Objective {name!r}: no module named {error.name!r}{where}.") from error

    module = _tried(name, f"importing {module_name}", load)
    _refuse_shadowed(module_name, getattr(module, "__file__", None), import_from)
    if not hasattr(module, class_name) and module_name == "__main__":
        raise UserError(
            f"Objective {name!r} was defined in a notebook or script, and runs only there. Put {class_name} into a "
            "module (a .py file) and launch a study of that."
        )
    if not hasattr(module, class_name):
        raise UnknownName(f"objective or function in {module_name}", class_name, _offered(module))
    return _instance(getattr(module, class_name), name)


def _offered(module: ModuleType) -> list[str]:
    """What in a module can be tuned, or may be: objectives, and the functions that it defines."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, Objective)
        or (isinstance(value, type) and issubclass(value, Objective))
        or (inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"))
    ]


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


def _tried(name: str, what: str, action: Callable[[], Any]) -> Any:
    """What ``action`` gives; somebody else's code may raise anything, or leave with ``sys.exit``."""
    try:
        return action()
    except UserError:
        raise  # says itself what is wrong
    except (Exception, SystemExit) as error:
        raise UserError(f"Objective {name!r}: {what} failed: {error!r}.") from error


def _instance(target: object, name: str) -> Objective:
    if inspect.isfunction(target):
        target = FunctionObjective(target)
    if isinstance(target, Adopted):
        return target
    objective = target
    if isinstance(target, type):
        if inspect.isabstract(target):
            missing = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
            raise UserError(f"Objective {name!r}: the class {target.__name__} does not define {missing}.")
        objective = _tried(name, f"making a {target.__name__}", target)
    if not isinstance(objective, Objective):
        raise UserError(
            f"Objective {name!r} must be an objectives.base.Objective or a function train(params, report); "
            f"got {type(objective).__name__}. docs/adopt.md has more."
        )
    wrong = _incomplete(objective, name)
    if wrong:
        raise UserError(f"Objective {name!r}: the class {type(objective).__name__} {wrong}.")
    return objective


def _incomplete(objective: Objective, name: str) -> str | None:
    """What an objective leaves out, or says in a wrong form."""
    missing = [part for part in ("summary", "metrics", "default_goals") if not hasattr(objective, part)]
    if missing:
        return f"does not define {', '.join(missing)}"
    metrics, goals = objective.metrics, objective.default_goals
    if not isinstance(metrics, Mapping) or not metrics or not all(isinstance(m, Metric) for m in metrics.values()):
        return "must define metrics as {name: Metric(...)}"
    if not isinstance(goals, (tuple, list)) or not goals:
        return f"must define default_goals as a tuple of its metrics; got {goals!r}"
    unknown = [goal for goal in goals if goal not in metrics]
    if unknown:
        return f"has default_goals that it does not report. {UnknownName('metric', unknown[0], metrics)}".rstrip(".")
    space = _tried(name, f"{type(objective).__name__}.space", lambda: objective.space)
    if not isinstance(space, SearchSpace):
        return f"must give its space as a SearchSpace; got {type(space).__name__}"
    return None
