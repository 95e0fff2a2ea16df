"""Frames against what the database says in plain SQL, column by column."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import create_engine, text

import hpo
from tests.studies import launch, rows

SPACE = {
    "x0": {"type": "float", "low": -5.0, "high": 10.0},
    "x1": {"type": "float", "low": 0.0, "high": 15.0},
    "layers": {"type": "int", "low": 1, "high": 4},
    "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
    "bias": {"type": "categorical", "choices": [True, False]},
    "clip": {"type": "categorical", "choices": [None, 1.0, "auto"]},
    "size": {"type": "categorical", "choices": [16, 32]},
}
CHOICES = {
    "optimizer": ["adamw", "sgd"],
    "bias": [True, False],
    "clip": [None, 1.0, "auto"],
    "size": [16, 32],
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with one study, which no test changes."""
    folder = tmp_path_factory.mktemp("frames")
    url = f"sqlite:///{folder / 'hpo.db'}"
    launch(
        folder, url, search_space=SPACE, constraints=["f1 <= 60"], budget={"trials": 14, "epochs": 4},
        pruner={"name": "median", "startup_trials": 3, "warmup_steps": 1},
    )  # fmt: skip
    with create_engine(url).begin() as connection:  # so that no two columns say the same
        connection.execute(text("UPDATE hpo_trials SET best_step = 1, epochs = 9, attempts = 3 WHERE number = 3"))
    return url


@pytest.fixture
def study(url: str) -> hpo.StudyView:
    return hpo.open_study("branin", storage=url)


def as_python(column: pd.Series) -> list[object]:
    """A column's values with None for what is missing."""
    return [None if value is None or value is pd.NA or value != value else value for value in column.tolist()]


def test_trials_are_what_the_database_says(study: hpo.StudyView, url: str) -> None:
    frame = study.trials()
    plain = (
        "number", "state", "reason", "best_step", "last_step", "epochs", "attempts", "seed", "enqueued", "worker",
    )  # fmt: skip
    stored = rows(url, f"SELECT {', '.join(plain)}, stop_kind FROM hpo_trials ORDER BY number")
    assert len(frame) == 14 and {"complete", "pruned"} <= set(frame["state"])
    assert len(set(stored[3][3:7])) == 4
    for i, name in enumerate((*plain, "stopped")):
        assert as_python(frame[name]) == [row[i] for row in stored], name


def test_parameters_are_what_optuna_stored(study: hpo.StudyView, url: str) -> None:
    frame = study.trials()
    query = "SELECT t.number, p.param_name, p.param_value FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id"
    stored = {(number, name): value for number, name, value in rows(url, query)}
    for name in SPACE:
        for number, value in enumerate(as_python(frame[f"params.{name}"])):
            told = stored.get((number, name))
            if told is not None and name in CHOICES:  # Optuna keeps which of the choices it was
                told = CHOICES[name][int(told)]
            assert value == told, (number, name)
    assert any((number, "momentum") not in stored for number in range(14))


def test_values_are_those_of_completed_trials_and_metrics_of_every_one(study: hpo.StudyView, url: str) -> None:
    frame = study.trials()
    stored = dict(
        rows(url, "SELECT t.number, v.value FROM trial_values v JOIN trials t ON t.trial_id = v.trial_id "
                         "WHERE t.state = 'COMPLETE'")
    )  # fmt: skip
    assert as_python(frame["values.f1"]) == [stored.get(number) for number in range(14)]
    measured = rows(url, "SELECT json_extract(metrics, '$.f1') FROM hpo_trials ORDER BY number")
    assert as_python(frame["metrics.f1"]) == [value for (value,) in measured]
    feasible = [None if number not in stored else stored[number] <= 60 for number in range(14)]
    assert as_python(frame["feasible"]) == feasible and {True, False, None} <= set(feasible)
    for told, value in zip(as_python(frame["violations.f1 <= 60"]), as_python(frame["values.f1"]), strict=True):
        assert value is None or told == pytest.approx(value - 60)


def test_times_are_in_utc_and_seconds_are_those_of_the_attempts(study: hpo.StudyView, url: str) -> None:
    frame = study.trials()
    stored = rows(
        url,
        "SELECT t.started_at, t.finished_at, sum((julianday(a.ended_at) - julianday(a.started_at)) * 86400) "
        "FROM hpo_trials t JOIN hpo_attempts a ON a.trial = t.id GROUP BY t.id ORDER BY t.number",
    )
    for name, place in (("started_at", 0), ("finished_at", 1)):
        assert str(frame[name].dt.tz) == "UTC"
        assert [moment.isoformat(timespec="microseconds") for moment in frame[name]] == [row[place] for row in stored]
    for told, row in zip(frame["seconds"], stored, strict=True):
        assert told == pytest.approx(row[2], abs=1e-3)  # julianday has no more digits


def test_every_column_has_the_type_of_the_guide(study: hpo.StudyView) -> None:
    kinds = {name: str(kind) for name, kind in study.trials().dtypes.items()}
    expected = {
        "number": "Int64", "state": "string", "feasible": "boolean", "seconds": "float64", "params.x0": "float64",
        "params.layers": "Int64", "params.optimizer": "string", "params.bias": "boolean", "params.momentum": "float64",
        "params.clip": "object", "params.size": "Int64", "values.f1": "float64",
    }  # fmt: skip
    assert expected.items() <= kinds.items()


def test_curves_are_every_reported_step(study: hpo.StudyView, url: str) -> None:
    stored = rows(
        url,
        "SELECT t.number, p.step, json_extract(p.metrics, '$.f1') "
        "FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial ORDER BY t.number, p.step",
    )
    frame = study.curves()
    assert list(frame.columns) == ["trial", "step", "metrics.f1"]
    assert list(frame.itertuples(index=False, name=None)) == stored


def test_the_front_has_the_columns_of_the_trials_and_the_best_of_them(study: hpo.StudyView, url: str) -> None:
    front = study.front()
    assert front.dtypes.equals(study.trials().dtypes)
    ((number,),) = rows(
        url,
        "SELECT t.number FROM trial_values v JOIN trials t ON t.trial_id = v.trial_id WHERE t.state = 'COMPLETE' "
        "AND v.value <= 60 ORDER BY v.value LIMIT 1",
    )
    assert front["number"].tolist() == [number]
    best = study.best()
    assert best.number == number and best.confirmed is None
    assert best.values == {"f1": front["values.f1"].iloc[0]}


def test_a_study_without_trials_has_empty_frames_of_the_same_types(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 2})
    for table in ("hpo_points", "hpo_attempts", "hpo_trials"):
        with create_engine(sqlite_url).begin() as connection:
            connection.execute(text(f"DELETE FROM {table}"))
    study = hpo.open_study("branin", storage=sqlite_url)
    frame = study.trials()
    assert len(frame) == 0 and str(frame["started_at"].dtype).endswith("UTC]") and str(frame["number"].dtype) == "Int64"
    assert len(study.front()) == 0 and list(study.curves().columns) == ["trial", "step"]
    assert "no trial yet" in repr(study) and "<svg" not in study._repr_mimebundle_()["text/html"]
    with pytest.raises(hpo.UserError, match="no completed trial"):
        study.best()


def test_studies_are_counted_by_state(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    launch(tmp_path, sqlite_url, name="other", data={"function": "zdt1", "dims": 3}, goals=None,
           retrain={"confirm": 0}, runs=tmp_path / "others")  # fmt: skip
    frame = hpo.studies(storage=sqlite_url)
    assert frame["study"].tolist() == ["branin", "other"] and frame["complete"].tolist() == [8, 8]
    assert frame["goals"].tolist() == ["f1 ↓", "f1 ↓"]
    counted = rows(sqlite_url, "SELECT count(*) FROM hpo_trials GROUP BY study_id")
    states = ["queued", "running", "complete", "pruned", "fail"]
    assert frame[states].sum(axis=1).tolist() == [n for (n,) in counted]


def test_a_number_that_is_not_finite_stays_what_it_is(tmp_path: Path) -> None:
    from hpo.notebook import frames
    from hpo.reports.facts import Facts
    from hpo.trial import Goal, TrialRecord, TrialState
    from storage.records import Snapshot, StudyRecord

    study = StudyRecord("s", "analytic", "name: s", "", (Goal("f1"),), Goal("f1"), "", "2026-01-01T00:00:00+00:00")
    trial = TrialRecord(0, TrialState.FAIL, {"n": 2**70}, seed=1, metrics={"f1": math.inf, "g": math.nan})
    frame = frames.trials(Facts(Snapshot(study, (trial,))))
    assert frame["metrics.f1"][0] == math.inf and math.isnan(frame["metrics.g"][0])
    assert frame["params.n"][0] == 2**70 and pd.isna(frame["started_at"][0]) and frame["reason"][0] is pd.NA
