"""Trials that come from elsewhere and go there: nothing changes on the way, whatever the form."""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from hpo import service
from hpo.errors import UserError
from hpo.trial import StopKind, TrialState
from search_spaces import Choice, Float, Int
from storage import codec
from storage.database import Database
from storage.exchange import inference, ours
from storage.exchange.portable import PortableStudy
from storage.studies import Studies
from tests import studies as helper

optuna.logging.set_verbosity(optuna.logging.ERROR)
DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-6, 1.0, log=True),
    "größe": IntDistribution(1, 9, step=2),
    "kind": CategoricalDistribution(("a", 1, True, None, 0.5, "1", "true", "", "日本")),
    "only for some": FloatDistribution(0.0, 1.0, step=0.25),
    "fixed": FloatDistribution(3.0, 3.0),
}
ODD = (math.nan, math.inf, -math.inf)


def random_trial(draw: random.Random, goals: int) -> FrozenTrial:
    """A trial with everything that Optuna can hold, some of it odd."""
    state = draw.choice([OptunaState.COMPLETE, OptunaState.COMPLETE, OptunaState.PRUNED, OptunaState.FAIL])
    params: dict[str, Any] = {
        "lr": 10 ** draw.uniform(-6, 0), "größe": draw.choice([1, 3, 5, 7, 9]), "fixed": 3.0,
        "kind": draw.choice(DISTRIBUTIONS["kind"].choices),  # type: ignore[attr-defined]
    }  # fmt: skip
    if params["kind"] == "a":
        params["only for some"] = draw.choice([0.0, 0.25, 1.0])
    steps = range(draw.randint(0, 1), draw.randint(1, 6))
    curve = {s: draw.choice([draw.random(), draw.random(), *ODD]) for s in steps} if goals == 1 else {}
    values = (
        [draw.choice([*(draw.random() for _ in range(9)), math.inf]) for _ in range(goals)]
        if state == OptunaState.COMPLETE
        else None
    )
    if state == OptunaState.PRUNED and curve and not math.isnan(list(curve.values())[-1]):
        values = [list(curve.values())[-1]]  # as study.tell does
    began = datetime(2026, 1, 31, 23, 59, 59, draw.randint(0, 999_999))
    made = create_trial(
        state=state, params=params, distributions={name: DISTRIBUTIONS[name] for name in params}, values=values,
        intermediate_values=curve, user_attrs={"note": "line\nand ünïcode, \"quoted\"", "n": draw.randint(0, 9)},
        system_attrs={f"constraints:{name}": draw.uniform(-1, 1) for name in ("mb", "ms")},
    )  # fmt: skip
    made.datetime_start, made.datetime_complete = began, began + timedelta(seconds=draw.randint(1, 99))
    return made


def fill(storage: Any, goals: int, seed: int, count: int = 25) -> list[FrozenTrial]:
    """A study ``source`` of random trials, by Optuna's own means; its trials."""
    draw = random.Random(seed)
    study = optuna.create_study(storage=storage, study_name="source", directions=(["minimize", "maximize"] * 2)[:goals])
    study.set_metric_names([f"goal {i}" for i in range(goals)])
    study.set_user_attr("owner", "me")
    study.add_trials([random_trial(draw, goals) for _ in range(count)])
    return study.trials


def journal(path: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


def facts(trial: FrozenTrial) -> str:
    """What must survive of a trial of Optuna's, as text, so that NaN equals itself."""
    own = [(name, trial.user_attrs[name]) for name in ("note", "n")]
    return repr(
        (trial.number, trial.state, sorted(trial.params.items(), key=lambda item: item[0]), trial.values,
         sorted(trial.intermediate_values.items()), own, sorted(trial.constraints.items()), trial.datetime_start,
         trial.datetime_complete)
    )  # fmt: skip


def stored(url: str, name: str) -> PortableStudy:
    with Database(url) as database:
        found = Studies(database).get(name)
        with database.read() as conn:
            return ours.read(conn, found.id, name, found.goals, found.space)


def same(trials: PortableStudy, *, but: tuple[str, ...] = ()) -> list[str]:
    """The trials as text, so that NaN equals itself."""
    fields = [dataclasses.asdict(trial) for trial in trials.trials]
    return [codec.dump({name: str(v) if name == "curve" else v for name, v in f.items() if name not in but})
            for f in fields]  # fmt: skip


@pytest.mark.parametrize("goals", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("form", ["database", "file", "journal"])
def test_what_optuna_made_reads_the_same_to_optuna_afterwards(
    storage_url: str, tmp_path: Path, form: str, goals: int
) -> None:
    path = tmp_path / "theirs.x"
    made = fill(journal(path) if form == "journal" else f"sqlite:///{path}", goals, seed=goals)
    source = f"sqlite:///{path}" if form == "database" else str(path)
    imported = service.import_trials(source, storage=storage_url, runs=tmp_path / "runs", name="mine")
    study = optuna.load_study(study_name="mine", storage=storage_url)
    if storage_url.startswith("mysql"):  # Optuna's columns for times hold whole seconds there
        for trial in made:
            trial.datetime_start = trial.datetime_start and trial.datetime_start.replace(microsecond=0)
            trial.datetime_complete = trial.datetime_complete and trial.datetime_complete.replace(microsecond=0)
    assert [facts(trial) for trial in study.trials] == [facts(trial) for trial in made]
    assert study.metric_names == [f"goal {i}" for i in range(goals)]
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE", "MINIMIZE"][:goals]
    assert study.user_attrs == {"owner": "me"}
    assert imported.states.total() == len(made)
    assert not imported.left_out


@pytest.mark.parametrize(
    "storage_url", ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("goals", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("to", ["optuna", "jsonl", "csv"])
def test_a_trip_out_and_back_changes_no_trial(storage_url: str, tmp_path: Path, to: Any, goals: int) -> None:
    path = tmp_path / "theirs.db"
    fill(f"sqlite:///{path}", goals, seed=10 + goals)
    service.import_trials(str(path), storage=storage_url, runs=tmp_path / "runs", name="mine")
    out = f"sqlite:///{tmp_path / 'out.db'}" if to == "optuna" else str(tmp_path / f"out.{to}")
    service.export_trials(storage_url, "mine", to=to, out=out)
    maximize = ("goal 1",) if to == "csv" and goals > 1 else ()
    service.import_trials(out, storage=storage_url, runs=tmp_path / "runs", name="again", maximize=maximize)
    first, second = stored(storage_url, "mine"), stored(storage_url, "again")
    but = ("curve",) if to == "csv" else ()
    assert same(second, but=but) == same(first, but=but)
    assert first.goals == second.goals
    if to != "csv":
        assert dict(second.space) == dict(first.space)


def test_a_file_that_is_there_is_replaced_only_on_request(sqlite_url: str, tmp_path: Path) -> None:
    helper.launch(tmp_path, sqlite_url)
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(UserError, match="out.jsonl exists; use --overwrite"):
        service.export_trials(sqlite_url, "branin", to="jsonl", out=str(out))
    assert out.read_text() == "mine"
    service.export_trials(sqlite_url, "branin", to="jsonl", out=str(out), overwrite=True)
    assert len(out.read_text().splitlines()) == 1 + 8


def test_a_study_that_ran_here_keeps_the_curves_of_all_its_metrics(sqlite_url: str, tmp_path: Path) -> None:
    helper.launch(tmp_path, sqlite_url, data={"function": "zdt1"}, goals=None, search_space=None,
                  pruner={"name": "median", "startup_trials": 2}, retrain={"confirm": 0})  # fmt: skip
    out = f"sqlite:///{tmp_path / 'plain.db'}"
    service.export_trials(sqlite_url, "branin", to="optuna", out=out)
    service.import_trials(out, storage=sqlite_url, runs=tmp_path / "runs", name="again")
    first, second = stored(sqlite_url, "branin"), stored(sqlite_url, "again")
    assert any(set(point) == {"f1", "f2"} for trial in first.trials for point in trial.curve.values())
    assert same(second) == same(first)
    assert "hpo_trials" not in {row[0] for row in helper.rows(out, "SELECT name FROM sqlite_master")}


def test_a_database_of_an_earlier_hpo_is_read_whole_and_left_as_it_is(sqlite_url: str, tmp_path: Path) -> None:
    helper.launch(tmp_path, sqlite_url, data={"function": "zdt1"}, goals=None, search_space=None)
    before, url = tmp_path / "before.db", f"sqlite:///{tmp_path / 'before.db'}"
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), before)
    with closing(sqlite3.connect(before)) as database:  # as schema 0003 was: without the table of 0004
        database.executescript("DROP TABLE hpo_artifacts; UPDATE hpo_alembic_version SET version_num = '0003'")
    service.import_trials(url, storage=sqlite_url, runs=tmp_path / "runs", name="again")
    first, second = stored(sqlite_url, "branin"), stored(sqlite_url, "again")
    assert any(set(point) == {"f1", "f2"} for trial in second.trials for point in trial.curve.values())
    assert same(second) == same(first)
    assert helper.rows(url, "SELECT version_num FROM hpo_alembic_version") == [("0003",)]


def test_what_has_no_place_is_counted(sqlite_url: str, tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path / 'theirs.db'}"
    study = optuna.create_study(storage=source, study_name="s", sampler=optuna.samplers.NSGAIISampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    study.ask()
    study.enqueue_trial({"x": 0.5})
    study._storage.set_study_system_attr(study._study_id, "cma:optimizer", "80035d00")
    imported = service.import_trials(source, storage=sqlite_url, runs=tmp_path)
    assert imported.left_out["trials that had not finished"] == 2
    assert imported.left_out["system attributes of Optuna's (cma)"] == 1
    assert imported.states == {TrialState.COMPLETE: 3}


def test_other_ranges_of_a_parameter_become_one_that_holds_all(sqlite_url: str, tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path / 'theirs.db'}"
    study = optuna.create_study(storage=source, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", trial.number, trial.number + 1), n_trials=3)
    imported = service.import_trials(source, storage=sqlite_url, runs=tmp_path)
    assert imported.notes == ("x had 3 ranges; the space has float in [0, 3].",)
    assert stored(sqlite_url, "s").space["x"] == Float(0.0, 3.0)


def test_the_table_of_optunas_own_dataframe_is_read(sqlite_url: str, tmp_path: Path) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_int("n_layers", 1, 3)), n_trials=4)
    study.trials_dataframe().to_csv(tmp_path / "t.csv", index=False)
    imported = service.import_trials(
        str(tmp_path / "t.csv"), storage=sqlite_url, runs=tmp_path, maximize=["value_1"], name="table"
    )
    found = stored(sqlite_url, "table")
    assert [trial.values for trial in found.trials] == [tuple(trial.values) for trial in study.trials]
    assert [trial.params for trial in found.trials] == [trial.params for trial in study.trials]
    assert [str(goal) for goal in found.goals] == ["value_0 ↓", "value_1 ↑"]
    assert imported.left_out == {"cells of column duration": 4}


def test_a_recorded_study_can_be_looked_at_and_not_run(sqlite_url: str, tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'theirs.db'}", goals=3, seed=5)
    service.import_trials(str(tmp_path / "theirs.db"), storage=sqlite_url, runs=tmp_path / "runs")
    found = service.snapshot(sqlite_url, "source")
    theirs = optuna.load_study(study_name="source", storage=f"sqlite:///{tmp_path / 'theirs.db'}")
    feasible = [t.number for t in theirs.trials if all(v <= 0 for v in t.constraints.values())]
    assert [t.number for t in found.trials if t.is_feasible] == feasible
    assert service.report(sqlite_url, "source", tmp_path / "report")[0].exists()
    study = tmp_path / "source.yaml"
    study.write_text(found.study.spec_yaml.replace("name: source", "name: other"))
    launched = service.launch(study, storage=sqlite_url, runs=tmp_path / "runs", skip_preflight=True)
    first = launched.snapshot.trials[0]
    assert first.reason is not None
    assert (first.state, first.reason.kind) == (TrialState.FAIL, StopKind.ERROR)
    assert "objective recorded cannot run more" in first.reason.message


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ([1, 5, 3], Int(1, 5)),
        ([1, 2.5], Float(1, 2.5)),
        ([2.0, 2.0], Choice((2.0,))),
        ([True, False, True], Choice((True, False))),
        (["a", 1, None, True], Choice(("a", 1, None, True))),
    ],
)
def test_a_space_is_the_smallest_around_the_values(values: list[Any], parameter: object) -> None:
    assert inference.from_values({"x": value} for value in values)["x"] == parameter
