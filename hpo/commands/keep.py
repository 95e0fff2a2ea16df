"""Commands that keep house."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hpo.commands.options import AsJson, Runs, Storage, StudyName
from hpo.masking import printable
from hpo.terminal import DEFAULT_STORAGE, command_line, say

app = typer.Typer()


@app.command()
def delete(
    name: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Delete a study: its rows, its curves and its folder of checkpoints."""
    from hpo import service

    service.snapshot(storage, name, curves=False)  # an unknown name is told before anything is asked
    if not yes and not typer.confirm(f"Delete study {name!r} with all its trials and checkpoints?", err=True):
        raise typer.Exit(1)
    say(f"Deleted study {name!r} and its folder {service.delete(storage, name)}.")


@app.command("prune-artifacts")
def prune_artifacts(
    name: StudyName,
    keep: Annotated[
        Literal["front", "best", "completed", "none"], typer.Option("--keep", help="Whose files all stay.")
    ],
    mirror: Annotated[bool, typer.Option("--mirror", help="Delete the mirror's copies too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the sizes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Delete checkpoints, predictions, pictures and logs that nobody needs."""
    from hpo import printing, service

    def agree(found: service.Pruning) -> bool:
        if not as_json:
            printing.show_pruning(found)
        return not dry_run and (yes or typer.confirm(f"Delete these files of study {name!r}?", err=True))

    pruning = service.prune_artifacts(storage, name, keep, mirror=mirror, agree=agree)
    printing.show_pruned(pruning, as_json, dry_run)
    if pruning.failures or (pruning.to_go and not pruning.is_done and not dry_run):
        raise typer.Exit(1)


@app.command()
def note(
    name: StudyName,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Markdown.", show_default=False)] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="A trial of the search instead of the study.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of the note, not after it.")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="The text stands here.")] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Add to the note of a study or a trial, or print it."""
    from hpo import service

    found = service.annotate(storage, name, text, file=file, trial=trial, replace=replace)
    if text is None and file is None:
        typer.echo(printable(found))


@app.command()
def tag(
    name: StudyName,
    words: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", show_default=False)] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="A trial of the search instead of the study.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take these tags away.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Give tags to a study or a trial, take them away, or print them."""
    from hpo import service

    for word in service.tag(storage, name, words or (), trial=trial, remove=remove):
        typer.echo(printable(word))


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A database URL, a SQLite or journal file of Optuna, CSV, JSON lines."),
    ],
    study: Annotated[str | None, typer.Option("--study", help="Which study of the source.")] = None,
    name: Annotated[str | None, typer.Option("--as", help="The new study's name; the source's by default.")] = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="STUDY.yaml", help="The study whose first trials they become.")
    ] = None,
    skip_outside: Annotated[
        bool, typer.Option("--skip-outside", help="With --into: leave out trials outside its space.")
    ] = False,
    maximize: Annotated[
        list[str] | None, typer.Option("--maximize", metavar="GOAL", help="Where CSV or JSON lines do not say so.")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Make a study of trials that were run elsewhere."""
    from hpo import printing, service

    imported = service.import_trials(
        source, storage=storage, runs=runs, study=study, name=name, into=into, skip_outside=skip_outside,
        maximize=maximize or (),
    )  # fmt: skip
    printing.show_imported(imported, command_line("", storage=storage).removeprefix("hpo").strip(), as_json)


@app.command("export-trials")
def export_trials(
    name: StudyName,
    to: Annotated[Literal["optuna", "csv", "jsonl"], typer.Option("--to", help="What to write.")] = "jsonl",
    out: Annotated[
        str | None, typer.Option("--out", help="A file, or a database URL with --to optuna; stdout by default.")
    ] = None,
    new_name: Annotated[str | None, typer.Option("--name", help="The study's name there.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write a study's finished trials for Optuna, as CSV or as JSON lines."""
    from hpo import printing, service

    exported = service.export_trials(storage, name, to=to, out=out, new_name=new_name, overwrite=overwrite)
    if exported.text is not None:
        typer.echo(exported.text, nl=False)
    for line in printing.exported_lines(exported, out or "stdout"):
        say(line)
