"""Running one job, whatever the runner: exceptions become outcomes, nothing is swallowed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpo.errors import OutOfMemory
from hpo.runners.trial_log import TrialLog
from hpo.trial import Decision, Job, Outcome, Point, StopKind, StopReason, TrialContext, TrialStopped
from objectives.registry import find


def run_job(
    job: Job,
    send: Callable[[Point], Decision],
    *,
    device: str = "cpu",
    stop_requested: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a job to its end, with a log of it in its folder.

    An exception of the objective is an outcome of kind ERROR whose reason names it; the
    traceback goes to ``error.txt`` in the trial's folder. Nothing of the trial stays in the
    process: the next one, and whoever shares the device, finds its memory free.
    """
    try:
        with TrialLog(job, device) as log:
            outcome = _run(job, log, send, device, stop_requested)
            log.ended(outcome)
        return outcome if log.trouble is None else replace(outcome, events=(*outcome.events, log.trouble))
    finally:
        if device != "cpu" and "torch" in sys.modules:  # only now that the trial's last frame is gone
            from hpo.training.process import release_cached

            release_cached()


def _run(
    job: Job,
    log: TrialLog,
    send: Callable[[Point], Decision],
    device: str,
    stop_requested: Callable[[], bool],
) -> Outcome:
    context = TrialContext(job, log.passing(send), device=device, stop_requested=stop_requested)
    try:
        outcome = find(job.objective, job.import_from).run(job, context)
        if not isinstance(outcome, Outcome):
            raise TypeError(f"run() must return an Outcome; it returned {outcome!r}.")
    except TrialStopped as stopped:
        return Outcome(stopped.reason)
    except (Exception, SystemExit) as error:
        # A library that calls sys.exit ends its trial, not the study.
        return Outcome(_failure(error, Path(job.folder), log), events=context.take_events())
    return Outcome(outcome.reason, outcome.metrics, (*context.take_events(), *outcome.events))


def pick_device(gpus: float) -> str:
    """``cuda`` when the trial was given a share of a GPU, else ``cpu``. Imports no torch."""
    return "cuda" if gpus > 0 else "cpu"


def _failure(error: Exception | SystemExit, folder: Path, log: TrialLog) -> StopReason:
    text = str(error).strip().encode("utf-8", "backslashreplace").decode()
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    whole = "".join(traceback.format_exception(error))
    log.say(whole)
    try:
        (folder / "error.txt").write_text(whole, encoding="utf-8", errors="backslashreplace")
        message += f" (traceback: {folder / 'error.txt'})"
    except OSError as unwritten:
        message += f" (its traceback could not be kept: {unwritten})"
    return StopReason(StopKind.OUT_OF_MEMORY if _ran_out_of_memory(error) else StopKind.ERROR, message)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was the cause; torch's own error is known by its name, because torch may not be loaded here."""
    while error is not None:
        if isinstance(error, (OutOfMemory, MemoryError)) or type(error).__name__ == "OutOfMemoryError":
            return True
        error = error.__cause__
    return False
