"""Commands that keep house."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo.commands.options import Storage, StudyName
from hpo.terminal import DEFAULT_STORAGE, say

app = typer.Typer()


@app.command()
def delete(
    name: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Delete a study: its rows, its curves and its folder of checkpoints."""
    from hpo import service

    service.snapshot(storage, name)  # an unknown name is told before anything is asked
    if not yes and not typer.confirm(f"Delete study {name!r} with all its trials and checkpoints?", err=True):
        raise typer.Exit(1)
    say(f"Deleted study {name!r} and its folder {service.delete(storage, name)}.")
