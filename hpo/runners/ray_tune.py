"""Trials on Ray Tune: the only file that knows Ray. It speaks to a ``JobSource`` and no more.

A ``Searcher`` asks and finishes, a ``FIFOScheduler`` reports and stops, because only the
scheduler sees every result and only the searcher may hand out trials. Both share one
``Bridge``. Ray Tune pickles searcher and scheduler when a ``Tuner`` is built; the bridge
stays out of that, since it leads to the database.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # data paths in a study file are relative to where hpo was started
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the CLI's business
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # our database is the checkpoint
    "RAY_AIR_NEW_OUTPUT": "0",
}
# With reused actors a stopped trial that needs longer than this to unwind makes Ray abort
# the next one in its place; two seconds, Ray's default, is less than one CUDA cleanup.
_WORKER_SETTINGS = {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "600", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.error import TuneError  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from hpo.errors import RunnerFailed  # noqa: E402
from hpo.roles import JobSource  # noqa: E402
from hpo.runners.worker import pick_device, run_job  # noqa: E402
from hpo.trial import GO_ON, Decision, Done, Job, Outcome, Point, StopKind, StopReason, Wait  # noqa: E402

_JOB, _POINT, _OUTCOME = "job", "point", "outcome"
_LOST = StopReason(StopKind.LOST, "its worker died; goes on from its last checkpoint")


def run(source: JobSource, *, workers: int = 1, cpus: float = 1, gpus: float = 0) -> None:
    """Run every job of ``source``, up to ``workers`` at a time.

    A local Ray is started, unless this process is connected to one or nothing is to run;
    ``close`` ends it.

    Raises:
        RunnerFailed: Ray does not start, breaks, or cannot give one trial what it needs.
    """
    bridge = Bridge(source, workers)
    # Tune ends early when it loses track of a trial; what it lost is queued again, so ask again.
    while not bridge.is_done():
        if not ray.is_initialized():
            _start(gpus)
        bridge.workers = min(workers, _slots(cpus, gpus))
        _tune(bridge, cpus, gpus)
        bridge.give_up_running()


def close() -> None:
    """End the Ray that ``run`` started; one that somebody else started stays."""
    global _ours
    if _ours:
        ray.shutdown()
        _ours = False


class Bridge:
    """What searcher and scheduler share: the job source, and which Ray trial runs which job."""

    def __init__(self, source: JobSource, workers: int) -> None:
        self._source = source
        self.workers = workers
        self._jobs: dict[str, Job] = {}  # by Ray's trial id
        self._known: set[str] = set()  # whose worker has been noted
        self._outcomes: dict[str, Outcome] = {}
        self._next: Job | None = None
        self.broken: Exception | None = None  # what went wrong in the study; Tune would swallow it

    def is_done(self) -> bool:
        """Whether no job will come any more. A job asked for on the way is kept for ``ask``."""
        if self._next is None:
            answer = self._source.ask()
            self._next = answer if isinstance(answer, Job) else None
            return isinstance(answer, Done)
        return False

    def ask(self, trial_id: str) -> Job | Wait | Done:
        """A job for a new Ray trial, while fewer than ``workers`` run."""
        if self.broken is not None:
            return Done("the study cannot go on")
        if len(self._jobs) >= self.workers:
            return Wait("all workers are busy")
        try:
            answer = self._next or self._source.ask()
        except Exception as error:
            self.broken = error
            return Done("the study cannot go on")
        self._next = None
        if isinstance(answer, Job):
            self._jobs[trial_id] = answer
        if isinstance(answer, Done) and self._jobs:
            # A running trial may yet lose its worker and be queued again; Tune takes no further
            # trial once it has been told that there is none.
            return Wait("the last trials are running")
        return answer

    def report(self, trial_id: str, point: Point, worker: str) -> Decision:
        job = self._jobs.get(trial_id)
        if job is None or self.broken is not None:
            return Decision(_LOST)
        if trial_id not in self._known:
            self._known.add(trial_id)
            self._source.working(job.number, worker)
        try:
            decision = self._source.report(job.number, point)
        except Exception as error:
            self.broken = error
            return Decision(_LOST)
        if decision.stop is not None:
            # Ray will not say later which trials it stopped, nor why.
            self._outcomes[trial_id] = Outcome(decision.stop)
        return decision

    def outcome(self, trial_id: str, outcome: Outcome) -> None:
        self._outcomes[trial_id] = outcome

    def ended(self, trial_id: str) -> None:
        """A Ray trial is over: finish its job with what is known of how."""
        job = self._jobs.pop(trial_id, None)
        outcome = self._outcomes.pop(trial_id, None) or Outcome(_LOST)
        self._known.discard(trial_id)
        if job is None or self.broken is not None:
            return
        try:
            self._source.finish(job.number, outcome)
        except Exception as error:
            self.broken = error

    def holds(self, trial_id: str) -> bool:
        return trial_id in self._jobs

    @property
    def stop_requested(self) -> bool:
        return self._source.stop_requested

    def give_up_running(self) -> None:
        for trial_id in list(self._jobs):
            self.ended(trial_id)


@dataclass(frozen=True)
class _Parcel:
    """Something carried through Ray's dictionaries, which would print it into every trial's name."""

    content: Any

    def __repr__(self) -> str:
        return type(self.content).__name__


class _Asking(Searcher):
    """Hands out jobs as Ray trials and finishes them."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge: Bridge | None = bridge

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bridge": None}

    def suggest(self, trial_id: str) -> Any:
        bridge = _present(self._bridge)
        answer = bridge.ask(trial_id)
        if isinstance(answer, Job):
            return {_JOB: _Parcel(answer)}
        return None if isinstance(answer, Wait) else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        _present(self._bridge).ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the database holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the database holds the study."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the database holds the study."""


class _Reporting(FIFOScheduler):
    """Passes every result on and turns the answer into going on or stopping."""

    _supports_buffered_results = False  # a decision must come before the next epoch begins

    def __init__(self, bridge: Bridge, stop_file: Path) -> None:
        super().__init__()
        self._bridge: Bridge | None = bridge
        self._stop_file = stop_file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bridge": None}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        bridge = _present(self._bridge)
        if _OUTCOME in result:
            bridge.outcome(trial.trial_id, result[_OUTCOME].content)
            return str(TrialScheduler.STOP)
        if _POINT not in result:
            return str(TrialScheduler.CONTINUE)
        worker = f"{result.get('hostname', '?')}:{result.get('pid', '?')}"
        decision = bridge.report(trial.trial_id, result[_POINT].content, worker)
        return str(TrialScheduler.CONTINUE if decision.stop is None else TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        # Called on every round of Tune's loop: the place to notice a trial that Ray ended
        # without a word to the searcher.
        bridge = _present(self._bridge)
        if bridge.stop_requested:
            self._stop_file.touch()
        for trial in tune_controller.get_trials():
            if trial.is_finished() and bridge.holds(trial.trial_id):
                bridge.ended(trial.trial_id)
        return super().choose_trial_to_run(tune_controller)


def _present(bridge: Bridge | None) -> Bridge:
    if bridge is None:
        raise RunnerFailed("Ray runs a pickled copy of the searcher, which leads nowhere.")
    return bridge


class _StoppedByRayError(BaseException):
    """Ray's way to stop a trial is SystemExit, which an objective's own sys.exit is, too."""


def _work(config: dict[str, Any], device: str, stop_file: Path) -> None:
    """One job, in a Ray worker.

    A decision to stop arrives as SystemExit inside ``tune.report``. A wish to stop is also
    seen in the middle of an epoch, by a file, where worker and driver share a disk.
    """

    def send(point: Point) -> Decision:
        try:
            tune.report({_POINT: _Parcel(point)})
        except SystemExit as stop:
            raise _StoppedByRayError from stop
        return GO_ON

    try:
        outcome = run_job(config[_JOB].content, send, device=device, stop_requested=stop_file.exists)
    except _StoppedByRayError:
        raise SystemExit(0) from None
    tune.report({_OUTCOME: _Parcel(outcome)})


def _tune(bridge: Bridge, cpus: float, gpus: float) -> None:
    device, folder = pick_device(gpus), tempfile.mkdtemp(prefix="hpo-ray-")
    stop_file = Path(folder) / "stop"

    def work(config: dict[str, Any]) -> None:
        _work(config, device, stop_file)

    tuner = tune.Tuner(
        tune.with_resources(work, {"cpu": cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            num_samples=-1, search_alg=_Asking(bridge), scheduler=_Reporting(bridge, stop_file), reuse_actors=True
        ),
        run_config=tune.RunConfig(
            storage_path=folder, verbose=0, failure_config=tune.FailureConfig(max_failures=0, fail_fast=False)
        ),
    )
    try:
        with _quiet():
            tuner.fit()
    except (ray.exceptions.RayError, TuneError) as error:
        if bridge.broken is None:
            raise RunnerFailed(f"Ray failed: {error}. Launch the study again; nothing is lost.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if bridge.broken is not None:
        raise bridge.broken


_ours = False  # whether this module started the Ray that runs


def _start(gpus: float) -> None:
    global _ours
    try:
        with _quiet():
            ray.init(
                num_gpus=None if gpus else 0,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env={"env_vars": _WORKER_SETTINGS},
            )
    except Exception as error:
        raise RunnerFailed(f"Ray did not start: {error}. Try --runner inline.") from error
    _ours = True


def _slots(cpus: float, gpus: float) -> int:
    """How many trials fit into what Ray has.

    Raises:
        RunnerFailed: not even one.
    """
    has = ray.cluster_resources()
    slots = math.floor(has.get("CPU", 0) / cpus + 1e-9)
    if gpus:
        slots = min(slots, math.floor(has.get("GPU", 0) / gpus + 1e-9))
    if slots < 1:
        raise RunnerFailed(
            f"One trial needs {cpus:g} CPUs and {gpus:g} GPUs; Ray has {has.get('CPU', 0):g} and "
            f"{has.get('GPU', 0):g}. Lower 'resources' in the study file."
        )
    return slots


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's own words off the terminal; ours is the live table."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray._private", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
