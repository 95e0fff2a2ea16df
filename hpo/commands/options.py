"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", envvar="HPO_RAY_ADDRESS", help="A Ray cluster, HOST:PORT or auto (HPO_RAY_ADDRESS)."),
]
ImportFrom = Annotated[
    Path | None,
    typer.Option(
        "--import-from",
        help="The folder of the objective, when it is package.module:Class and you trust it; none by default.",
    ),
]
SkipPreflight = Annotated[bool, typer.Option("--skip-preflight", help="Begin without the checks of hpo check.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Trials at once, at most the concurrency.")]


def runner_for(runner: str | None, ray_address: str | None) -> str | None:
    """The runner that is meant: who names a cluster means Ray, unless another one is named."""
    return runner or (None if ray_address is None else "ray")
