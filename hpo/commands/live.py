"""Commands that look on while a study runs: its live view, and the logs of its trials."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo.commands.options import AsJson, Storage, StudyName
from hpo.errors import UserError
from hpo.terminal import DEFAULT_STORAGE, left_quietly, say

app = typer.Typer()


@app.command()
def watch(name: StudyName, storage: Storage = DEFAULT_STORAGE) -> None:
    """Show live how a study goes that runs anywhere, until it ends."""
    from hpo import printing, service
    from hpo.reports.live import LiveTable

    with left_quietly():
        watched = service.watch(storage, name, LiveTable, began=lambda found: say(printing.watch_begun(found)))
    typer.echo(printing.watch_over(watched))
    if not watched.is_well:
        raise typer.Exit(1)


@app.command()
def logs(
    name: StudyName,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="A trial of the search.")] = None,
    series: Annotated[str | None, typer.Option("--series", help="confirm, retrain, validate or rerun.")] = None,
    number: Annotated[int | None, typer.Option("--number", min=0, help="Which run of the series.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", min=1, help="How many of the last ones.")] = 50,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Print the log of a trial; without --trial what happened in the study."""
    from hpo import printing, service

    run = printing.run_of(trial, series, number)
    if run is None:
        if follow:
            raise UserError("-f follows one trial: give --trial N. hpo watch shows a whole study while it runs.")
        printing.show_happenings(service.happenings(storage, name, lines), as_json)
        return
    if as_json:
        raise UserError("--json is of what happened in a study; the log of a trial is text. Leave one of them out.")
    with left_quietly():
        for line in service.trial_log(storage, name, run[1], run[0], last=lines, follow=follow, said=say):
            print(line, flush=follow)
