"""The command line: parse, one call into hpo.service, print a table or JSON. No logic here.

The commands stand in ``hpo/commands``. Data goes to stdout, progress to stderr. Exit codes:
0 done, 1 the work failed, 2 the input is wrong, 130 interrupted. Nothing heavy is imported
before a command needs it.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hpo.commands import begin, db, keep, live, look, models, predict, run, ship
from hpo.terminal import fail

# The command that each part of the help begins with.
_PARTS = {"init": "Begin", "launch": "Run", "list": "Look", "retrain": "Ship", "delete": "Keep house"}


class _Help(TyperGroup):
    """Lists the commands by what they are for, each with the whole of its first line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        parts: dict[str, list[tuple[str, str]]] = {}
        widest, part = max(map(len, self.commands)), "Commands"
        for name, command in self.commands.items():
            part = _PARTS.get(name, part) if ctx.parent is None else part
            parts.setdefault(part, []).append((name.ljust(widest), command.get_short_help_str(limit=200)))
        for part, rows in parts.items():
            with formatter.section(part):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=_Help,
    help="Search hyperparameters of PyTorch models, keep what was learned, ship the best.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _room in (begin, run, look, live, ship, predict):
    app.add_typer(_room.app)
app.add_typer(models.publishing)
app.add_typer(
    models.app, cls=_Help, name="models", help="Published models: list, show, compare, label and fetch versions."
)
app.add_typer(keep.app)
app.add_typer(db.app, cls=_Help, name="db", help="A whole database: bring it up to date, check it, copy it.")


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
