"""The pre-flight of a study, in a process of its own: ``check`` asks for it, and ``launch`` once, before anything is.

A process of its own, because torch and a CUDA context would stay with the one that starts
trials for as long as they run, because what a model or a data set does there (crashing,
leaving, taking all memory) is then a finding, and because trials begin untouched by it.
``python -m hpo.preflight`` is that process: the request comes in by stdin, from its
parent alone, and the findings go out by stdout as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import hpo
from hpo.errors import UserError
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.study import make_job
from hpo.training.checks.findings import Finding, Preflight, Result
from hpo.training.settings import TrainerSettings
from hpo.trial import Job, Params, TrialRecord, TrialState, derive_seed
from objectives import registry
from objectives.base import TrainingObjective
from search_spaces.middle import complete

_LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Devices:
    """GPUs that need not be here: what each has, and how many train one trial together."""

    memory_mb: float
    number: int = 1


def applies(plan: Plan) -> bool:
    """Whether there is something to look at: an objective that trains with the shared trainer."""
    return isinstance(registry.find(plan.spec.objective, plan.import_from), TrainingObjective)


def first_point(plan: Plan) -> Params:
    """Where to look: the first enqueued point, what it leaves open from the objective's default
    parameters where they lie in the space, and the rest from the middle of the space."""
    default = registry.find(plan.spec.objective, plan.import_from).default_params
    return complete(plan.space, *plan.spec.enqueue[:1], default)


def extent(plan: Plan, runner: str | None = None, workers: int | None = None) -> dict[str, Any]:
    """The fields of ``hpo.training.checks.preflight.Extent`` for a plan: what decides what the study takes."""
    budget = plan.spec.budget
    one_by_one = (runner or plan.spec.runner) == "inline"
    return {
        "epochs": budget.epochs,
        "trials": budget.trials,
        "workers": 1 if one_by_one else workers or plan.spec.concurrency,
        "gpus": plan.spec.resources.gpus,
    }


def run(
    plan: Plan,
    *,
    runner: str | None = None,
    workers: int | None = None,
    interrupt: Interrupt | None = None,
    devices: Devices | None = None,
) -> Preflight:
    """Every check of the pre-flight at ``first_point``; nothing of it stays.

    Args:
        runner: instead of the plan's own; ``inline`` runs one trial at a time.
        workers: trials at once, for what the study takes; the study's concurrency by default.
        devices: reckon the memory alone, for these; several share the model (``strategy: fsdp``).

    Raises:
        KeyboardInterrupt: ``interrupt`` was requested meanwhile.
    """
    params, epochs = first_point(plan), plan.spec.budget.epochs
    with tempfile.TemporaryDirectory(prefix="hpo-preflight-") as folder:
        record = TrialRecord(0, TrialState.RUNNING, params, derive_seed(plan.spec.seed, 0, "trial"), epochs=epochs)
        job = make_job(plan, record, "search", Path(folder))
        taken = extent(plan, runner, workers)
        if devices is not None:
            taken["device_mb"] = devices.memory_mb
            job = replace(job, trainer=_on(devices, job.trainer))
        found = _apart((job, taken), interrupt)
    return Preflight(found.findings, params)


def _on(devices: Devices, settings: TrainerSettings) -> TrainerSettings:
    several = {"strategy": "fsdp"} if devices.number > 1 else {}
    return settings.model_copy(update={"devices": devices.number, **several})


def refusal(found: Preflight) -> UserError:
    """What to say when a check failed, and how to go on."""
    lines = "\n  ".join(finding.line for finding in found.failed)
    return UserError(
        f"The pre-flight failed, so nothing was begun:\n  {lines}\n"
        f"It looked at {_spoken(found.params)}. Mend it and launch again, or launch with --skip-preflight."
    )


def _spoken(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _apart(request: tuple[Job, dict[str, Any]], interrupt: Interrupt | None) -> Preflight:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # -P keeps the current folder off sys.path, where a user's storage.py would shadow ours.
        # A session of its own: Ctrl-C reaches the parent alone, which ends the child.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hpo.preflight"],
            stdin=subprocess.PIPE, stdout=out, stderr=err, env=_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            _send(process, request)
            while process.poll() is None:
                if interrupt is not None and interrupt.requested:
                    raise KeyboardInterrupt
                try:
                    process.wait(_LOOK_EVERY_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            _end(process)
        return _answer(process.returncode, _read(out), _read(err))


def _send(process: subprocess.Popen[bytes], request: tuple[Job, dict[str, Any]]) -> None:
    """Write the request, and leave the pipe open: its end tells the child that this process is gone."""
    pipe = process.stdin
    if pipe is None:
        return
    try:
        pipe.write(pickle.dumps(request))
        pipe.flush()
    except BrokenPipeError:
        return  # it died already, and its answer says of what


def _end(process: subprocess.Popen[bytes]) -> None:
    """No process of the pre-flight stays, a data set's workers among them."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _answer(code: int, out: bytes, err: bytes) -> Preflight:
    try:
        return Preflight.from_dict(json.loads(out))
    except (ValueError, KeyError, TypeError):
        lines = err.decode("utf-8", "replace").strip().splitlines()
        said = f" It said: {lines[-1].strip()}" if lines else ""
        how = f"ended with {code}"
        if code < 0:
            name = signal.Signals(-code).name
            how = f"was killed by {name}" + (", as a system does that has no memory left" if name == "SIGKILL" else "")
        told = f"the process that built the task and tried it {how}, and left no findings.{said}"
        return Preflight((Finding("task", Result.FAILED, told),))


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _environment() -> dict[str, str]:
    """Ours, with this very hpo on the path."""
    here = str(Path(hpo.__file__).resolve().parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


# The other side


def main() -> int:
    # Whatever a library or an objective prints must not come between the findings.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job, fields = pickle.load(sys.stdin.buffer)  # from our own parent, by a pipe
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    answer.write(json.dumps(_look(job, fields).to_dict(), default=str))
    answer.close()
    return 0


def _leave_with_parent() -> None:
    os.read(0, 1)  # nothing is ever sent; the pipe ends when the parent does
    os.killpg(0, signal.SIGKILL)


def _look(job: Job, fields: dict[str, Any]) -> Preflight:
    try:
        objective = registry.find(job.objective, job.import_from)
    except UserError as error:
        return Preflight((Finding("task", Result.FAILED, str(error)),))
    if not isinstance(objective, TrainingObjective):
        return Preflight(())
    from hpo.training.checks.preflight import Extent, preflight

    return preflight(
        lambda: objective.task(job),
        job.trainer.with_params(job.params),
        Extent(**fields),
        seed=job.seed,
        deterministic=job.deterministic,
        outline=lambda: objective.outline(job),
    )


if __name__ == "__main__":
    sys.exit(main())
