"""Trials from elsewhere become a study's, all that fit it or none; a source that is wrong is one message."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo import service
from hpo.errors import DataError, StorageError, UnknownName, UserError
from hpo.trial import TrialState
from storage.database import Database
from storage.exchange import ours, sources
from storage.studies import Studies
from tests import studies as helper

optuna.logging.set_verbosity(optuna.logging.ERROR)


def lines(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


POINTS = [{"params": {"x0": float(i), "x1": 1.0}, "values": {"f1": 10.0 + i}} for i in range(4)]


def test_trials_imported_into_a_study_file_are_its_first_and_the_search_goes_on(
    storage_url: str, tmp_path: Path
) -> None:
    source, study = lines(tmp_path / "t.jsonl", *POINTS), helper.write(tmp_path, budget={"trials": 6, "epochs": 2})
    imported = service.import_trials(source, storage=storage_url, runs=tmp_path / "runs", into=study)
    assert (imported.name, imported.states) == ("branin", {TrialState.COMPLETE: 4})
    launched = service.launch(study, storage=storage_url, runs=tmp_path / "runs", skip_preflight=True)
    found = launched.snapshot.trials
    assert [trial.number for trial in found] == [0, 1, 2, 3, 4, 5]
    assert [trial.values for trial in found[:4]] == [(10.0,), (11.0,), (12.0,), (13.0,)]
    assert [len(trial.points) for trial in found] == [0, 0, 0, 0, 2, 2]


def test_goals_stand_among_the_metrics_of_a_trial_that_names_others(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("\ufeffparams.x,values.f1,metrics.acc\n1,2,0.5\n3,4,0.75\n", "utf-8")
    metrics = [trial.metrics for trial in sources.read(str(table)).trials]
    assert metrics == [{"f1": 2.0, "acc": 0.5}, {"f1": 4.0, "acc": 0.75}]


def test_trials_outside_the_space_are_told_and_nothing_is_written(sqlite_url: str, tmp_path: Path) -> None:
    outside = {"params": {"x0": 99.0, "x1": 1.0}, "values": {"f1": 1.0}}
    source, study = lines(tmp_path / "t.jsonl", *POINTS, outside), helper.write(tmp_path)
    with pytest.raises(DataError, match=r"1 of 5 trials are outside.*\n  trial 4: x0 must be float in \[-5, 10\]"):
        service.import_trials(source, storage=sqlite_url, runs=tmp_path / "runs", into=study)
    assert not (tmp_path / "hpo.db").exists()
    imported = service.import_trials(source, storage=sqlite_url, runs=tmp_path / "runs", into=study, skip_outside=True)
    assert imported.left_out == {"trials outside the search space": 1}
    assert len(service.snapshot(sqlite_url, "branin").trials) == 4


def test_a_study_files_constraints_judge_what_is_imported(sqlite_url: str, tmp_path: Path) -> None:
    source, study = lines(tmp_path / "t.jsonl", *POINTS), helper.write(tmp_path, constraints=["f1 <= 11.5"])
    service.import_trials(source, storage=sqlite_url, runs=tmp_path / "runs", into=study)
    with Database(sqlite_url) as database:
        found = Studies(database).snapshot("branin").trials
    assert [trial.violations for trial in found] == [(-1.5,), (-0.5,), (0.5,), (1.5,)]


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        ([{"metric": "f1", "direction": "maximize"}], "f1 is to maximize in the study file, and f1 was to minimize"),
        (None, None),
    ],
)
def test_goals_must_be_the_same_ones(sqlite_url: str, tmp_path: Path, goals: Any, said: str | None) -> None:
    source, study = lines(tmp_path / "t.jsonl", *POINTS), helper.write(tmp_path, goals=goals)
    if said is None:
        service.import_trials(source, storage=sqlite_url, runs=tmp_path / "runs", into=study)
        return
    with pytest.raises(DataError, match=said):
        service.import_trials(source, storage=sqlite_url, runs=tmp_path / "runs", into=study)


def test_the_same_name_twice_is_refused(storage_url: str, tmp_path: Path) -> None:
    source = lines(tmp_path / "t.jsonl", *POINTS)
    service.import_trials(source, storage=storage_url, runs=tmp_path / "runs")
    with pytest.raises(UserError, match="has a study 't' already. Give another name with --as, or delete that one"):
        service.import_trials(source, storage=storage_url, runs=tmp_path / "runs")
    assert len(service.snapshot(storage_url, "t").trials) == 4


def test_an_import_that_breaks_off_leaves_no_row(
    storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(tmp_path / "t.jsonl", *POINTS)

    def breaks(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ours, "_add_trials", breaks)
        with pytest.raises(KeyboardInterrupt):
            service.import_trials(source, storage=storage_url, runs=tmp_path / "runs")
    for table in ("studies", "trials", "trial_params", "hpo_studies", "hpo_trials"):
        assert helper.rows(storage_url, f"SELECT count(*) FROM {table}") == [(0,)]
    service.import_trials(source, storage=storage_url, runs=tmp_path / "runs")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column|no CSV"),
        ("params.x\n1\n", r"has no column values.NAME"),
        ("values.f1\n1\n", "No finished trial has a parameter"),
        ("params.x,values.f1\n1,much\n", "line 2: values: f1 must be a number; got 'much'"),
        ("params.x,values.f1,state\n1,2,over\n", "a state is complete, pruned or fail; got 'over'"),
        ("params.x,values.f1,started_at\n1,2,noon\n", "line 2: a time is written as .* got 'noon'"),
        ("params.x,values.f1,values.f2\n1,2,\n", "line 2: a complete trial has a value for every goal; f2 is missing"),
        ("params.x,values.f1\n1,2,\n3,4,\n", "rows have more cells than its first line has names"),
        ('{"params": {"x": 1}, "values": {"f": 1}}\nno\n', "line 2: no JSON"),
        ('{"goals": [["f", "down"]]}\n', r"line 1: goals must be written as .* got \[\['f', 'down'\]\]"),
        ('{"goals": 5}\n', "line 1: goals must be written as"),
        ('{"study": "s", "attributes": 7}\n', "line 1: attributes must be an object"),
        ('{"study": "s", "search_space": 7}\n', "line 1: search_space must be an object"),
        ('{"study": "s"}\n{"values": {"f": 1}}\n', "line 2: a trial must have params; there is only values"),
        ('{"values": {"f": 1}}\n', "line 1: a trial must have params"),
        ('{"params": {"x": 1}, "values": 7}\n', "line 1: values must be an object"),
        ('{"params": {"x": 1}, "best_step": {"float": "Infinity"}}\n', "line 1: cannot convert float infinity"),
        ('{"params": [1]}\n', "line 1: params must be an object"),
        ('{"params": {"x": {"y": 1}}, "values": {"f": 1}}\n', "x: a parameter is text, a number"),
    ],
)
def test_a_broken_file_is_one_clear_message(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        sources.read(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("source", "options", "error", "said"),
    [
        ("nothing.csv", {}, DataError, "There is no file nothing.csv"),
        ("sqlite:///nothing.db", {}, DataError, "There is no file"),
        ("theirs.db", {"study": "sauce"}, UnknownName, "Did you mean 'source'"),
        ("theirs.db", {"maximize": ("goal 0",)}, DataError, "says itself which way"),
        ("empty.db", {}, StorageError, "holds no studies of Optuna's"),
    ],
)
def test_a_wrong_source_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, options: Any, error: type[UserError], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(storage="sqlite:///theirs.db", study_name="source")
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    with sqlite3.connect("empty.db") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(error, match=said):
        sources.read(source, **options)


def test_many_trials_are_written_with_few_statements(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes an import quick; a time would depend on the machine."""
    counted: list[int] = []
    for count in (3, 300):
        rows = [{"params": {"x": i / 7}, "values": {"f": i}, "curve": [[1, {"f": i}]]} for i in range(count)]
        source = lines(tmp_path / f"n{count}.jsonl", *rows)
        statements = _statements(lambda source=source: service.import_trials(source, storage=sqlite_url, runs=tmp_path))
        counted.append(statements)
    assert counted[1] <= counted[0]  # the first has the tables to make, too


def _statements(action: Callable[[], object]) -> int:
    from sqlalchemy import Engine, event

    seen: list[str] = []

    def count(*args: Any) -> None:
        seen.append(args[2])

    event.listen(Engine, "before_cursor_execute", count)
    try:
        action()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return len(seen)
