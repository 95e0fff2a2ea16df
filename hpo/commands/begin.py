"""Commands to begin with: what can be tuned, a study file, data, checks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.commands.options import AsJson, StudyFile
from hpo.terminal import fail, say, write_new

app = typer.Typer()


@app.command()
def init(
    objective: Annotated[str, typer.Argument(help="A built-in objective, or package.module:Class.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; stdout when left out.")] = None,
) -> None:
    """Write a commented study file for an objective."""
    from hpo.starter import study_file

    text = study_file(objective)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    say(f"Wrote {out}. Next: hpo launch {shlex.quote(str(out))}")


@app.command()
def adopt(
    target: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="A function train(params, report).")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; stdout when left out.")] = None,
) -> None:
    """Write a study file for your own training function, with goals and ranges guessed from its source."""
    from hpo.starter import adopted_file

    text, folder = adopted_file(target)
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.resolve().parent != folder:
        fail(f"A study file lies beside its module: write it into {folder}.", 2)
    write_new(out, text)
    say(f"Wrote {out}. Look at what is marked as a guess. Next: hpo launch {shlex.quote(str(out))}")


@app.command()
def objectives(as_json: AsJson = False) -> None:
    """List what can be tuned."""
    from hpo.printing import objective_rows, show

    show(objective_rows(), as_json)


@app.command("make-data")
def make_data(
    objective: Annotated[str, typer.Argument(help="The objective whose data is made.")],
    out: Annotated[Path, typer.Option("--out", help="The file to make; an interrupted one is continued.")],
    records: Annotated[int | None, typer.Option("--records", help="How many records.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same data.")] = 0,
    more: Annotated[
        list[str] | None, typer.Option("--set", help="A further option of the maker, NAME=WHOLE NUMBER.")
    ] = None,
) -> None:
    """Make real records for an objective."""
    from hpo import printing, service

    options: dict[str, Any] = {"seed": seed, **printing.whole_numbers(more or [])}
    if records is not None:
        options["records"] = records
    say(f"Made {service.make_data(objective, out, options)}.")


@app.command()
def check(
    path: StudyFile,
    quick: Annotated[bool, typer.Option("--quick", help="The file and its data only, without a pre-flight.")] = False,
    device_memory: Annotated[
        str | None,
        typer.Option("--device-memory", metavar="SIZE", help="Reckon the memory alone, for a GPU with so much: 24GB."),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", min=1, help="How many of them share the model (fsdp).")] = 1,
    as_json: AsJson = False,
) -> None:
    """Check a study file, and try one batch of what it describes; nothing is written."""
    from hpo import printing, service

    reckoned_for = printing.devices(device_memory, devices)
    if quick and reckoned_for:
        fail("Give --quick or --device-memory, not both.", 2)
    plan = service.check(path)
    found = None if quick else service.preflight(plan, devices=reckoned_for)
    budget = service.suggested_budget(plan, found) if found else None
    printing.show_checked(path, plan, found, as_json, budget)
    if found and found.failed:
        fail("\nhpo: ".join(finding.line for finding in found.failed), 2)


@app.command()
def preview(
    path: StudyFile,
    epoch_s: Annotated[float | None, typer.Option("--epoch-s", help="Seconds of one epoch.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Take them from a pre-flight.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="By default a launch's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a study before it runs: trials, epochs and hours; nothing is written."""
    from hpo import printing, service

    if epoch_s is not None and measure:
        fail("Give --epoch-s or --measure, not both.", 2)
    found = service.preview(path, workers=workers, epoch_s=epoch_s, measure=measure)
    printing.show_preview(found, as_json)
