"""Weights & Biases: one run per trial, in the group of its study. Offline unless a key is here or it is asked for.

All runs of a launch live in one process (``reinit="create_new"``); wandb's own service writes them.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from hpo.errors import UserError
from hpo.tracking import _facts
from hpo.tracking._roles import TrackerOptions
from hpo.trial import Job, Point, TrialRecord, TrialState
from storage.studies import StoredStudy

if TYPE_CHECKING:
    import wandb

TITLE = "Weights & Biases"
PACKAGE = "wandb"

STEP = "epoch"  # the axis of every chart
_FINISH_S = 20.0  # for the upload of a run; what is left lies in the folder for ``wandb sync``


class Options(TrackerOptions):
    """``mode`` None: what WANDB_MODE says, else online where a key is here, else offline."""

    project: str = "hpo"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None

    def settled_mode(self) -> Literal["online", "offline"]:
        wanted = self.mode or os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        return "online" if wanted == "online" else "offline"

    def check_here(self) -> None:
        if self.settled_mode() == "online" and not _has_key():
            raise UserError(
                "tracking: wandb is to be online, but no key is here; log in (wandb login), set WANDB_API_KEY, or take "
                "mode: offline."
            )


class Tracker:
    """The runs of one study in Weights & Biases."""

    def __init__(self, options: Options, study: StoredStudy) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing is told to its makers
        self._options, self._study = options, study
        self._open: list[Run] = []

    def begin(self, job: Job) -> Run:
        import wandb

        options, folder = self._options, Path(self._study.folder).absolute()
        own = _facts.run_id(self._study, job.series, job.number)
        is_new = not any(folder.glob(f"wandb/*run-*-{own}*"))
        folder.mkdir(parents=True, exist_ok=True)
        opened = wandb.init(
            project=options.project,
            entity=options.entity,
            group=self._study.name,
            job_type=job.series,
            name=_facts.run_name(job),
            id=own,
            resume="allow",
            reinit="create_new",
            mode=options.settled_mode(),
            dir=str(folder),
            config={**job.params, "hpo": _facts.of_trial(self._study, job)},
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                finish_timeout=_FINISH_S,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        opened.define_metric(STEP)
        opened.define_metric("*", step_metric=STEP)
        run = Run(opened, self._study, set() if is_new else set(range(1, job.reported + 1)))
        self._open = [*(other for other in self._open if other.is_open), run]
        return run

    def close(self) -> None:
        for run in self._open:
            run.close()
        self._open.clear()


class Run:
    """One attempt at a trial, as a run that goes on in the next."""

    def __init__(self, run: wandb.Run, study: StoredStudy, told: set[int]) -> None:
        self._run, self._study, self.told = run, study, told
        self._last = max(told, default=0)  # wandb's own step, which only rises
        self.is_open = True

    def rewind(self, step: int) -> None:
        """Nothing can be taken back: the steps come again as further rows of the same epochs."""

    def tell(self, points: Sequence[Point]) -> None:
        for point in points:
            self._last = max(self._last + 1, point.step)
            self._run.log({**point.metrics, STEP: point.step}, step=self._last)

    def end(self, record: TrialRecord) -> None:
        self._run.summary.update({**_facts.last_metrics(record, self._study.goals), **_facts.of_end(record)})
        if not record.state.is_finished:
            self._run.mark_preempting()
        self.close(failed=record.state in (TrialState.FAIL, TrialState.QUEUED))

    def close(self, *, failed: bool = False) -> None:
        if self.is_open:
            self.is_open = False
            self._run.finish(exit_code=int(failed))


def _has_key() -> bool:
    """Whether wandb would find a key where it looks for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
