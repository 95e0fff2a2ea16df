"""Use cases around running a study: check it, launch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpo import mirror, tracking
from hpo.choice import Choice
from hpo.creation import create_or_check
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.resolve import resolve
from hpo.roles import Listener
from hpo.service.baselines import baselines
from hpo.service.looking import choose_from, has_completed
from hpo.service.preflighting import before_first_trial
from hpo.session import Session, check_runner, open_session, run_confirmation, run_search
from hpo.spec import StudySpec
from hpo.trial import Event, TrialRecord, TrialState
from storage.database import Database
from storage.records import Snapshot
from storage.studies import Studies

MakeListeners = Callable[[Plan, Sequence[TrialRecord]], Sequence[Listener]]


def _nothing(session: Session) -> None: ...


@dataclass(frozen=True)
class StudyText:
    """A study file that lies nowhere: its text, what errors call it, and the folder of the user's own modules."""

    text: str
    source: str
    folder: str


@dataclass(frozen=True)
class Launched:
    """What a launch came to."""

    name: str
    how: str  # done, interrupted, stopped (by hpo stop)
    snapshot: Snapshot
    choice: Choice | None = None  # None before a trial completed, or when interrupted
    stop_rule: str | None = None  # why a rule of the study's ``stop`` ended the search, if one did

    @property
    def all_failed(self) -> bool:
        """Whether there are trials and each one failed: the work failed, not just a trial."""
        states = {trial.state for trial in self.snapshot.trials}
        return states == {TrialState.FAIL}


def check(path: Path) -> Plan:
    """The plan of a study file, with everything about it checked; nothing is written.

    Raises:
        UserError: something in the file is wrong.
    """
    spec, _ = StudySpec.load(path)
    plan = resolve(spec, str(path), str(path.resolve().parent))
    tracking.require(spec.tracking)
    return plan


def launch(
    path: Path | StudyText,
    *,
    storage: str,
    runs: Path,
    runner: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
    skip_preflight: bool = False,
    warn: Callable[[str], None] = lambda line: None,
) -> Launched:
    """Create, resume or extend the study of a file, run it, and confirm the top of its front.

    Args:
        runs: where a new study puts its folder of trials.
        ray_address: of the Ray cluster to run on; None: this machine.
        listeners: made from the plan and the trials that ended in earlier launches.
        skip_preflight: begin a new study without trying one batch, its data and its memory first.
        warn: gets a line for each thing that the pre-flight of a new study found doubtful.

    Raises:
        UserError: the file, the storage or the combination of both is wrong; StudyChanged
            and StudyBusy among them. Nothing has been written then.
        RunnerFailed: the runner broke; the study can be launched again.
        KeyboardInterrupt: ``interrupt`` was requested before the study was made.
    """
    if isinstance(path, StudyText):
        text, source, folder = path.text, path.source, path.folder
        spec = StudySpec.parse(text, source)
    else:
        spec, text = StudySpec.load(path)
        source, folder = str(path), str(path.resolve().parent)
    plan = resolve(spec, source, folder)
    tracking.require(spec.tracking)
    check_runner(plan, runner, workers, ray_address)
    prepare = (
        _nothing
        if skip_preflight
        else before_first_trial(plan, storage, runner=runner, workers=workers, interrupt=interrupt, warn=warn)
    )
    launched = launch_plan(
        plan, text, storage=storage, runs=runs, runner=runner, workers=workers, ray_address=ray_address,
        interrupt=interrupt, listeners=listeners, prepare=prepare,
    )  # fmt: skip
    if launched.choice is not None:
        with Database(storage) as database:  # what the winner is held against in the report
            baselines(Studies(database), Studies(database).get(plan.name), plan, "validation")
    return launched


def launch_plan(
    plan: Plan,
    text: str,
    *,
    storage: str,
    runs: Path,
    runner: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
    prepare: Callable[[Session], None] = _nothing,
) -> Launched:
    """``launch`` of a plan at hand, whose study file is ``text``; ``prepare`` runs before the search does.

    Raises:
        UserError, RunnerFailed: as ``launch``.
    """
    check_runner(plan, runner, workers, ray_address)
    restored = mirror.restore(plan, storage)
    with Database(storage, create=True) as database:
        studies = Studies(database)
        mirror.check(plan, studies.find(plan.name), database.file)
        study = create_or_check(studies, plan, text, runs, restored=restored is not None)
        if restored is not None:
            studies.add_event(study, Event("restored", restored))
        with open_session(database, studies, study, plan, runner, workers, interrupt, ray_address) as session:
            if study.record.spec_yaml != text or study.import_from != plan.import_from:
                studies.update_file(study, text, plan.import_from)
            ended = [record for record in studies.trials(study).records() if record.state.is_finished]
            session = replace(session, listeners=(*session.listeners, *listeners(plan, ended)))
            prepare(session)
            stopped = run_search(session)
            if not session.interrupt.requested:
                run_confirmation(session)
            how = session.interrupt.how
        found = studies.snapshot(plan.name)
        choice = choose_from(found, plan.spec, None, ()) if how == "done" and has_completed(found) else None
        return Launched(plan.name, how, found, choice, stopped)
