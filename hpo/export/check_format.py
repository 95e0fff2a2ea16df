"""``python -m hpo.export.check_format BUNDLE FORMAT``: load one format in this clean process and judge it.

Prints a ``Check`` as JSON to stdout. Run by ``hpo.export.verify``; a person may run it too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from hpo.errors import UserError
from hpo.export import formats, memory
from hpo.export.compare import compare, compare_rounded, measure
from hpo.export.example import StoredExample
from hpo.export.formats import Format, Predict
from hpo.export.manifest import Check
from hpo.export.own_code import not_from


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
    if args.import_from and args.import_from not in sys.path:
        sys.path.append(args.import_from)
    with not_from(args.bundle):
        check = _check(args.bundle, args.format, args.atol, args.rtol, args.latency, args.import_from)
    answer.write(check.model_dump_json())
    answer.close()
    return 0


def _check(bundle: Path, name: str, atol: float, rtol: float, latency: bool, import_from: str | None) -> Check:
    try:
        example = StoredExample.load(bundle)
        form = formats.find(name)
        predict, memory_mb = _loaded(form, bundle / "formats" / name, example)
        if form.largest_error is None:
            check = compare(predict, example, atol, rtol)
        else:
            check = compare_rounded(predict, example, form.largest_error)
        check = check.model_copy(update={"memory_mb": memory_mb})
        if latency and check.reason is None:
            eager = predict if form.is_eager else _eager(bundle)
            check = check.model_copy(update={"latency": measure(predict, eager, example)})
        return check
    except Exception as error:  # the border of the process: everything becomes a reason
        reason = f"Could not be loaded and run again: {type(error).__name__}: {error}"
        if import_from is None and isinstance(error, UserError) and isinstance(error.__cause__, ModuleNotFoundError):
            reason = f"{reason.removesuffix('.')}; give --import-from the folder of its module, if you trust it."
        return Check(reason=reason)


def _loaded(form: Format, folder: Path, example: StoredExample) -> tuple[Predict, float | None]:
    """The model, and by how many MB the process grew to load it and run the largest batch once.

    It is loaded for the second time then, beside the first, so that what the libraries take
    for themselves (their code, their first call) is not the model's.
    """
    first = form.load(folder)
    with contextlib.suppress(Exception):  # the comparison says what is wrong
        first(example.rows(1))
    before = memory.begin()
    predict = form.load(folder)
    with contextlib.suppress(Exception):
        predict(example.most.inputs)
    return predict, memory.peak_growth(before)


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
