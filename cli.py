"""The command line: parse, one call into hpo.service, print a table or JSON. No logic here.

The commands stand in ``hpo/commands``. Data goes to stdout, progress to stderr. Exit codes:
0 done, 1 the work failed, 2 the input is wrong, 130 interrupted. Nothing heavy is imported
before a command needs it.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hpo.commands import begin, db, keep, live, look, models, predict, run, ship
from hpo.terminal import fail

app = typer.Typer(
    help="Search hyperparameters of PyTorch models, keep what was learned, ship the best.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _room in (begin, run, look, live, ship, predict, keep):
    app.add_typer(_room.app)
app.add_typer(models.publishing)
app.add_typer(models.app, name="models", help="Published models: list, show, compare, label and fetch versions.")
app.add_typer(db.app, name="db", help="A whole database: bring it up to date, check it, copy it.")


def main() -> None:
    """The console script: run a command and turn hpo's errors into a line and an exit code."""
    from hpo.errors import HpoError, UserError

    try:
        app(prog_name="hpo")
    except UserError as error:
        fail(str(error), 2)
    except HpoError as error:
        fail(str(error), 1)
    except BrokenPipeError:
        # Somebody closed our stdout (| head); that is no failure worth a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from hpo import __version__

        typer.echo(f"hpo {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
