"""Use cases around running a study: check it, launch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpo.choice import Choice
from hpo.creation import create_or_check
from hpo.interrupt import Interrupt
from hpo.plan import Plan
from hpo.resolve import resolve
from hpo.roles import Listener
from hpo.service.looking import choose_from, has_completed
from hpo.session import check_runner, open_session, run_confirmation, run_search
from hpo.spec import StudySpec
from hpo.trial import TrialRecord, TrialState
from storage.database import Database
from storage.records import Snapshot
from storage.studies import Studies

MakeListeners = Callable[[Plan, Sequence[TrialRecord]], Sequence[Listener]]


@dataclass(frozen=True)
class Launched:
    """What a launch came to."""

    name: str
    how: str  # done, interrupted
    snapshot: Snapshot
    choice: Choice | None = None  # None before a trial completed, or when interrupted

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
    return resolve(spec, str(path), str(path.resolve().parent))


def launch(
    path: Path,
    *,
    storage: str,
    runs: Path,
    runner: str | None = None,
    workers: int | None = None,
    interrupt: Interrupt | None = None,
    listeners: MakeListeners = lambda plan, ended: (),
) -> Launched:
    """Create, resume or extend the study of a file, run it, and confirm the top of its front.

    Args:
        runs: where a new study puts its folder of trials.
        listeners: made from the plan and the trials that ended in earlier launches.

    Raises:
        UserError: the file, the storage or the combination of both is wrong; StudyChanged
            and StudyBusy among them. Nothing has been written then.
        RunnerFailed: the runner broke; the study can be launched again.
    """
    spec, text = StudySpec.load(path)
    plan = resolve(spec, str(path), str(path.resolve().parent))
    check_runner(plan, runner, workers)
    with Database(storage, create=True) as database:
        studies = Studies(database)
        study = create_or_check(studies, plan, text, runs)
        with open_session(database, studies, study, plan, runner, workers, interrupt) as session:
            if study.record.spec_yaml != text or study.import_from != plan.import_from:
                studies.update_file(study, text, plan.import_from)
            ended = [record for record in studies.trials(study).records() if record.state.is_finished]
            session = replace(session, listeners=listeners(plan, ended))
            run_search(session)
            if not session.interrupt.requested:
                run_confirmation(session)
            how = "interrupted" if session.interrupt.requested else "done"
        found = studies.snapshot(plan.name)
        choice = choose_from(found, plan.spec, None, ()) if how == "done" and has_completed(found) else None
        return Launched(plan.name, how, found, choice)
