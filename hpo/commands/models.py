"""Commands about published models: hpo publish, hpo models list, show, diff, label, pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.commands.options import AsJson, ImportFrom, Storage
from hpo.terminal import DEFAULT_STORAGE, command_line

publishing = typer.Typer()
app = typer.Typer(no_args_is_help=True)

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Version = Annotated[str, typer.Argument(metavar="REFERENCE", help="NAME@v1.2.0, NAME@LABEL, or NAME for its latest.")]


@publishing.command()
def publish(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The model's name.")],
    bump: Annotated[
        str | None, typer.Option("--bump", help="major, minor or patch: counts on from the highest version; minor.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="X.Y.Z", help="This very version, instead of --bump.")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="LABEL", help="A label to move to it; may be repeated.")
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--place", envvar="HPO_MODELS", help="A folder, or s3://BUCKET/PREFIX (HPO_MODELS); models by default."
        ),
    ] = None,
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Publish in spite of its gates or a fall; the reason is kept."),
    ] = None,
    allowed_fall: Annotated[
        float, typer.Option("--allowed-fall", help="By which share the main metric may be worse than latest's.")
    ] = 0.1,
    notes: Annotated[str | None, typer.Option("--notes", metavar="TEXT", help="A word on it, which is kept.")] = None,
    import_from: ImportFrom = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Make a bundle a version of a model, for good."""
    from hpo import printing, service

    published = service.publish(
        storage, bundle, name, bump=bump, version=version, force=force, labels=labels or (), place=place,
        allowed_fall=allowed_fall, import_from=import_from, notes=notes,
    )  # fmt: skip
    printing.show_published(published, command_line("models label", storage=storage), as_json)
    if published.is_held:
        raise typer.Exit(1)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="This model alone.", show_default=False)] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """List every version of every model."""
    from hpo import printing, service

    printing.show_versions(service.models(storage, name), as_json)


@app.command()
def show(reference: Version, storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """Show where a version comes from, its gates and figures, its formats, its labels."""
    from hpo import printing, service

    shown = service.show_version(storage, reference)
    printing.show_version(shown, as_json)
    if shown.problem is not None:
        raise typer.Exit(1)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A published version's reference, or a bundle's folder.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same.")],
    import_from: ImportFrom = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Compare two versions on the same test samples."""
    from hpo import printing, service

    found = service.diff_versions(storage, old, new, import_from=import_from)
    printing.show_model_diff(found, as_json)
    if found.reason is not None:
        raise typer.Exit(1)


@app.command()
def label(
    name: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Such as v1.2.0, or another label.")],
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Such as staging, production, latest.")],
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the label away from it.")] = False,
    import_from: ImportFrom = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Move a label of a model to a version, or take it away."""
    from hpo import printing, service

    labelled = service.label_version(
        storage, name, version, label, reason=reason, remove=remove, import_from=import_from
    )
    printing.show_labelled(labelled, as_json)


@app.command()
def pull(
    reference: Version,
    out: Annotated[Path | None, typer.Option("--out", help="The bundle's folder; NAME-v1.2.0 by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Write a version's bundle into a folder, held against its checksums."""
    from hpo import printing, service

    printing.show_pulled(service.pull(storage, reference, out, overwrite=overwrite), reference, as_json)
