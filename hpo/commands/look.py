"""Commands that look at what is known: trials, the front, the best, a report, the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.commands.options import AsJson, Pick, Storage, StudyName
from hpo.terminal import DEFAULT_STORAGE, say

app = typer.Typer()


@app.command("list")
def list_(
    tag: Annotated[str | None, typer.Option("--tag", help="Only studies that have this tag.")] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """List the studies of a database."""
    from hpo import printing, service

    printing.show(printing.summary_rows(service.summaries(storage, tag), as_json), as_json)


@app.command()
def show(
    name: StudyName,
    everything: Annotated[bool, typer.Option("--all", help="Every trial, not only the last ones.")] = False,
    launches: Annotated[bool, typer.Option("--launches", help="The launches, and what each changed.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show a study's trials, with why each stopped."""
    from hpo import printing, service

    found = service.snapshot(storage, name, curves=False)
    if launches:
        printing.show_launches(found, as_json)
    else:
        printing.show_study(found, as_json, everything)


@app.command()
def why(
    name: StudyName,
    number: Annotated[int, typer.Argument(metavar="N", help="The trial's number.")],
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Say how a trial ended; if it was pruned, on what and against whom."""
    from hpo import printing, service

    printing.show_why(service.why(storage, name, number), as_json)


@app.command()
def replay(
    name: StudyName,
    pruner: Annotated[
        list[str], typer.Option("--pruner", help="A name, or '{name: ..., option: ...}'; several to compare them.")
    ],
    options: Annotated[list[str] | None, typer.Option("--set", help="An option of the pruner, NAME=VALUE.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="By default the last launch's.")] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Run other pruners over the recorded curves: what they would have saved and lost."""
    from hpo import printing, service

    pruners = printing.typed_pruners(pruner, options or [])
    printing.show_comparison(service.compare_pruners(storage, name, pruners, workers), as_json)


@app.command()
def front(
    name: StudyName,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the Pareto front (with one goal: the best trial)."""
    from hpo import printing, service

    printing.show_front(service.snapshot(storage, name, curves=False), as_json, csv)


@app.command()
def best(
    name: StudyName,
    pick: Pick = None,
    where: Annotated[list[str] | None, typer.Option("--where", help="Such as 'peak_memory_mb < 500'.")] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Name the best trial, and say how much of its value was luck."""
    from hpo import printing, service

    snapshot, choice = service.choose(storage, name, pick=printing.policy(pick), where=where or [])
    printing.show_choice(snapshot, choice, as_json)


@app.command()
def report(
    name: StudyName,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; reports/STUDY by default.")] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write the report: one page that needs no network, and its plots as PNG."""
    from hpo import service

    for path in service.report(storage, name, out or Path("reports") / name):
        typer.echo(path)


@app.command()
def compare(
    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY", help="Two or more: each a name, NAME@URL, or a group: NAME,NAME,..."),
    ],
    goals: Annotated[str | None, typer.Option("--goals", help="Compare by these alone, METRIC,METRIC,...")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Differences at equal trials, epochs (default), time or work.")
    ] = None,
    apart: Annotated[
        bool, typer.Option("--no-group-by-seed", help="Leave studies that differ in seed alone each for itself.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write a page and its plots into this folder.")] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Hold studies against the first of them: values at equal spending, with intervals over seeds."""
    from hpo import printing, service

    found = service.compare(storage, studies, goals=goals.split(",") if goals else (), by=by, by_seed=not apart)
    printing.show_side_by_side(found, as_json)
    if out is not None:
        for path in service.write_comparison(found, out):
            say(f"Wrote {path}")


@app.command("plot-run")
def plot_run(
    name: StudyName,
    trial: Annotated[int | None, typer.Option("--trial", help="This trial instead of the picked one.")] = None,
    series: Annotated[str, typer.Option("--series", help="search, confirm, retrain or validate.")] = "search",
    number: Annotated[int | None, typer.Option("--number", help="Which run of the series.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The PNG; run-STUDY-SERIES-NUMBER.png by default.")] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Draw one run: its curves, and what the model says against what is so."""
    from hpo import service

    typer.echo(service.plot_run(storage, name, trial=trial, series=series, number=number, out=out))


@app.command()
def dashboard(
    storage: Storage = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
) -> None:
    """Open optuna-dashboard on this storage, on loopback only."""
    from hpo import service

    service.dashboard(storage, port, lambda url: say(f"optuna-dashboard on {url} (Ctrl-C ends it)"))
