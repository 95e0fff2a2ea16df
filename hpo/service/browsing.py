"""The use case behind ``hpo dashboard``: optuna-dashboard with what hpo keeps of each trial."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import BinaryIO

from hpo import places
from hpo.errors import UserError
from storage import artifacts
from storage.database import Database

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # so that no name climbs out of its place
_READ_ONLY = "hpo dashboard only shows artifacts. hpo prune-artifacts deletes them; remarks go into notes."


class StudyArtifacts:
    """The artifacts of every study of a database, each from its own place, as a store of Optuna's. Read-only.

    Fulfils ``optuna.artifacts._protocol.ArtifactStore``; an upload does not say which study it is for.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The bytes of an artifact; a refusal that the browser understands where they cannot be had."""
        from bottle import HTTPError

        found = artifacts.find(self._database, artifact_id) if _ID.fullmatch(artifact_id) else None
        if found is None:
            raise HTTPError(404, "hpo keeps no such artifact.")
        try:
            with places.parse(found.place).open(found.id) as file:
                return io.BytesIO(file.read())
        except OSError as error:
            reason = f"{found.filename} cannot be read at {found.place}: {error.strerror or error}."
            raise HTTPError(404, reason) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._refuse()

    def remove(self, artifact_id: str) -> None:
        self._refuse()

    def _refuse(self) -> None:
        from bottle import HTTPError

        raise HTTPError(403, _READ_ONLY)


def dashboard(storage: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve optuna-dashboard for a storage on loopback until interrupted.

    Raises:
        UserError: there is no such database, or the port is taken.
    """
    with Database(storage) as database:  # told in our words, and before anything is served
        import optuna_dashboard

        ready(f"http://127.0.0.1:{port}/dashboard")
        try:
            optuna_dashboard.run_server(storage, host="127.0.0.1", port=port, artifact_store=StudyArtifacts(database))
        except OSError as error:
            raise UserError(f"Cannot serve on port {port}: {error.strerror}. Try --port with another.") from error
