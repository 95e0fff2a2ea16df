"""Use cases that keep house: make data, delete a study."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo import places
from hpo.creation import owns_folder
from hpo.errors import WorkError
from objectives import registry
from storage.database import Database
from storage.leases import Lease
from storage.records import ArtifactRecord
from storage.studies import Studies


def make_data(objective: str, out: Path, options: Mapping[str, Any]) -> Path:
    """Make an objective's data with its own maker.

    Raises:
        UserError: the objective has no maker, or an option is wrong.
    """
    return registry.find(objective, str(Path.cwd())).make_data(out, **options)


def delete(storage: str, name: str) -> Path:
    """Remove a study from the database, its folder, and its artifacts elsewhere; the folder's path.

    Raises:
        StudyBusy: it is being run.
        WorkError: it is deleted, but files of it could not be.
    """
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        with Lease(database, study.id, name):
            folder, is_own = Path(study.folder), owns_folder(study)
            kept = studies.snapshot(name, curves=False).artifacts
            studies.delete(study)
            if is_own:
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    raise WorkError(
                        f"Study {name!r} is deleted, but not all of {folder}: {error.strerror}. Remove it by hand."
                    ) from error
            _delete_elsewhere(name, kept)
        return folder


def _delete_elsewhere(name: str, kept: Sequence[ArtifactRecord]) -> None:
    for artifact in kept:
        try:
            places.parse(artifact.place).remove(artifact.id)
        except OSError as error:
            raise WorkError(
                f"Study {name!r} is deleted, but not all of its artifacts at {artifact.place}: "
                f"{error.strerror or error}. Remove them by hand."
            ) from error
