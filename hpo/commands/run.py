"""Commands that run trials: a whole study, or one training."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hpo.commands.options import (
    AsJson,
    RayAddress,
    Runner,
    Runs,
    SkipPreflight,
    Storage,
    StudyFile,
    StudyName,
    Workers,
    runner_for,
)
from hpo.terminal import DEFAULT_STORAGE, command_line, live_table, say, stopping_on_signals, train_line, write_new

app = typer.Typer()


@app.command()
def launch(
    path: StudyFile,
    storage: Storage = DEFAULT_STORAGE,
    runs: Runs = Path("runs"),
    runner: Runner = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    skip_preflight: SkipPreflight = False,
) -> None:
    """Run a study: create it, resume it, or extend it."""
    from hpo import service
    from hpo.printing import launch_summary

    again = command_line(
        f"launch {shlex.quote(str(path))}", storage=storage, runs=runs, runner=runner, workers=workers,
        ray_address=ray_address,
    )  # fmt: skip
    with stopping_on_signals(again) as interrupt, live_table() as live:
        launched = service.launch(
            path, storage=storage, runs=runs, runner=runner_for(runner, ray_address), workers=workers,
            ray_address=ray_address, interrupt=interrupt, listeners=live, skip_preflight=skip_preflight, warn=say,
        )  # fmt: skip
    typer.echo(launch_summary(launched, again, command_line("", storage=storage).removeprefix("hpo").strip()))
    if launched.how != "done":
        raise typer.Exit(130)
    if launched.all_failed:
        raise typer.Exit(1)


@app.command()
def stop(
    study: StudyName,
    now: Annotated[bool, typer.Option("--now", help="Stop what runs, with a checkpoint, too.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the launch has ended.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Let the launch of a study end, wherever it runs: nothing more is started."""
    from hpo import printing, service

    stopping = service.stop(storage, study, now=now, wait=wait, said=lambda asked: say(printing.stop_words(asked)))
    printing.show_stopping(stopping, as_json)


@app.command()
def rerun(
    study: StudyName,
    trial: Annotated[int, typer.Option("--trial", min=0, help="The trial of the search to run again.")],
    runner: Runner = None,
    ray_address: RayAddress = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Run one trial again, with its seed, and say whether it comes out the same."""
    from hpo import printing, service

    again = command_line(
        shlex.join(["rerun", study, "--trial", str(trial)]), storage=storage, runner=runner, ray_address=ray_address
    )
    with stopping_on_signals(again) as interrupt, live_table() as live:
        found = service.rerun(
            storage, study, trial, runner=runner_for(runner, ray_address), ray_address=ray_address,
            interrupt=interrupt, listeners=live,
        )  # fmt: skip
    if found is None:
        raise typer.Exit(130)
    printing.show_rerun(found, as_json)
    if not found.is_same:
        raise typer.Exit(1)


@app.command()
def narrow(
    study: StudyName,
    top: Annotated[str, typer.Option("--top", help="How many of its best trials count: 25%, or a number.")] = "25%",
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; stdout when left out.")] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write a study file that searches where the best trials of a study lie."""
    from hpo import printing, service

    text = service.narrow(storage, study, printing.top_share(top))
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    say(f"Wrote {out}. Next: hpo launch {shlex.quote(str(out))}")


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
    runner: Annotated[str | None, typer.Option("--runner", help="inline or ray.", show_default="inline")] = None,
    ray_address: RayAddress = None,
    skip_preflight: SkipPreflight = False,
    storage: Storage = DEFAULT_STORAGE,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Train once, without a search, and keep it like a study of one trial."""
    from hpo import printing, service

    order = service.TrainOrder(
        objective, printing.named_values(sets or [], "--set"), printing.named_values(data or [], "--data"), epochs,
        seed, accelerator, devices, resume, smoke, name, runner_for(runner, ray_address) or "inline", ray_address,
    )  # fmt: skip
    order = replace(order, name=service.run_name(order, runs))
    again = train_line(order, sets or [], data or [], storage=storage, runs=runs, ray_address=ray_address)
    with stopping_on_signals(again) as interrupt, live_table(first=f"Run {order.name}; again: {again}") as live:
        trained = service.train(
            order, storage=storage, runs=runs, interrupt=interrupt, listeners=live, skip_preflight=skip_preflight,
            warn=say,
        )  # fmt: skip
    options = command_line("", storage=storage).removeprefix("hpo").strip()
    printing.show_trained(trained, again, options, as_json)
    if trained.how != "done":
        raise typer.Exit(130)
    if trained.failed:
        raise typer.Exit(1)
