"""Use cases that only look: lists, snapshots, the best trial, reports."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hpo import durable
from hpo.choice import Choice, Policy
from hpo.choice import choose as choose_trial
from hpo.errors import ExportFailed, UnknownName, UserError
from hpo.export.retrain import ship
from hpo.pareto import ParetoFront
from hpo.spec import StudySpec
from hpo.trial import TrialRecord
from storage.database import Database
from storage.records import RETRAIN, SEARCH, Snapshot, StudySummary
from storage.studies import Studies


def summaries(storage: str, tag: str | None = None) -> list[StudySummary]:
    """One summary per study of a database, or per study that has ``tag``.

    Raises:
        UnknownName: no study has it.
    """
    with Database(storage) as database:
        found = Studies(database).summaries()
    if tag is not None and not any(tag in summary.tags for summary in found):
        raise UnknownName("tag", tag, {known for summary in found for known in summary.tags})
    return [summary for summary in found if tag is None or tag in summary.tags]


def snapshot(storage: str, name: str, *, curves: bool = True) -> Snapshot:
    """Everything known of a study; without ``curves``, no trial has its points.

    Raises:
        StorageError, UnknownName: there is no such database or study.
    """
    with Database(storage) as database:
        return Studies(database).snapshot(name, curves=curves)


def choose(
    storage: str, name: str, *, pick: Policy | None = None, where: Sequence[str] = ()
) -> tuple[Snapshot, Choice]:
    """The trial that a policy picks among those for which every comparison holds.

    Raises:
        UserError: no trial is left, or the policy or a comparison is wrong.
    """
    found = snapshot(storage, name, curves=False)
    return found, choose_from(found, StudySpec.parse(found.study.spec_yaml, name), pick, where)


def report(storage: str, name: str, out: Path) -> list[Path]:
    """Write the report of a study; the files, the page first."""
    from hpo.reports.page import write_report

    found, folder = _with_folder(storage, name)
    chosen = None
    if has_completed(found):
        chosen = choose_from(found, StudySpec.parse(found.study.spec_yaml, name), None, ()).number
    return write_report(found, out, chosen=chosen, runs=_run_pictures(found, folder, chosen))


def plot_run(
    storage: str,
    name: str,
    *,
    trial: int | None = None,
    series: str = SEARCH,
    number: int | None = None,
    out: Path | None = None,
) -> Path:
    """Draw one run of a study as a PNG file; where it lies.

    Without a number, the run is the picked trial of the search (else its first), or the
    latest of another ``series``. ``out`` is ``run-STUDY-SERIES-NUMBER.png`` by default.

    Raises:
        UserError: there is no such run, it has reported nothing, or the file cannot be written.
    """
    if trial is not None and (number is not None or series != SEARCH):
        raise UserError("--trial names a trial of the search; give it alone, or --series with --number.")
    number = trial if trial is not None else number
    found, folder = _with_folder(storage, name)
    runs = _series(found, series)
    if number is None:
        number = _usual_number(found, series)
    run = next((run for run in runs if run.number == number), None)
    if run is None:
        known = ", ".join(str(run.number) for run in runs[:10]) + (", ..." if len(runs) > 10 else "")
        raise UserError(f"Series {series!r} of study {name!r} has no run {number}; it has {known or 'none'}.")
    picture = _draw(found, run, series, folder)
    path = out or Path(f"run-{name}-{series}-{number}.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, lambda temporary: temporary.write_bytes(picture))
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}. Give --out another.") from error
    return path


def _with_folder(storage: str, name: str) -> tuple[Snapshot, Path]:
    """A study's snapshot, and the folder that holds its trials'."""
    found = snapshot(storage, name)
    with Database(storage) as database:
        return found, Path(Studies(database).get(name).folder)


def _draw(found: Snapshot, run: TrialRecord, series: str, folder: Path) -> bytes:
    from hpo.reports.run_picture import draw_run
    from hpo.study import trial_folder

    return draw_run(found, run, series, trial_folder(folder, series, run.number))


def _run_pictures(found: Snapshot, folder: Path, chosen: int | None) -> dict[str, bytes]:
    """What the report shows of single runs: the chosen trial, and the retrained run that ships."""
    wanted = [] if chosen is None else [(SEARCH, found.trials[chosen])]
    retrained = found.others.get(RETRAIN, ())
    if retrained:
        newest = max(retrained, key=lambda run: run.number)
        same = [run for run in retrained if (run.subject, run.epochs) == (newest.subject, newest.epochs)]
        with suppress(ExportFailed):  # no seed completed
            wanted.append((RETRAIN, ship(same, found.study.monitor)))
    return {f"{series}-{run.number}": _draw(found, run, series, folder) for series, run in wanted if run.points}


def _series(found: Snapshot, series: str) -> Sequence[TrialRecord]:
    known = {SEARCH: found.trials, **found.others}
    if series not in known:
        raise UnknownName("series", series, known)
    return known[series]


def _usual_number(found: Snapshot, series: str) -> int:
    if series != SEARCH:
        return max((run.number for run in _series(found, series)), default=0)
    if not has_completed(found):
        return 0
    return choose_from(found, StudySpec.parse(found.study.spec_yaml, found.study.name), None, ()).number


def get_trial(found: Snapshot, number: int) -> TrialRecord:
    """A trial by its number.

    Raises:
        UserError: there is no such trial.
    """
    if not 0 <= number < len(found.trials):
        known = f"trials 0 to {len(found.trials) - 1}" if found.trials else "no trials yet"
        raise UserError(f"Study {found.study.name!r} has {known}; there is no {number}.")
    return found.trials[number]


def choose_from(found: Snapshot, spec: StudySpec, pick: Policy | None, where: Sequence[str]) -> Choice:
    return choose_trial(found, spec, pick, where)


def has_completed(found: Snapshot) -> bool:
    """Whether there is a trial to choose."""
    return bool(ParetoFront.of(found.trials, found.study.goals).numbers)
