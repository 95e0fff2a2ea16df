"""What ``hpo front`` prints: the front, and apart from it the trials that break a constraint."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.constraints import broken, spoken
from hpo.printing.tables import Row, show
from hpo.trial import TrialRecord, TrialState
from storage.records import Snapshot


def show_front(snapshot: Snapshot, as_json: bool = False, as_csv: bool = False) -> None:
    """The front; after it, apart or told by a field, the completed trials that are not feasible."""
    front, infeasible = _front(snapshot), _infeasible(snapshot)
    if as_json or as_csv:
        rows = _rows(snapshot, [*front, *infeasible])
        if as_csv and snapshot.study.constraints:
            rows = [{**row, "breaks": spoken(row["breaks"])} for row in rows]
        show(rows, as_json, as_csv)
        return
    if front or not infeasible:
        show(_without(_rows(snapshot, front), "feasible", "breaks"))
    if infeasible:
        print("\nNot feasible, and so not on the front:" if front else "No trial keeps to every constraint:")
        show([{**row, "breaks": spoken(row["breaks"])} for row in _without(_rows(snapshot, infeasible), "feasible")])


def front_rows(snapshot: Snapshot) -> list[Row]:
    """One row per trial of the front: number, goals, best epoch, parameters."""
    return _without(_rows(snapshot, _front(snapshot)), "feasible", "breaks")


def _front(snapshot: Snapshot) -> list[TrialRecord]:
    from hpo.pareto import ParetoFront

    by_number = {trial.number: trial for trial in snapshot.trials}
    return [by_number[number] for number in ParetoFront.of(snapshot.trials, snapshot.study.goals).numbers]


def _infeasible(snapshot: Snapshot) -> list[TrialRecord]:
    return [t for t in snapshot.trials if t.state is TrialState.COMPLETE and t.values and not t.is_feasible]


def _rows(snapshot: Snapshot, trials: Sequence[TrialRecord]) -> list[Row]:
    """A row per completed trial; in a study with constraints also whether it is feasible, and what it breaks."""
    goals, constraints = snapshot.study.goals, snapshot.study.constraints
    marks = ("feasible", "breaks") if constraints else ()
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    columns = _param_columns(names, {"trial", "best epoch", *marks, *(goal.metric for goal in goals)})
    return [
        {
            "trial": trial.number,
            **{goal.metric: float(value) for goal, value in zip(goals, trial.values or (), strict=True)},
            "best epoch": trial.best_step,
            **({"feasible": trial.is_feasible, "breaks": broken(constraints, trial)} if constraints else {}),
            **{column: trial.params.get(name) for name, column in columns.items()},
        }
        for trial in trials
    ]


def _without(rows: Sequence[Row], *names: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def _param_columns(names: Sequence[str], taken: set[str]) -> dict[str, str]:
    """parameter -> its column, with ``param.`` in front where the name is another column's."""
    columns = {name: name for name in names if name not in taken}
    for name in names:
        if name in taken:
            column = f"param.{name}"
            while column in names:
                column = f"param.{column}"
            columns[name] = column
    return {name: columns[name] for name in names}
