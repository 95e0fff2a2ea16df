"""A study that this process owns for a while: its lease, its launch record, its search.

``hpo.service`` opens sessions; what happens inside one stands here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpo import environment, runners
from hpo.choice import top
from hpo.errors import StudyChanged, StudyFileError, UserError
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.resolve import resolve, search_settings
from hpo.spec import StudySpec
from hpo.study import FixedJobs, JobSource, Listener, Study
from hpo.trial import Event, Params, TrialRecord, derive_seed
from objectives import registry
from storage import codec
from storage.database import Database
from storage.leases import Lease
from storage.records import CONFIRM, SEARCH, LaunchRecord, StudyRecord
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

    def run(self, source: JobSource) -> None:
        resources = self.plan.spec.resources
        run = runners.find(self.runner)
        with self.interrupt.watching(source):
            run(source, workers=self.workers, cpus=resources.cpus, gpus=resources.gpus)


@contextmanager
def open_session(
    database: Database,
    studies: Studies,
    study: StoredStudy,
    plan: Plan,
    runner: str | None,
    workers: int | None,
    interrupt: Interrupt | None,
) -> Iterator[Session]:
    """Hold the lease and a launch record around some work on a study."""
    concurrency = plan.spec.concurrency
    if workers is not None and not 1 <= workers <= concurrency:
        raise UserError(f"--workers must be between 1 and the study's concurrency ({concurrency}); got {workers}.")
    runner = runner or plan.spec.runner
    runners.find_name(runner)
    workers = workers or concurrency
    interrupt = interrupt or Interrupt()
    with Lease(database, study.id, study.name):
        record = LaunchRecord(
            codec.now(), None, None, socket.gethostname(), os.getpid(), runner, workers,
            settings=plan.spec.model_dump(mode="json", include={"budget", "resources", "retrain", "export"}),
            environment=environment.describe(),
        )  # fmt: skip
        launch = studies.add_launch(study, record)
        how = "failed"
        try:
            yield Session(plan, study, studies, launch, workers, runner, interrupt)
            how = "interrupted" if interrupt.requested else "done"
        except BaseException as error:
            how = f"failed: {type(error).__name__}"
            raise
        finally:
            runners.close(runner)
            studies.end_launch(launch, how)


def create_or_check(studies: Studies, plan: Plan, text: str, runs: Path) -> StoredStudy:
    study = studies.find(plan.name)
    if study is None:
        record = StudyRecord(
            name=plan.name,
            objective=plan.spec.objective,
            spec_yaml=text,
            digest=plan.digest,
            goals=plan.goals,
            monitor=plan.monitor,
            data_fingerprint=plan.data_fingerprint,
            created_at=codec.now(),
        )
        folder = str((runs / plan.name).resolve())
        study = studies.create(
            record, identity=plan.identity(), space=plan.space, folder=folder, import_from=plan.import_from
        )
        _keep_split(studies, study, plan)
        return study
    if study.record.digest != plan.digest:
        lines = "\n  ".join(plan.differences(study.identity))
        raise StudyChanged(
            f"Study {plan.name!r} was made from another description, so nothing was run:\n  {lines}\n"
            "Give the file another name to begin a new study, or take the changes back."
        )
    done = len(studies.trials(study).records())
    trials = plan.spec.budget.trials
    if trials is not None and trials < done:
        raise StudyFileError(
            f"budget.trials is {trials}, but study {plan.name!r} has {done} trials already; it can only grow."
        )
    return study


def _keep_split(studies: Studies, study: StoredStudy, plan: Plan) -> None:
    """Remember which records the study trained, validated and will test on."""
    objective = registry.find(plan.spec.objective, plan.import_from)
    parts = {part: list(ids) for part, ids in objective.split_ids(plan.data, plan.spec.seed).items()}
    if parts:
        sizes = ", ".join(f"{len(ids)} {part}" for part, ids in parts.items())
        studies.add_event(study, Event("split", f"data seed {plan.spec.seed}: {sizes}", parts))


def run_search(session: Session) -> None:
    from hpo.search.view import Search

    study, plan = session.study, session.plan
    settings = search_settings(plan)

    def make_search(records: Sequence[TrialRecord]) -> Search:
        return Search(settings, records, study.search_state)

    trials = session.studies.trials(study, SEARCH, session.launch)
    session.run(Study(plan, trials, study.folder, make_search, session.listeners))
    _settle_reference(session)


def _settle_reference(session: Session) -> None:
    """Store the hypervolume's reference point once there is a front to measure."""
    import numpy as np

    from hpo.pareto import reference_point

    if session.study.record.reference_point is not None or len(session.plan.goals) < 2:
        return
    records = session.studies.trials(session.study).records()
    values = [record.values for record in records if record.values is not None]
    if len(values) >= 2:
        session.studies.set_reference_point(session.study, reference_point(np.array(values), session.plan.goals))


def run_confirmation(session: Session) -> None:
    """Run the top of the front again with fresh seeds, so that a winner is no lucky draw."""
    policy, study = session.plan.spec.retrain, session.study
    if policy.confirm == 0:
        return
    records = session.studies.trials(study).records()
    wanted: list[tuple[int, Params, int]] = []
    for number in top(records, session.plan.goals, policy.pick, policy.confirm):
        seeds = [derive_seed(session.plan.spec.seed, number, "confirm", i) for i in range(policy.confirm_seeds)]
        wanted += [(number, records[number].params, seed) for seed in seeds]
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
