"""The command from a model to what it says of new inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.commands.options import AsJson, ImportFrom, Storage
from hpo.terminal import DEFAULT_STORAGE, left_quietly

app = typer.Typer()


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundle's folder, or a published NAME@VERSION.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", readable=False, help="An .npz of the model's inputs, or what its objective reads."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help=".csv, .parquet, .jsonl, or .npz of raw outputs.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Another format of the bundle than its ONNX.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows at a time.")] = 32,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of the model.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    import_from: ImportFrom = None,
    run_programs: Annotated[
        bool,
        typer.Option("--run-programs", help="Load a --format that is a program, if you trust the bundle's origin."),
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Run a model on new inputs, with onnxruntime alone."""
    from hpo import printing, service

    with (
        left_quietly(),
        service.predicting(
            storage,
            model,
            source,
            form=form,
            batch=batch,
            limit=limit,
            threads=threads,
            import_from=import_from,
            run_programs=run_programs,
        ) as predictions,  # fmt: skip
    ):
        if out is None:
            printing.show_predictions(predictions, as_json, limit)
        else:
            with printing.counted(predictions) as counting:
                rows = counting.save(out, overwrite=overwrite)
            printing.show_saved(out, rows, as_json)
