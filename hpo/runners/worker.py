"""Running one job, whatever the runner: exceptions become outcomes, nothing is swallowed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpo.errors import OutOfMemory
from hpo.runners.trial_log import TrialLog
from hpo.trial import Decision, Event, Job, Outcome, Point, StopKind, StopReason, TrialContext, TrialStopped, plain
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
        outcome = _kept(find(job.objective, job.import_from).run(job, context))
    except TrialStopped as stopped:
        return Outcome(stopped.reason, events=context.take_events())
    except (Exception, SystemExit) as error:
        # A library that calls sys.exit ends its trial, not the study.
        return Outcome(_failure(error, Path(job.folder), log), events=context.take_events())
    return replace(outcome, events=(*context.take_events(), *outcome.events))


def _kept(outcome: object) -> Outcome:
    """What an objective returned, with plain numbers and texts in it, as a study can keep it.

    Raises:
        TypeError, ValueError, OverflowError: it is no such outcome.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"run() must return an Outcome; it returned {outcome!r}.")
    reason, metrics, events = outcome.reason, outcome.metrics, tuple(outcome.events)
    if not isinstance(reason, StopReason) or reason.kind in (StopKind.LOST, StopKind.RETRY):
        raise TypeError(f"An Outcome needs a StopReason, and of a kind that is an end; got {reason!r}.")
    if not isinstance(metrics, Mapping) or not all(isinstance(event, Event) for event in events):
        raise TypeError(f"An Outcome has its metrics by name, and Events; got {metrics!r}, {events!r}.")
    return Outcome(
        StopReason(StopKind(reason.kind), str(reason.message), plain(reason.details, "The details of a StopReason")),
        {str(name): _number(name, value) for name, value in metrics.items()},
        events,
    )


def _number(metric: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"Metric {metric!r} of an Outcome must be a number; got {value!r}.") from None


def pick_device(gpus: float) -> str:
    """``cuda`` when the trial was given a share of a GPU, else ``cpu``. Imports no torch."""
    return "cuda" if gpus > 0 else "cpu"


def _failure(error: Exception | SystemExit, folder: Path, log: TrialLog) -> StopReason:
    try:
        text = str(error).strip().encode("utf-8", "backslashreplace").decode()
    except Exception as mute:  # somebody's own exception, whose text is a mistake, too
        text = f"its text could not be made ({type(mute).__name__})"
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
    seen = set[int]()
    while error is not None and id(error) not in seen:  # "raise error from error" makes a circle
        if isinstance(error, (OutOfMemory, MemoryError)) or type(error).__name__ == "OutOfMemoryError":
            return True
        seen.add(id(error))
        error = error.__cause__
    return False
