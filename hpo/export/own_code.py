"""Importing without a bundle having a say in it: it may not choose what code runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


@contextmanager
def not_from(bundle: Path) -> Iterator[None]:
    """Imports find nothing in the folder ``bundle``; they raise ImportError instead."""
    finder = _NotFrom(bundle)
    sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NotFrom(MetaPathFinder):
    """Finds what Python finds on its path, except in a bundle, which may not choose what code runs.

    Its files can be within reach without its folder being on the path: of a folder above
    it, Python makes a package with the bundle as a module.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        if any(place and Path(place).resolve().is_relative_to(self.folder) for place in places):
            raise ImportError(f"{fullname} lies in the bundle, which may not choose what code runs")
        return spec
