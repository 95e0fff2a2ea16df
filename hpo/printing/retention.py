"""What ``hpo prune-artifacts`` prints: sizes before anything is deleted, and what became of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo.printing.tables import Row, print_json, show

if TYPE_CHECKING:
    from hpo.service import Pruning
    from hpo.service.retention import Held

_MB = 2**20


def show_pruning(found: Pruning) -> None:
    """By kind of file, how much there is and how much would go."""
    show(_rows(found))
    if found.mirror is not None:
        print(f"Copies at {found.mirror} are left alone; --mirror prunes them too.")


def show_pruned(pruning: Pruning, as_json: bool, dry_run: bool) -> None:
    """What was deleted, and what could not be."""
    if as_json:
        print_json(
            {
                "study": pruning.study,
                "keep": pruning.keep,
                "deleted": pruning.is_done,
                "kinds": _rows(pruning),
                "mirror": pruning.mirror,
                "failures": pruning.failures,
            }
        )
        return
    for failure in pruning.failures:
        print(f"hpo: Cannot delete {failure}.", file=sys.stderr)
    gone = len(pruning.to_go) - len(pruning.failures)
    if pruning.is_done:
        print(f"Deleted {gone} files of study {pruning.study}.")
    elif not pruning.to_go:
        print(f"Nothing to delete: study {pruning.study} keeps {len(pruning.files)} files, and all of them stay.")
    else:
        print("Nothing was deleted." if dry_run else "Left as it is.")


def _rows(pruning: Pruning) -> list[Row]:
    return [
        {
            "kind": kind,
            **_counted("there", [held for held in pruning.files if held.kind == kind]),
            **_counted("to stay", [held for held in pruning.files if held.kind == kind and held.stays]),
            **_counted("to go", [held for held in pruning.to_go if held.kind == kind]),
        }
        for kind in dict.fromkeys(held.kind for held in pruning.files)
    ]


def _counted(what: str, files: Sequence[Held]) -> Row:
    return {what: len(files), f"MB {what}": round(sum(held.size for held in files) / _MB, 3)}
