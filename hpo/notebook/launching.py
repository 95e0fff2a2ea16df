"""Launching a study from Python: the same as ``hpo launch``, and the study comes back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo import service
from hpo.errors import UserError
from hpo.notebook.document import written
from hpo.notebook.progress import shown
from hpo.notebook.study import StudyView, default_storage
from hpo.service import Launched, StudyText
from hpo.spec import StudySpec
from hpo.terminal import say

_CELL = "__main__:"  # an objective of a notebook's cell, or of the script that runs


class Interrupted(KeyboardInterrupt):
    """A launch was interrupted and has stopped with checkpoints; ``study`` is what there is of it.

    A ``KeyboardInterrupt``, so that a notebook runs no further cells.
    """

    def __init__(self, study: StudyView) -> None:
        super().__init__(
            f"Study {study.name!r} was interrupted; nothing is lost. Launch it again to go on; "
            f"hpo.open_study({study.name!r}) shows what there is."
        )
        self.study = study

    def _render_traceback_(self) -> list[str]:
        return [f"hpo: {self}"]


def launch(
    study: str | Path | Mapping[str, Any],
    *,
    storage: str | None = None,
    runs: str | Path | None = None,
    runner: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    skip_preflight: bool = False,
) -> StudyView:
    """Create, resume or extend a study, run it to its end, and give it back.

    Args:
        study: the path of a study file, or a mapping with the same fields. In a mapping the objective may be a
            class, a function or what ``adopt`` made. One that a notebook's cell defines is known to this process
            alone: its trials run here (``runner: inline``), and there is no pre-flight.
        storage: the database's URL; by default ``HPO_STORAGE``, else ``sqlite:///hpo.db``.
        runs: the folder under which a new study makes its own; by default ``HPO_RUNS``, else ``runs``.
        runner: ``inline`` or ``ray``, instead of the study's own.
        workers: trials at once, 1 to the study's ``concurrency``.
        ray_address: of a Ray cluster (``HOST:PORT`` or ``auto``), and the runner is then ``ray``; by default
            ``HPO_RAY_ADDRESS``.
        skip_preflight: begin a new study without trying one batch, its data and its memory first.

    Raises:
        UserError: the study, the storage or the combination of both is wrong; nothing has been written then.
        WorkError: the runner broke, or the database failed; launch again to go on.
        Interrupted: Ctrl-C or the notebook's stop button; launch again to go on.
    """
    told = _told(study)
    ray_address = ray_address or os.environ.get("HPO_RAY_ADDRESS")
    runner = runner or (None if ray_address is None else "ray")
    in_cell = isinstance(told, StudyText) and _is_in_cell(told, runner)
    url = storage or default_storage()
    with shown() as progress:
        launched = service.launch(
            told, storage=url, runs=Path(runs or os.environ.get("HPO_RUNS", "runs")), runner=runner, workers=workers,
            ray_address=ray_address, interrupt=progress.interrupt, listeners=progress.listeners,
            skip_preflight=skip_preflight or in_cell, warn=say,
        )  # fmt: skip
    found = StudyView(launched.name, url)
    if launched.how == "interrupted":
        raise Interrupted(found)
    _say_end(launched)
    return found


def _told(study: object) -> Path | StudyText:
    if isinstance(study, Mapping):
        return written(study)
    if isinstance(study, (str, Path)):
        return Path(study)
    raise UserError(f"launch takes the path of a study file, or a mapping with its fields; got {study!r}.")


def _is_in_cell(told: StudyText, runner: str | None) -> bool:
    """Whether the objective is known to this process alone.

    Raises:
        UserError: it is, and the trials are to run in others.
    """
    spec = StudySpec.parse(told.text, told.source)
    if not spec.objective.startswith(_CELL):
        return False
    name, where = spec.objective.removeprefix(_CELL), runner or spec.runner
    if where != "inline" or spec.trainer.devices > 1:
        what = f"runner {where!r}" if where != "inline" else "trainer.devices above 1"
        raise UserError(
            f"objective: {name} is defined in this notebook or script, where the processes of {what} cannot find it. "
            "Put it into a module (a .py file beside this one) and import it, or leave that out."
        )
    return True


def _say_end(launched: Launched) -> None:
    """What the study itself does not show."""
    if launched.stop_rule is not None:
        say(f"The search has ended early: {launched.stop_rule}.")
    if launched.how == "stopped":
        say("Stopped by hpo stop; nothing is lost. Launch again to go on.")
    elif launched.all_failed:
        reason = launched.snapshot.trials[0].reason
        say(f"Every trial failed. The first: {reason.message if reason else 'no reason was kept'}")
