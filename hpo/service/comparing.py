"""Use case: studies side by side, of one database or of several."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hpo.errors import UnknownName, UserError
from hpo.reports.comparison.sides import Entrant, SideBySide, grouped, labelled
from hpo.reports.spending import Unit
from hpo.service.looking import choose_from, has_completed
from hpo.spec import StudySpec
from hpo.trial import Goal
from storage.database import Database
from storage.records import Snapshot
from storage.studies import Studies


class _Named(NamedTuple):
    """A study as it was asked for."""

    name: str
    storage: str


def compare(
    storage: str,
    studies: Sequence[str],
    *,
    goals: Sequence[str] = (),
    by: str | None = None,
    by_seed: bool = True,
) -> SideBySide:
    """Hold studies against the first of them; nothing is changed.

    Args:
        studies: each a name, a ``NAME@URL`` of another database, or several with commas between them,
            which are then one group: repetitions of one setting.
        goals: compare by these alone; by all of them when empty.
        by: the spending at which differences are told, a ``Unit``; epochs where they are known, else trials.
        by_seed: where no group is written, make one of studies that differ in name and seed alone.

    Raises:
        UserError: fewer than two studies or groups, one twice, goals that differ or are not shared by all,
            or an unknown spending.
        StorageError, UnknownName: there is no such database or study.
    """
    unit = None if by is None else _unit(by)
    asked = [[_named(text, storage) for text in group.split(",")] for group in studies]
    if sum(map(len, asked)) < 2:
        raise UserError("Give two studies or more to compare, such as: hpo compare tpe random.")
    if len(asked) < 2:
        raise UserError(f"One group has nothing to be compared with; give another beside {studies[0]}.")
    found = _entrants([name for group in asked for name in group])
    shared = _shared(found, goals)
    compared = iter([_with_goals(entrant, shared) for entrant in found])
    groups = [[next(compared) for _ in group] for group in asked]
    if by_seed and all(len(group) == 1 for group in groups):
        made = grouped([entrant for group in groups for entrant in group])
    else:
        made = labelled(groups)
    left_out = {goal.metric: None for entrant in found for goal in entrant.snapshot.study.goals if goal not in shared}
    side_by_side = SideBySide(made, unit or Unit.EPOCHS, tuple(left_out))
    if unit is None and Unit.EPOCHS not in side_by_side.units:
        return replace(side_by_side, unit=Unit.TRIALS)
    if unit is not None and unit not in side_by_side.units:
        known = ", ".join(side_by_side.units)
        raise UserError(f"--by {unit}: not every study has it recorded. Known of all of them: {known}.")
    return side_by_side


def write_comparison(found: SideBySide, out: Path) -> list[Path]:
    """Write the page of a comparison and its plots into a folder; the files, the page first.

    Raises:
        UserError: the folder cannot be written to.
    """
    from hpo.reports.comparison.page import write_page

    return write_page(found, out)


def _unit(text: str) -> Unit:
    if text not in list(Unit):
        raise UnknownName("spending", text, list(Unit))
    return Unit(text)


def _named(text: str, storage: str) -> _Named:
    name, _, url = text.strip().partition("@")
    if not name:
        raise UserError(f"Write a study's name, NAME@URL, or names with commas between them; got {text!r}.")
    return _Named(name, url or storage)


def _entrants(asked: Sequence[_Named]) -> list[Entrant]:
    found: list[Entrant] = []
    seen: dict[tuple[str, str], str] = {}
    names = [each.name for each in asked]
    with ExitStack() as stack:
        databases = {url: stack.enter_context(Database(url)) for url in dict.fromkeys(each.storage for each in asked)}
        for each in asked:
            database = databases[each.storage]
            studies = Studies(database)
            study = studies.get(each.name)
            label = each.name if names.count(each.name) == 1 else f"{each.name}@{database.name}"
            # A copy of a database holds the same study again.
            key = (study.record.digest, study.record.created_at)
            if key in seen:
                other = "" if seen[key] == label else f" ({seen[key]} and {label})"
                raise UserError(f"Study {each.name!r} is given twice{other}; name each study once.")
            seen[key] = label
            snapshot = studies.snapshot(each.name, curves=False)
            found.append(Entrant(label, snapshot, study.identity, _picked(snapshot)))
    return found


def _picked(found: Snapshot) -> int | None:
    if not has_completed(found):
        return None
    return choose_from(found, StudySpec.parse(found.study.spec_yaml, found.study.name), None, ()).number


def _shared(found: Sequence[Entrant], wanted: Sequence[str]) -> tuple[Goal, ...]:
    """The goals to compare by, in the order wanted, else in the first study's."""
    every = [entrant.snapshot.study.goals for entrant in found]
    shared = {goal.metric: goal for goal in every[0] if all(goal in goals for goals in every)}
    if wanted:
        for metric in wanted:
            if metric not in shared:
                raise UnknownName("goal of every study", metric, shared)
        return tuple(shared[metric] for metric in dict.fromkeys(wanted))
    for entrant, goals in zip(found, every, strict=True):
        if set(goals) != set(every[0]):
            told = " and ".join(
                f"{e.label} has {', '.join(map(str, e.snapshot.study.goals))}" for e in (found[0], entrant)
            )
            hint = f"Compare by what they share with --goals {','.join(shared)}." if shared else "They share none."
            raise UserError(f"The studies have different goals: {told}. {hint}")
    return tuple(shared.values())


def _with_goals(entrant: Entrant, goals: Sequence[Goal]) -> Entrant:
    """The same study with these of its goals alone, in this order."""
    snapshot = entrant.snapshot
    study = snapshot.study
    columns = [study.goals.index(goal) for goal in goals]

    def chosen(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(values[column] for column in columns)

    trials = tuple(replace(trial, values=chosen(trial.values)) for trial in snapshot.trials)
    study = replace(study, goals=tuple(goals), reference_point=chosen(study.reference_point))
    return replace(entrant, snapshot=replace(snapshot, study=study, trials=trials))
