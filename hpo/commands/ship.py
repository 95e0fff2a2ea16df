"""Commands from a winner to a model: validate, retrain, export, verify, reproduce."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hpo.commands.options import AsJson, ImportFrom, Pick, RayAddress, Runner, Storage, StudyName, Workers, runner_for
from hpo.terminal import DEFAULT_STORAGE, command_line, live_table, say, stopping_on_signals

app = typer.Typer()


@app.command()
def retrain(
    name: StudyName,
    trial: Annotated[int | None, typer.Option("--trial", help="This trial instead of the picked one.")] = None,
    pick: Pick = None,
    runner: Runner = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train the picked trial on the full budget with several seeds, and read the test set."""
    from hpo import printing, service

    again = command_line(
        f"retrain {name}", trial=trial, pick=pick, storage=storage, runner=runner, workers=workers,
        ray_address=ray_address,
    )  # fmt: skip
    with stopping_on_signals(again) as interrupt, live_table() as live:
        retrained = service.retrain(
            storage, name, trial=trial, pick=printing.policy(pick), runner=runner_for(runner, ray_address),
            workers=workers, ray_address=ray_address, interrupt=interrupt, listeners=live,
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
    ray_address: RayAddress = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Cross-validate a trial, or parameters given by hand: mean and spread over the folds."""
    from hpo import printing, service

    given = [word for text in params or [] for word in ("--params", text)]
    again = command_line(
        shlex.join(["validate", name, *given]), trial=trial, pick=pick, folds=folds, epochs=epochs, storage=storage,
        runner=runner, workers=workers, ray_address=ray_address,
    )  # fmt: skip
    with stopping_on_signals(again) as interrupt, live_table() as live:
        validated = service.validate(
            storage, name, trial=trial, pick=printing.policy(pick),
            params=printing.named_values(params or [], "--params"), folds=folds, epochs=epochs,
            runner=runner_for(runner, ray_address), workers=workers, ray_address=ray_address, interrupt=interrupt,
            listeners=live,
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
        list[str] | None,
        typer.Option("--format", metavar="NAME", help="This format instead of the study's; may be repeated."),
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

    source = printing.export_source(name, checkpoint, import_from)
    if isinstance(source, Path):
        bundle = service.export_checkpoint(source, out, formats=formats, import_from=import_from, overwrite=overwrite)
    else:
        bundle = service.export(storage, source, out or Path("bundles") / source, formats=formats, overwrite=overwrite)
    printing.show_bundle(bundle, as_json)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    import_from: ImportFrom = None,
    run_programs: Annotated[
        bool,
        typer.Option("--run-programs", help="Load formats that are programs, too, if you trust the bundle's origin."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every byte and every format of a bundle again."""
    from hpo import printing, service

    if not printing.show_verified(service.verify(bundle, import_from, run_programs=run_programs), as_json):
        raise typer.Exit(1)


@app.command()
def reproduce(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or a published NAME@VERSION.")],
    keep: Annotated[
        Path | None, typer.Option("--keep", help="The folder that the run stays in, and goes on in after Ctrl-C.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="NAME=VALUE: a field of the data, where it has moved.")
    ] = None,
    import_from: ImportFrom = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train the model of a bundle again, and say whether the weights are equal."""
    from hpo import printing, service

    given = [word for text in data or [] for word in ("--data", text)]
    again = command_line(shlex.join(["reproduce", bundle, *given]), keep=keep, import_from=import_from, storage=storage)
    with stopping_on_signals(again, keeps=keep is not None) as interrupt, live_table() as live:
        found = service.reproduce(
            storage, bundle, keep=keep, data=printing.named_values(data or [], "--data"), import_from=import_from,
            interrupt=interrupt, listeners=live, say=say,
        )  # fmt: skip
    if found is None:
        raise typer.Exit(130)
    printing.show_reproduced(found, as_json)
    if not found.sameness.is_equal:
        raise typer.Exit(1)
