"""A published version told to the trackers of the study that it came from."""

from __future__ import annotations

from collections.abc import Sequence

from hpo import tracking
from hpo.errors import BundleError, UserError
from hpo.export.bundle import CONFIG
from hpo.service.registry.files import read_file
from hpo.spec import StudySpec
from storage.records import VersionRecord


def announce(version: VersionRecord, labels: Sequence[str] = (), gone: Sequence[str] = ()) -> list[str]:
    """Register a version, or labels that came to it or were taken away, with the trackers that its study file names.

    Returns what went wrong, a line each; the version stands all the same.
    """
    try:
        wanted = StudySpec.parse(read_file(version, CONFIG).decode("utf-8"), CONFIG).tracking
        tracking.check(wanted)
    except BundleError as error:
        return [f"No tracker has been told of {version.reference}: {error}"]
    except UserError:  # a bundle that came from no study file, or from one of another hpo
        return []
    return tracking.register(wanted, version, labels, gone)
