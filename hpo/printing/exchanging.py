"""What commands print about trials that came from elsewhere, or went there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hpo.printing.tables import print_json
from hpo.trial import TrialState

if TYPE_CHECKING:
    from hpo.service import Exported, Imported

_SHOWN = 40  # notes that are printed; JSON has all


def show_imported(imported: Imported, options: str, as_json: bool) -> None:
    """What was imported, what was assumed, what had no place. ``options``: what later commands need."""
    states = {str(state): imported.states[state] for state in TrialState if imported.states[state]}
    if as_json:
        print_json(
            {
                "study": imported.name,
                "trials": sum(states.values()),
                "states": states,
                "goals": imported.goals,
                "notes": imported.notes,
                "left_out": dict(imported.left_out),
            }
        )
        return
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none"
    print(f"Study {imported.name}: imported {sum(states.values())} trials ({counts}); {', '.join(imported.goals)}.")
    for note in imported.notes[:_SHOWN]:
        print(f"  {note}")
    if len(imported.notes) > _SHOWN:
        print(f"  and {len(imported.notes) - _SHOWN} more such notes (--json has all)")
    for line in left_out_lines(imported.left_out):
        print(f"  {line}")
    study = f"{imported.name} {options}".rstrip()
    first = f"hpo launch {shlex.quote(str(imported.path))} {options}" if imported.path else f"hpo front {study}"
    first = first.rstrip()
    print(f"Next: {first} · hpo show {study} · hpo report {study}")


def left_out_lines(left_out: Mapping[str, int]) -> Iterator[str]:
    """One line for each kind of thing that had no place."""
    for what, count in left_out.items():
        yield f"left out: {count} {what}"


def exported_lines(exported: Exported, out: str) -> list[str]:
    """What an export came to, for people."""
    return [
        f"{exported.trials} trials of {exported.name} written to {out}.",
        *(f"  {line}" for line in left_out_lines(exported.left_out)),
    ]
