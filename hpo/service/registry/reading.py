"""Use cases that look at published models: find a version by its reference, list, show, fetch one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpo.errors import BundleError, StorageError, UnknownName, UserError
from hpo.export.bundle import METRICS, ModelBundle, read_checksums
from hpo.export.manifest import VERSION, Manifest
from hpo.service.registry.diff import ModelDiff, diff
from hpo.service.registry.files import opened_version, read_file
from hpo.service.registry.names import Reference, parse_reference
from storage.database import Database
from storage.records import LabelMoveRecord, RegisteredModel, VersionRecord
from storage.registry import Registry


@dataclass(frozen=True)
class ShownVersion:
    """All that is known of a version.

    ``metrics`` are those of its bundle; None where they cannot be read, and then ``problem`` says why.
    """

    version: VersionRecord
    manifest: Manifest
    labels: Sequence[str]
    moves: Sequence[LabelMoveRecord]  # of its model's labels, to or from this version
    metrics: Mapping[str, Any] | None
    problem: str | None


@contextmanager
def opened(storage: str, reference: str) -> Iterator[ModelBundle]:
    """The bundle that ``reference`` names: a folder, ``NAME@v1.2.0``, ``NAME@LABEL``, or ``NAME`` for its latest.

    A version at a folder is opened where it lies; one of a bucket is taken into a folder that
    is gone on leaving. The database is not opened for a folder.

    Raises:
        UnknownName: there is no such model, version or label.
        BundleError: a file of it is missing or has changed.
    """
    named = parse_reference(reference)
    if isinstance(named, Path):
        yield ModelBundle.open(named)
        return
    with opened_version(_look_up(storage, named)) as bundle:
        yield bundle


def models(storage: str, name: str | None = None) -> list[RegisteredModel]:
    """Every model of a database, or the one called ``name``.

    Raises:
        UnknownName: there is no model of that name.
    """
    with Database(storage) as database:
        registry = Registry(database)
        return [registry.get(each) for each in ([name] if name else registry.names())]


def show_version(storage: str, reference: str) -> ShownVersion:
    """Where a version comes from, how good it is, and what became of it.

    Raises:
        UnknownName: there is no such model, version or label.
    """
    named = _published(reference)
    with Database(storage) as database:
        registry = Registry(database)
        model = registry.get(named.model)
        version = version_of(model, named.wanted)
        moves = [move for move in registry.moves(model.name) if version.name in (move.before, move.after)]
    metrics, problem = None, None
    try:
        metrics = json.loads(read_file(version, METRICS))
    except BundleError as error:
        problem = str(error)
    return ShownVersion(version, _manifest(version), model.labels_of(version), moves, metrics, problem)


def diff_versions(storage: str, old: str, new: str, *, import_from: Path | None = None) -> ModelDiff:
    """``hpo.service.registry.diff.diff`` of two references."""
    with opened(storage, old) as before, opened(storage, new) as after:
        return diff(before, after, import_from=import_from)


def pull(storage: str, reference: str, out: Path | None = None, *, overwrite: bool = False) -> ModelBundle:
    """Write a version's bundle as the folder ``out``, ``NAME-v1.2.0`` by default: as it was published, or not at all.

    Raises:
        UnknownName: there is no such model, version or label.
        BundleError: its files are gone or have changed, or ``out`` is there already or cannot be written.
    """
    version = _look_up(storage, _published(reference))
    with opened_version(version) as bundle:

        def fill(folder: Path) -> None:
            for name in read_checksums(bundle.folder):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.folder / name, folder / name)

        out = out or Path(f"{version.model}-{version.name}")
        return ModelBundle.write(out, fill, overwrite=overwrite, digest=version.digest)


def version_of(model: RegisteredModel, wanted: str) -> VersionRecord:
    """The version of that number or label.

    Raises:
        UnknownName: there is none.
    """
    versions = {version.name: version for version in model.versions}
    by_name = versions | dict(model.labels)
    found = by_name.get(wanted) or versions.get(f"v{wanted}")
    if found is None:
        raise UnknownName(f"version or label of {model.name}", wanted, by_name)
    return found


def _manifest(version: VersionRecord) -> Manifest:
    try:
        return Manifest.model_validate(version.manifest)
    except ValidationError as error:
        found = version.manifest.get("version")
        raise BundleError(
            f"{version.reference} cannot be shown: its manifest is of version {found}, and this hpo reads up to "
            f"{VERSION}. Install the hpo that it was published with ({version.created_at[:10]}), or a newer one."
        ) from error


def _published(reference: str) -> Reference:
    named = parse_reference(reference)
    if isinstance(named, Path):
        raise UserError(f"A published version is named NAME@v1.2.0, NAME@LABEL or NAME; {reference!r} is a folder.")
    return named


def _look_up(storage: str, named: Reference) -> VersionRecord:
    try:
        with Database(storage) as database:
            registry = Registry(database)
            model = registry.find(named.model)
            if model is None:
                raise UnknownName("bundle's folder or model", named.model, registry.names())
    except StorageError as error:
        raise StorageError(f"{named.model} is no bundle's folder, and no model can be looked up: {error}") from error
    return version_of(model, named.wanted)
