"""Whether a database is whole: its file, what its rows refer to, and whether Optuna's rows agree with ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Table, func, select

from hpo.trial import TrialState
from storage import codec, leases, optuna_rows, tables
from storage.database import Database, Versions
from storage.records import SEARCH

_LISTED = 5  # trials named in a problem
_MESSED = "Go on from a backup, or go on as it is: hpo reads its own rows, Optuna's tools read theirs."


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """What was found: both schema versions, how many rows each table has, and what is wrong.

    The counts are empty where a schema is another than this version's.
    """

    database: str
    versions: Versions
    counts: Mapping[str, int]
    problems: tuple[Problem, ...]


def examine(database: Database) -> Examination:
    """Look at everything; nothing is changed."""
    versions = database.versions()
    if not versions.are_current:
        return Examination(database.name, versions, {}, (_outdated(database),))
    with database.read() as conn:
        if conn.dialect.name == "postgresql":  # the others show one moment to a whole transaction as they are
            conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        counts = {table.name: _count(conn, table) for table in (*tables.metadata.sorted_tables, optuna_rows.trials)}
        problems = [*_damage(conn), *_orphans(conn), *_disagreements(conn), *_forsaken(conn)]
    return Examination(database.name, versions, counts, tuple(problems))


def _outdated(database: Database) -> Problem:
    found, needed = database.versions(), Versions.current()
    return Problem(
        f"The schemas are {found.optuna or 'none'} (Optuna's) and {found.ours or 'none'} (hpo's); "
        f"this version of hpo needs {needed.optuna} and {needed.ours}",
        f"Run: hpo db upgrade --storage {database.name}",
    )


def _damage(conn: Connection) -> Iterator[Problem]:
    """What SQLite itself finds; a server looks after its files on its own."""
    if conn.dialect.name != "sqlite":
        return
    found = [str(row[0]) for row in conn.exec_driver_sql("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        yield Problem(
            f"The file is damaged: {'; '.join(found)}",
            "Go on from a backup or from a study's mirror; what is readable: sqlite3 FILE .recover",
        )


def _orphans(conn: Connection) -> Iterator[Problem]:
    """Rows whose study or trial is gone."""
    references = [
        (table, key.parent, key.column.table, key.column)
        for table in tables.metadata.sorted_tables
        for key in table.foreign_keys
    ]
    studies, theirs = tables.studies, optuna_rows.studies
    references.append((studies, studies.c.study_id, theirs, theirs.c.study_id))
    for table, column, owner, key in references:
        lost = select(func.count()).select_from(table.outerjoin(owner, column == key))
        lost = lost.where(key.is_(None), column.is_not(None))
        count = conn.execute(lost).scalar_one()
        if count:
            yield Problem(
                f"{count} rows of {table.name} belong to no row of {owner.name}",
                "Something else has deleted rows. Go on from a backup, or leave them: no study shows them.",
            )


def _disagreements(conn: Connection) -> Iterator[Problem]:
    """Search trials that Optuna's tables know otherwise than ours do."""
    s = tables.studies
    for study_id, name in conn.execute(select(s.c.study_id, s.c.name).order_by(s.c.name)).all():
        theirs = _optunas_trials(conn, study_id)
        differing = []
        t = tables.trials
        ours = select(t.c.number, t.c.trial_id, t.c.state, t.c.params, t.c.goal_values).order_by(t.c.number)
        for row in conn.execute(ours.where(t.c.study_id == study_id, t.c.series == SEARCH)):
            goal_values = tuple(codec.load(row.goal_values)) if row.goal_values else ()
            state, names = optuna_rows.STATES[TrialState(row.state)], frozenset(codec.load(row.params))
            mine = (row.number, state, names, goal_values)
            if theirs.pop(row.trial_id, None) != mine:
                differing.append(row.number)
        if differing:
            listed = ", ".join(map(str, differing[:_LISTED])) + (", ..." if len(differing) > _LISTED else "")
            yield Problem(f"Study {name!r}: Optuna's tables say other things of trials {listed}", _MESSED)
        if theirs:
            yield Problem(f"Study {name!r}: {len(theirs)} trials of Optuna's tables are not of hpo's making", _MESSED)


def _optunas_trials(conn: Connection, study_id: int) -> dict[int, tuple[int, str, frozenset[str], tuple[float, ...]]]:
    """Number, state, names of the parameters, and values of each of a study's trials, by ``trial_id``.

    The values of pruned trials are left out: Optuna gives such a one its last intermediate value.
    """
    t, p, v = optuna_rows.trials, optuna_rows.trial_params, optuna_rows.trial_values
    of_study = t.c.study_id == study_id
    names, values = defaultdict[int, set[str]](set), defaultdict[int, list[float]](list)
    for trial, name in conn.execute(
        select(p.c.trial_id, p.c.param_name).join(t, t.c.trial_id == p.c.trial_id).where(of_study)
    ):
        names[trial].add(name)
    in_order = select(v.c.trial_id, v.c.value, v.c.value_type).join(t, t.c.trial_id == v.c.trial_id)
    in_order = in_order.where(of_study, t.c.state != "PRUNED").order_by(v.c.objective)
    for trial, number, kind in conn.execute(in_order):
        values[trial].append(optuna_rows.from_stored(number, kind))
    return {
        row.trial_id: (row.number, row.state, frozenset(names[row.trial_id]), tuple(values[row.trial_id]))
        for row in conn.execute(select(t.c.trial_id, t.c.number, t.c.state).where(of_study))
    }


def _forsaken(conn: Connection) -> Iterator[Problem]:
    """Trials that stand as running while no live process owns their study."""
    s, t = tables.studies, tables.trials
    query = select(s.c.study_id, s.c.name, func.count()).join(t, t.c.study_id == s.c.study_id)
    query = query.where(t.c.state == TrialState.RUNNING).group_by(s.c.study_id, s.c.name).order_by(s.c.name)
    for study_id, name, count in conn.execute(query).all():
        holder = leases.read_holder(conn, study_id)
        if holder is None or not holder.is_alive:
            yield Problem(
                f"Study {name!r}: {count} trials stand as running, and no process runs them",
                "Launch the study again: they go on from their newest checkpoints.",
            )


def _count(conn: Connection, table: Table) -> int:
    return int(conn.execute(select(func.count()).select_from(table)).scalar_one())
