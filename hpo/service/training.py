"""Use case: one training run without a search, recorded like a study of one trial."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hpo.errors import UnknownName, UserError
from hpo.interrupt import Interrupt
from hpo.oneoff import OnePoint, default_point, point_of, study_text
from hpo.plan import Plan
from hpo.reports.wording import count
from hpo.resolve import resolve
from hpo.service.preflighting import before_first_trial
from hpo.service.running import MakeListeners, launch_plan
from hpo.session import Session
from hpo.spec import StudySpec
from hpo.study import make_job
from hpo.training.settings import EarlyStopping
from hpo.trial import Event, StopKind, StopReason, TrialRecord, TrialState
from objectives import registry
from objectives.base import Objective, TrainingObjective
from search_spaces import Choice
from storage.database import Database
from storage.records import SEARCH, Snapshot
from storage.studies import Studies

EPOCHS = 5  # unless somebody says otherwise
SMOKE = "smoke-"
SMOKE_BATCHES = 4  # per epoch and evaluation


@dataclass(frozen=True)
class TrainOrder:
    """What somebody wants trained.

    ``params`` and ``data`` are laid over the objective's defaults; names in ``params``
    that are no parameter are settings of the trainer. ``objective`` may be left out, and
    ``epochs`` and ``seed`` are the checkpoint's, where ``resume`` names one. ``smoke``
    tries everything out: one epoch on a few batches.
    """

    objective: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    seed: int | None = None
    accelerator: str = "cpu"  # or gpu
    devices: int = 1
    resume: Path | None = None
    smoke: bool = False
    name: str | None = None
    runner: str = "inline"
    ray_address: str | None = None


@dataclass(frozen=True)
class Trained:
    """What a run came to; ``folder`` holds its checkpoints, ``assumed`` names values that nobody gave."""

    name: str
    how: str  # done, interrupted, stopped (by hpo stop)
    trial: TrialRecord | None  # None when it was interrupted before it began
    folder: Path
    seconds: float | None  # of work, pauses left out
    snapshot: Snapshot
    assumed: Mapping[str, Any]

    @property
    def failed(self) -> bool:
        return self.trial is not None and self.trial.state is TrialState.FAIL


def run_name(order: TrainOrder, runs: Path) -> str:
    """The name of the run's study: the given one, or one with the date that has no folder in ``runs`` yet.

    Raises:
        UserError: neither an objective nor a usable checkpoint is given.
    """
    prefix = SMOKE if order.smoke else "train-"
    if order.name is not None:
        return order.name if not order.smoke or order.name.startswith(SMOKE) else SMOKE + order.name
    what = _objective_name(order, None if order.resume is None else _read(order.resume)).rpartition(":")[2]
    wanted = f"{prefix}{what}-{datetime.now():%Y%m%d-%H%M%S}"
    name, n = wanted, 1
    while (runs / name).exists():
        n += 1
        name = f"{wanted}-{n}"
    return name


def train(
    order: TrainOrder,
    *,
    storage: str,
    runs: Path,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
    skip_preflight: bool = False,
    warn: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train once. The same order with the same name again goes on with what was interrupted.

    Args:
        warn: gets a line for each thing that the pre-flight found doubtful.

    Raises:
        UserError: the order, the checkpoint or the storage is wrong, or a check of the
            pre-flight failed; StudyChanged when the name belongs to another run. Nothing
            has been written then.
        KeyboardInterrupt: ``interrupt`` was requested during the pre-flight.
        RunnerFailed: the runner broke; the same order goes on.
    """
    state = None if order.resume is None else _read(order.resume)
    name = _objective_name(order, state)
    _check_accelerator(order)
    objective = registry.find(name, str(Path.cwd()))
    if state is not None and not isinstance(objective, TrainingObjective):
        raise UserError(f"{name} does not train with the shared trainer, so it cannot go on from a checkpoint.")
    point, data = _point(order, objective, name, state)
    text = study_text(
        run_name(order, runs),
        name,
        point,
        data=data,
        epochs=_epochs(order, state),
        seed=_seed(order, state),
        gpus=order.devices if order.accelerator == "gpu" else 0,
        runner=order.runner,
        report=state["job"]["report"] if state else "best",
    )
    plan = resolve(StudySpec.parse(text, "hpo train"), "hpo train", str(Path.cwd()))

    if state is not None and order.resume is not None:
        from hpo.training.checkpoints.takeup import check_monitored

        check_monitored(state, order.resume, plan.monitor, _stopping(plan))

    # A smoke run is a pre-flight itself, and what goes on from a checkpoint has flown.
    keep_findings = None
    if not (order.smoke or state is not None or skip_preflight):
        keep_findings = before_first_trial(plan, storage, runner=None, workers=None, interrupt=interrupt, warn=warn)

    def prepare(session: Session) -> None:
        if keep_findings is not None:
            keep_findings(session)
        if state is not None and order.resume is not None:
            _take_up(session, state, order.resume)

    launched = launch_plan(
        plan, text, storage=storage, runs=runs, ray_address=order.ray_address, interrupt=interrupt,
        listeners=listeners, prepare=prepare,
    )  # fmt: skip
    from hpo.reports.facts import Facts

    trial = next(iter(launched.snapshot.trials), None)
    with Database(storage) as database:
        folder = Path(Studies(database).get(plan.name).folder)
    return Trained(
        plan.name,
        launched.how,
        trial,
        folder if trial is None else Path(make_job(plan, trial, SEARCH, folder).folder),
        None if trial is None else Facts(launched.snapshot).worked_s.get(trial.number),
        launched.snapshot,
        {parameter: point.params[parameter] for parameter in point.assumed},
    )


def _read(path: Path) -> dict[str, Any]:
    from hpo.training.checkpoints.takeup import read_resumable

    return read_resumable(path)


def _objective_name(order: TrainOrder, state: Mapping[str, Any] | None) -> str:
    if state is None:
        if order.objective is None:
            raise UserError("Say what to train: hpo train OBJECTIVE (hpo objectives lists them), or --resume CKPT.")
        return order.objective
    found = str(state["job"]["objective"])
    if order.objective not in (None, found):
        raise UserError(f"{order.resume} is a checkpoint of {found}, not of {order.objective}; leave the name out.")
    return found


def _check_accelerator(order: TrainOrder) -> None:
    if order.accelerator not in ("cpu", "gpu"):
        raise UnknownName("accelerator", order.accelerator, ("cpu", "gpu"))
    if order.accelerator == "cpu":
        most = max(8, os.cpu_count() or 1)
        if order.devices > most:
            raise UserError(f"--devices: at most {most} processes on this CPU; got {order.devices}.")
        return
    from hpo.training.accelerators import gpu_count

    found = gpu_count()
    if found == 0:
        raise UserError("--accelerator gpu: torch sees no GPU here. Use --accelerator cpu, or a torch for CUDA.")
    if order.devices > found:
        raise UserError(f"--devices: torch sees {count(found, 'GPU')} here; got {order.devices}.")


def _point(
    order: TrainOrder, objective: Objective, name: str, state: Mapping[str, Any] | None
) -> tuple[OnePoint, dict[str, Any]]:
    """Where to train, and on what data; the options that are settings of the trainer among it."""
    given = dict(order.params)
    if order.devices > 1:
        given["devices"] = order.devices
    if order.smoke and isinstance(objective, TrainingObjective):
        given.setdefault("limit_batches", SMOKE_BATCHES)
        if "warmup_epochs" in objective.default_params:
            given.setdefault("warmup_epochs", 0)  # its one epoch leaves no room for any
    if order.devices > 1 and not isinstance(objective, TrainingObjective):
        raise UserError(f"--devices: {name} does not train with the shared trainer, so one process is all it can use.")
    if state is None:
        data = {**objective.default_data, **order.data}
        return default_point(objective, data, given), data
    job = state["job"]
    return point_of(objective, job["params"], state["settings"], given), {**job["data"], **order.data}


def _epochs(order: TrainOrder, state: Mapping[str, Any] | None) -> int:
    """How many epochs to train; a smoke run trains one more than there are."""
    done = 0 if state is None else int(state["epoch"])
    if order.smoke and order.epochs is None:
        return done + 1
    epochs = order.epochs or (EPOCHS if state is None else int(state["job"]["epochs"]))
    if epochs <= done:
        raise UserError(f"{order.resume} has {done} epochs behind it; --epochs must be above that, got {epochs}.")
    return epochs


def _seed(order: TrainOrder, state: Mapping[str, Any] | None) -> int:
    """The study's seed, which splits the data."""
    if state is None:
        return order.seed or 0
    seed = int(state["job"]["data_seed"])
    if order.seed not in (None, seed):
        raise UserError(
            f"--seed {order.seed} would split the data anew, and the checkpoint's model has seen what would then "
            f"be validation data. Its seed is {seed}; leave --seed out."
        )
    return seed


def _params(plan: Plan) -> dict[str, Any]:
    """The one point of the plan's space."""
    return {name: parameter.choices[0] for name, parameter in plan.space.items() if isinstance(parameter, Choice)}


def _stopping(plan: Plan) -> EarlyStopping | None:
    return plan.trainer.with_params(_params(plan)).early_stopping


def _take_up(session: Session, state: Mapping[str, Any], source: Path) -> None:
    """Enter the one trial as interrupted with the checkpoint in its folder, so that it goes on from there.

    Where the trial is there already, an earlier call has done it.
    """
    from hpo.training.checkpoints.takeup import place

    trials = session.studies.trials(session.study, SEARCH, session.launch)
    if trials.records():
        return
    plan, job = session.plan, state["job"]
    params = _params(plan)
    first = TrialRecord(0, TrialState.QUEUED, params, int(job["seed"]))
    lost = place(
        state,
        source,
        Path(make_job(plan, first, SEARCH, Path(session.study.folder)).folder),
        monitor=plan.monitor,
        stopping=_stopping(plan),
        report=plan.spec.report,
    )
    fold = tuple(job["fold"]) if job["fold"] else None
    trials.start(0, params, seed=first.seed, epochs=plan.spec.budget.epochs, fold=fold)
    origin = f"{source.resolve()}, {job['study']} {job['series']} {job['number']} at epoch {state['epoch']}"
    trials.finish(
        0,
        StopReason(StopKind.INTERRUPTED, f"goes on from {origin}"),
        values=None,
        metrics={},
        best_step=None,
        attempt=1,
        events=[Event("taken_up", f"goes on from {origin}" + (f"; {lost}" if lost else ""))],
    )
