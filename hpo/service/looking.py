"""Use cases that only look: lists, snapshots, the best trial, reports, the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hpo.choice import Choice, Policy
from hpo.choice import choose as choose_trial
from hpo.errors import UserError
from hpo.spec import StudySpec
from hpo.trial import TrialRecord, TrialState
from storage.database import Database
from storage.records import Snapshot
from storage.studies import Studies, StudySummary


def summaries(storage: str) -> list[StudySummary]:
    """One summary per study of a database."""
    with Database(storage) as database:
        return Studies(database).summaries()


def snapshot(storage: str, name: str) -> Snapshot:
    """Everything known of a study.

    Raises:
        StorageError, UnknownName: there is no such database or study.
    """
    with Database(storage) as database:
        return Studies(database).snapshot(name)


def choose(
    storage: str, name: str, *, pick: Policy | None = None, where: Sequence[str] = ()
) -> tuple[Snapshot, Choice]:
    """The trial that a policy picks among those for which every comparison holds.

    Raises:
        UserError: no trial is left, or the policy or a comparison is wrong.
    """
    found = snapshot(storage, name)
    return found, choose_from(found, StudySpec.parse(found.study.spec_yaml, name), pick, where)


def report(storage: str, name: str, out: Path) -> list[Path]:
    """Write the report of a study; the files, the page first."""
    from hpo.reports.page import write_report

    found = snapshot(storage, name)
    chosen = None
    if has_completed(found):
        chosen = choose_from(found, StudySpec.parse(found.study.spec_yaml, name), None, ()).number
    return write_report(found, out, chosen=chosen)


def dashboard(storage: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve optuna-dashboard for a storage on loopback until interrupted.

    Raises:
        UserError: there is no such database, or the port is taken.
    """
    with Database(storage):
        pass  # told in our words, and before anything is served
    import optuna_dashboard

    ready(f"http://127.0.0.1:{port}/dashboard")
    try:
        optuna_dashboard.run_server(storage, host="127.0.0.1", port=port)
    except OSError as error:
        raise UserError(f"Cannot serve on port {port}: {error.strerror}. Try --port with another.") from error


def get_trial(found: Snapshot, number: int) -> TrialRecord:
    """A trial by its number.

    Raises:
        UserError: there is no such trial.
    """
    if not 0 <= number < len(found.trials):
        raise UserError(f"Study {found.study.name!r} has trials 0 to {len(found.trials) - 1}; there is no {number}.")
    return found.trials[number]


def choose_from(found: Snapshot, spec: StudySpec, pick: Policy | None, where: Sequence[str]) -> Choice:
    return choose_trial(found, spec, pick, where)


def has_completed(found: Snapshot) -> bool:
    return any(trial.state is TrialState.COMPLETE for trial in found.trials)
