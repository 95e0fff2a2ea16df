"""``python -m hpo.export.check_format BUNDLE FORMAT``: load one format in this clean process and judge it.

Prints a ``Check`` as JSON to stdout. Run by ``hpo.export.verify``; a person may run it too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from hpo.errors import UserError
from hpo.export import formats
from hpo.export.compare import compare, compare_rounded, measure
from hpo.export.example import StoredExample
from hpo.export.formats import Predict
from hpo.export.manifest import Check


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m hpo.export.check_format", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("format")
    parser.add_argument("--atol", type=float, required=True)
    parser.add_argument("--rtol", type=float, required=True)
    parser.add_argument("--latency", action="store_true", help="also measure the time per call")
    parser.add_argument("--import-from", help="folder of an objective given as package.module:Class")
    args = parser.parse_args(argv)

    # Whatever a library or an objective prints must not come between the parent and the JSON.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.meta_path.insert(sys.meta_path.index(PathFinder), _NotFrom(args.bundle))
    if args.import_from and args.import_from not in sys.path:
        sys.path.append(args.import_from)
    check = _check(args.bundle, args.format, args.atol, args.rtol, args.latency, args.import_from)
    answer.write(check.model_dump_json())
    answer.close()
    return 0


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


def _check(bundle: Path, name: str, atol: float, rtol: float, latency: bool, import_from: str | None) -> Check:
    try:
        example = StoredExample.load(bundle)
        form = formats.find(name)
        predict = form.load(bundle / "formats" / name)
        if form.largest_error is None:
            check = compare(predict, example, atol, rtol)
        else:
            check = compare_rounded(predict, example, form.largest_error)
        if latency and check.reason is None:
            eager = predict if form.is_eager else _eager(bundle)
            check = check.model_copy(update={"latency": measure(predict, eager, example)})
        return check
    except Exception as error:  # the border of the process: everything becomes a reason
        reason = f"Could not be loaded and run again: {type(error).__name__}: {error}"
        if import_from is None and isinstance(error, UserError) and isinstance(error.__cause__, ModuleNotFoundError):
            reason = f"{reason.removesuffix('.')}; give --import-from the folder of its module, if you trust it."
        return Check(reason=reason)


def _eager(bundle: Path) -> Predict | None:
    """The PyTorch model out of the bundle, or None where it cannot be rebuilt from files."""
    for name in formats.known():
        folder = bundle / "formats" / name
        if folder.is_dir() and formats.find(name).is_eager:
            with contextlib.suppress(Exception):  # that format's own check says why
                return formats.find(name).load(folder)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
