"""The command line: parse, one call into hpo.service, print a table or JSON. No logic here.

Data goes to stdout, progress to stderr. Exit codes: 0 done, 1 the work failed, 2 the input
is wrong, 130 interrupted. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.terminal import (
    DEFAULT_STORAGE,
    command_line,
    fail,
    live_table,
    say,
    stopping_on_signals,
    train_line,
    write_new,
)

app = typer.Typer(
    help="Search hyperparameters of PyTorch models, keep what was learned, ship the best.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Storage = Annotated[
    str, typer.Option("--storage", envvar="HPO_STORAGE", help="Database URL (HPO_STORAGE).", show_default=True)
]
Runs = Annotated[Path, typer.Option("--runs", envvar="HPO_RUNS", help="Where new studies keep checkpoints (HPO_RUNS).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="The study's name.")]
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
Pick = Annotated[
    str | None, typer.Option("--pick", help="knee, a goal's metric, or weights such as 'val_loss=2,latency_ms=1'.")
]
Runner = Annotated[str | None, typer.Option("--runner", help="inline or ray, instead of the study file's.")]
SkipPreflight = Annotated[bool, typer.Option("--skip-preflight", help="Begin without the checks of hpo check.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Trials at once, at most the concurrency.")]


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
    say(f"Wrote {out}. Next: hpo launch {out}")


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
    as_json: AsJson = False,
) -> None:
    """Check a study file, and try one batch of what it describes; nothing is written."""
    from hpo import printing, service

    plan = service.check(path)
    found = None if quick else service.preflight(plan)
    printing.show_checked(path, plan, found, as_json)
    if found and found.failed:
        fail("\nhpo: ".join(finding.line for finding in found.failed), 2)


@app.command()
def launch(
    path: StudyFile,
    storage: Storage = DEFAULT_STORAGE,
    runs: Runs = Path("runs"),
    runner: Runner = None,
    workers: Workers = None,
    skip_preflight: SkipPreflight = False,
) -> None:
    """Run a study: create it, resume it, or extend it."""
    from hpo import service
    from hpo.printing import launch_summary

    again = command_line(f"launch {shlex.quote(str(path))}", storage=storage, runs=runs, runner=runner, workers=workers)
    with stopping_on_signals(again) as interrupt, live_table() as live:
        launched = service.launch(
            path, storage=storage, runs=runs, runner=runner, workers=workers, interrupt=interrupt, listeners=live,
            skip_preflight=skip_preflight, warn=say,
        )  # fmt: skip
    typer.echo(launch_summary(launched, again, command_line("", storage=storage).removeprefix("hpo").strip()))
    if launched.how == "interrupted":
        raise typer.Exit(130)
    if launched.all_failed:
        raise typer.Exit(1)


@app.command()
def train(
    objective: Annotated[
        str | None, typer.Argument(help="What to train; with --resume it may be left out.", show_default=False)
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: a parameter, or a setting of the trainer.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="NAME=VALUE: a field of the data.")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="5; with --resume those of the checkpoint's trial.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="0.")] = None,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu or gpu.")] = "cpu",
    devices: Annotated[int, typer.Option("--devices", min=1, help="Processes that train together.")] = 1,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="CKPT", help="Go on from a checkpoint.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="One epoch on a few batches: does it run at all?")] = False,
    name: Annotated[str | None, typer.Option("--name", help="The same name again goes on with the run.")] = None,
    runner: Annotated[str, typer.Option("--runner", help="inline or ray.")] = "inline",
    skip_preflight: SkipPreflight = False,
    storage: Storage = DEFAULT_STORAGE,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Train once, without a search, and keep it like a study of one trial."""
    from hpo import printing, service

    order = service.TrainOrder(
        objective, printing.named_values(sets or [], "--set"), printing.named_values(data or [], "--data"), epochs,
        seed, accelerator, devices, resume, smoke, name, runner,
    )  # fmt: skip
    order = replace(order, name=service.run_name(order, runs))
    again = train_line(order, sets or [], data or [], storage=storage, runs=runs)
    with stopping_on_signals(again) as interrupt, live_table(first=f"Run {order.name}; again: {again}") as live:
        trained = service.train(
            order, storage=storage, runs=runs, interrupt=interrupt, listeners=live, skip_preflight=skip_preflight,
            warn=say,
        )  # fmt: skip
    options = command_line("", storage=storage).removeprefix("hpo").strip()
    printing.show_trained(trained, again, options, as_json)
    if trained.how == "interrupted":
        raise typer.Exit(130)
    if trained.failed:
        raise typer.Exit(1)


@app.command("list")
def list_(storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """List the studies of a database."""
    from hpo import service
    from hpo.printing import show, summary_rows

    show(summary_rows(service.summaries(storage)), as_json)


@app.command()
def show(name: StudyName, storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """Show a study's trials, with why each stopped."""
    from hpo import printing, service

    printing.show_study(service.snapshot(storage, name), as_json)


@app.command()
def front(
    name: StudyName,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the Pareto front (with one goal: the best trial)."""
    from hpo import printing, service

    printing.show(printing.front_rows(service.snapshot(storage, name)), as_json, csv)


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
def retrain(
    name: StudyName,
    trial: Annotated[int | None, typer.Option("--trial", help="This trial instead of the picked one.")] = None,
    pick: Pick = None,
    runner: Runner = None,
    workers: Workers = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train the picked trial on the full budget with several seeds, and read the test set."""
    from hpo import printing, service

    again = command_line(f"retrain {name}", trial=trial, pick=pick, storage=storage, runner=runner, workers=workers)
    with stopping_on_signals(again) as interrupt, live_table() as live:
        retrained = service.retrain(
            storage, name, trial=trial, pick=printing.policy(pick), runner=runner, workers=workers,
            interrupt=interrupt, listeners=live,
        )  # fmt: skip
    if retrained is None:
        raise typer.Exit(130)
    printing.show_retrained(retrained, as_json)


@app.command()
def validate(
    name: StudyName,
    trial: Annotated[int | None, typer.Option("--trial", help="This trial instead of the picked one.")] = None,
    pick: Pick = None,
    params: Annotated[
        list[str] | None, typer.Option("--params", help="NAME=VALUE over the objective's defaults, instead of a trial.")
    ] = None,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="Instead of the study file's.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the study file's.")] = None,
    runner: Runner = None,
    workers: Workers = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Cross-validate a trial, or parameters given by hand: mean and spread over the folds."""
    from hpo import printing, service

    given = [word for text in params or [] for word in ("--params", text)]
    again = command_line(
        shlex.join(["validate", name, *given]), trial=trial, pick=pick, folds=folds, epochs=epochs, storage=storage,
        runner=runner, workers=workers,
    )  # fmt: skip
    with stopping_on_signals(again) as interrupt, live_table() as live:
        validated = service.validate(
            storage, name, trial=trial, pick=printing.policy(pick),
            params=printing.named_values(params or [], "--params"), folds=folds, epochs=epochs, runner=runner,
            workers=workers, interrupt=interrupt, listeners=live,
        )  # fmt: skip
    if validated is None:
        raise typer.Exit(130)
    if not printing.show_validated(validated, as_json):
        raise typer.Exit(1)


@app.command()
def export(
    name: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="The study's name.", show_default=False)] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="CKPT", help="This checkpoint's model, instead of a STUDY's.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The bundle's folder; bundles/STUDY by default.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="With --checkpoint: these formats; onnx and safetensors.")
    ] = None,
    import_from: Annotated[
        Path | None, typer.Option("--import-from", help="With --checkpoint: the objective's folder; the current one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Write the retrained model as a bundle, every format loaded back and compared."""
    from hpo import printing, service

    source = printing.export_source(name, checkpoint, formats, import_from)
    if isinstance(source, Path):
        bundle = service.export_checkpoint(source, out, formats=formats, import_from=import_from, overwrite=overwrite)
    else:
        bundle = service.export(storage, source, out or Path("bundles") / source, overwrite=overwrite)
    printing.show_bundle(bundle, as_json)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    import_from: Annotated[
        Path | None,
        typer.Option(
            "--import-from",
            help="The folder of the objective, when it is package.module:Class and you trust it; none by default.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte and every format of a bundle again."""
    from hpo import printing, service

    if not printing.show_verified(service.verify(bundle, import_from), as_json):
        raise typer.Exit(1)


@app.command()
def dashboard(
    storage: Storage = DEFAULT_STORAGE,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
) -> None:
    """Open optuna-dashboard on this storage, on loopback only."""
    from hpo import service

    service.dashboard(storage, port, lambda url: say(f"optuna-dashboard on {url} (Ctrl-C ends it)"))


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
