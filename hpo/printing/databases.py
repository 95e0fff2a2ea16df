"""What the commands about whole databases print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo.printing.tables import print_json, show

if TYPE_CHECKING:
    from hpo.service import Examination, Upgraded


def show_examination(found: Examination, as_json: bool) -> None:
    """Versions, counts and what is wrong, each with what to do."""
    if as_json:
        print_json(found)
        return
    print(f"{found.database}: schema {found.versions.ours or 'none'}, Optuna's {found.versions.optuna or 'none'}")
    if found.counts:
        show([{"table": table, "rows": count} for table, count in found.counts.items()])
    for problem in found.problems:
        print(f"{problem.what}.\n  {problem.remedy}")
    if not found.problems:
        print("Nothing is wrong.")


def upgraded_lines(done: Upgraded) -> list[str]:
    """What an upgrade came to, for people."""
    if done.before == done.after:
        return [f"{done.database} is up to date."]
    copied = [f"The database as it was: {done.copy}."] if done.copy else []
    names = (("hpo's", done.before.ours, done.after.ours), ("Optuna's", done.before.optuna, done.after.optuna))
    changes = ", ".join(f"{whose} schema {old} is {new} now" for whose, old, new in names if old != new)
    return [*copied, f"{done.database}: {changes}."]
