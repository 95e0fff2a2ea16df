"""Commands about a whole database: hpo db upgrade, check, backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.commands.options import AsJson, Storage
from hpo.terminal import DEFAULT_STORAGE, say

app = typer.Typer(no_args_is_help=True)


@app.command()
def upgrade(storage: Storage = DEFAULT_STORAGE) -> None:
    """Bring hpo's tables and Optuna's up to date; a SQLite file is copied before."""
    from hpo import printing, service

    for line in printing.upgraded_lines(service.upgrade_database(storage)):
        say(line)


@app.command()
def check(storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """Look whether a database is whole; nothing is changed."""
    from hpo import printing, service

    found = service.check_database(storage)
    printing.show_examination(found, as_json)
    if found.problems:
        raise typer.Exit(1)


@app.command()
def backup(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file; beside the database by default.")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Copy a SQLite database, also while studies run."""
    from hpo import service

    typer.echo(service.backup_database(storage, out))
