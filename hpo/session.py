"""A study that this process owns for a while: its lease, its launch record, what runs inside.

``hpo.service`` opens sessions; what happens inside one stands here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hpo import earlier, environment, mirror, runners, tracking
from hpo.archive import Archive
from hpo.choice import confirmations, top
from hpo.errors import StorageError, StorageLost, StudyChanged, UserError
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.resolve import resolve, search_settings
from hpo.roles import JobSource, Listener
from hpo.runners import address
from hpo.spec import StudySpec
from hpo.strategies.stopping import StopRules
from hpo.study import FixedJobs, FixedRun, Study
from hpo.trial import Event, TrialRecord
from storage import codec
from storage.database import Database
from storage.leases import DRAIN, Lease
from storage.records import CONFIRM, SEARCH, LaunchRecord
from storage.studies import StoredStudy, Studies


@dataclass(frozen=True)
class Session:
    """A study that this process owns for the moment: its plan, its rows, its folder."""

    plan: Plan
    study: StoredStudy
    studies: Studies
    launch: int
    workers: int
    runner: str
    interrupt: Interrupt
    listeners: Sequence[Listener] = ()
    ray_address: str | None = None

    def run(self, source: JobSource) -> None:
        resources = self.plan.spec.resources
        run = runners.find(self.runner)
        with self.interrupt.watching(source):
            run(source, workers=self.workers, cpus=resources.cpus, gpus=resources.gpus, site=self._site())

    def _site(self) -> runners.Site:
        mirror = () if self.plan.mirror is None else (str(self.plan.mirror),)
        folder = str(Path(self.study.folder).absolute())
        return runners.Site(self.ray_address, (folder, *mirror), self.plan.import_from)


def check_runner(plan: Plan, runner: str | None, workers: int | None, ray_address: str | None = None) -> None:
    """Refuse a runner or a number of workers that cannot be, before anything is written.

    Raises:
        UserError: no such runner, more workers than trials may be in flight, or no cluster there.
    """
    if ray_address is not None:
        address.check(ray_address)
    runners.find_name(runner or plan.spec.runner)
    concurrency = plan.spec.concurrency
    if workers is not None and not 1 <= workers <= concurrency:
        raise UserError(f"--workers must be between 1 and the study's concurrency ({concurrency}); got {workers}.")


@contextmanager
def open_session(
    database: Database,
    studies: Studies,
    study: StoredStudy,
    plan: Plan,
    runner: str | None,
    workers: int | None,
    interrupt: Interrupt | None,
    ray_address: str | None = None,
) -> Iterator[Session]:
    """Hold the lease and a launch record around some work on a study.

    Raises:
        UserError: as ``check_runner`` and ``mirror.check``; StudyBusy when a live process holds the lease.
        StorageLost: the database failed, or another process took the study over.
    """
    check_runner(plan, runner, workers, ray_address)
    mirror.check(plan, study, database.file)
    interrupt = interrupt or Interrupt()
    behind = mirror.StudyMirror(studies, study, plan.mirror, database.file) if plan.mirror is not None else None
    try:
        with Lease(database, study.id, study.name, interrupt.request, _obeying(interrupt)) as lease:
            launch = _Launch(studies, study, plan, runner or plan.spec.runner, workers or plan.spec.concurrency)
            with launch.recorded(interrupt) as number, contextlib.ExitStack() as beside:
                if behind is not None:
                    behind.open()
                listeners: list[Listener] = [] if behind is None else [behind]
                archive = Archive(database, studies, study, plan.spec.artifacts, interrupt)
                listeners.append(beside.enter_context(archive))
                for tracker in tracking.listeners(plan.spec.tracking, studies, study):
                    beside.callback(tracker.close)
                    listeners.append(tracker)
                yield Session(
                    plan, study, studies, number, launch.workers, launch.runner, interrupt, listeners, ray_address
                )
            if lease.lost:
                raise StorageLost(f"Another process took study {study.name!r} over; this one has stopped.")
    except StorageError as error:
        raise StorageLost(f"{error} What was acknowledged is kept; launch again when it is back.") from error
    finally:
        if behind is not None:  # after the launch's own end, so that the last snapshot has it
            behind.close()


def _obeying(interrupt: Interrupt) -> Callable[[str], None]:
    def obey(wish: str) -> None:
        interrupt.obey(wish)
        what = "what runs goes on to its end" if wish == DRAIN else "what runs stops with a checkpoint"
        mirror.say(f"hpo: Asked to stop by hpo stop: nothing more is started, {what}.")

    return obey


@dataclass(frozen=True)
class _Launch:
    """The row about one launch: who, where, with what, and how it ended."""

    studies: Studies
    study: StoredStudy
    plan: Plan
    runner: str
    workers: int

    @contextmanager
    def recorded(self, interrupt: Interrupt) -> Iterator[int]:
        may_change = {
            "budget", "resources", "retrain", "export", "enqueue", "validation", "gates", "baselines", "mirror",
            "stop", "limits", "artifacts", "tracking",
        }  # fmt: skip
        settings = self.plan.spec.model_dump(mode="json", include=may_change)
        record = LaunchRecord(
            codec.now(), None, None, socket.gethostname(), os.getpid(), self.runner, self.workers,
            settings=settings, environment=environment.describe(_code(self.plan)),
        )  # fmt: skip
        launch = self.studies.add_launch(self.study, record)
        how = "failed"
        try:
            yield launch
            how = interrupt.how
        except BaseException as error:
            how = f"failed: {type(error).__name__}"
            raise
        finally:
            runners.close(self.runner)
            # A launch without an end is what a database that went away leaves behind; the
            # error that brought us here says more than a second one would.
            with contextlib.suppress(StorageError):
                if how == "stopped":
                    left = "what ran was stopped with a checkpoint" if interrupt.at_once else "what ran came to its end"
                    self.studies.add_event(self.study, Event("stopped", f"by hpo stop: {left}"))
                self.studies.end_launch(launch, how)


def _code(plan: Plan) -> dict[str, str]:
    """Where the code of a study lies: beside its file, and where its objective's module was found."""
    module, colon, _ = plan.spec.objective.partition(":")
    file = getattr(sys.modules.get(module), "__file__", None) if colon else None
    code = {"git": plan.import_from or str(Path.cwd())}
    return code if file is None else {**code, "git_objective": str(Path(file).parent)}


def run_search(session: Session) -> str | None:
    """Run the search of a session; why it ended before its budget was spent, if it did."""
    from hpo.search.view import Search

    study, plan = session.study, session.plan
    settings = search_settings(plan)

    def make_search(records: Sequence[TrialRecord]) -> Search:
        return Search(settings, records, study.search_state)

    trials = session.studies.trials(study, SEARCH, session.launch)
    stopping = StopRules(
        plan.goals, plan.spec.stop, lag=plan.spec.concurrency if plan.spec.deterministic else None,
        worked_s=trials.worked_s,
    )  # fmt: skip
    plan = replace(plan, warm_points=earlier.kept_points(session.studies, study))
    search = Study(plan, trials, study.folder, make_search, session.listeners, stopping)
    session.run(search)
    _settle_reference(session)
    return _told(session, search.over)


def _told(session: Session, reason: str | None) -> str | None:
    """Why a rule ended the search, kept with the study when it is news."""
    known = session.studies.events(session.study, "stop_rule")
    if reason is not None and (not known or known[-1].message != reason):
        session.studies.add_event(session.study, Event("stop_rule", reason))
    return reason


def _settle_reference(session: Session) -> None:
    """Store the hypervolume's reference point once there is a front to measure."""
    import numpy as np

    from hpo.pareto import reference_point

    if session.study.record.reference_point is not None or len(session.plan.goals) < 2:
        return
    records = session.studies.trials(session.study).records()
    values = [record.values for record in records if record.values is not None and record.is_feasible]
    if len(values) >= 2:
        session.studies.set_reference_point(session.study, reference_point(np.array(values), session.plan.goals))


def run_confirmation(session: Session) -> None:
    """Run the top of the front again with fresh seeds, so that a winner is no lucky draw."""
    policy, study = session.plan.spec.retrain, session.study
    if policy.confirm == 0:
        return
    records = session.studies.trials(study).records()
    first = top(records, session.plan.goals, policy.pick, policy.confirm)
    wanted = [
        FixedRun(number, records[number].params, seed) for number, seed in confirmations(first, session.plan.spec)
    ]
    trials = session.studies.trials(study, CONFIRM, session.launch)
    session.run(
        FixedJobs(
            session.plan,
            trials,
            study.folder,
            CONFIRM,
            wanted,
            epochs=session.plan.spec.budget.epochs,
            listeners=session.listeners,
        )
    )


def stored_plan(study: StoredStudy) -> Plan:
    """The plan of a stored study, from its own file; the data must still be what it was."""
    spec = StudySpec.parse(study.record.spec_yaml, f"study {study.name!r}")
    plan = resolve(spec, f"study {study.name!r}", study.import_from)
    if plan.data_fingerprint != study.record.data_fingerprint:
        raise StudyChanged(
            f"The data of study {study.name!r} is no longer what it was searched on "
            f"(fingerprint {plan.data_fingerprint[:12]}, was {study.record.data_fingerprint[:12]})."
        )
    return plan
