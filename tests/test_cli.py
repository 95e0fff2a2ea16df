"""The commands as a person meets them: tables, JSON, CSV, exit codes, a quick start."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from tests.studies import launch

TWO: dict[str, Any] = {
    "data": {"function": "zdt1"},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "budget": {"trials": 10, "epochs": 3},
    "retrain": {"confirm": 2},
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("cli")
    url = f"sqlite:///{folder / 'hpo.db'}"
    launch(folder, url)
    launch(folder, url, name="two", **TWO)
    return url


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_help_lists_every_command_by_what_it_is_for_in_whole_sentences() -> None:
    told = run("--help")
    assert [line[:-1] for line in told.splitlines() if line.endswith(":") and line[0] != " "] == [
        "Options", "Begin", "Run", "Look", "Ship", "Keep house",
    ]  # fmt: skip
    assert "..." not in told.partition("Begin:")[2]
    assert "Commands:" in run("models", "--help")


def test_list_counts_trials_by_state(storage: str) -> None:
    rows = json.loads(run("list", "--storage", storage, "--json"))
    assert [(row["study"], row["complete"], row["running"]) for row in rows] == [("branin", 8, 0), ("two", 10, 0)]
    assert "branin" in run("list", "--storage", storage)


def test_front_speaks_table_json_and_csv(storage: str) -> None:
    rows = json.loads(run("front", "two", "--storage", storage, "--json"))
    assert rows
    assert {"trial", "f1", "f2", "best epoch", "x0"} <= set(rows[0])
    for a in rows:
        assert not any(b["f1"] <= a["f1"] and b["f2"] < a["f2"] for b in rows)
    table = list(csv.DictReader(io.StringIO(run("front", "two", "--storage", storage, "--csv"))))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in rows]
    assert [float(row["f1"]) for row in table] == [row["f1"] for row in rows]
    assert len(run("front", "two", "--storage", storage).splitlines()) == len(rows) + 2


def test_show_tells_why_each_trial_stopped(storage: str) -> None:
    shown = json.loads(run("show", "branin", "--storage", storage, "--json"))
    assert [t["trial"] for t in shown["trials"]] == list(range(8))
    assert {t["why it stopped"] for t in shown["trials"]} == {"ran all 4 epochs"}
    assert run("show", "branin", "--storage", storage).startswith("branin: analytic, 8 trials: 8 complete")


def test_best_names_one_trial_and_its_luck(storage: str) -> None:
    best = json.loads(run("best", "branin", "--storage", storage, "--json"))
    shown = json.loads(run("show", "branin", "--storage", storage, "--json"))["trials"]
    assert best["trial"] == min(shown, key=lambda t: t["f1"])["trial"]
    assert "Not confirmed with fresh seeds" in run("best", "branin", "--storage", storage)
    told = run("best", "two", "--storage", storage)
    assert "With fresh seeds:" in told
    assert "none of it was luck" in told  # there is no noise in this study


def test_best_by_a_metric_and_by_weights(storage: str) -> None:
    by_f2 = json.loads(run("best", "two", "--pick", "f2", "--storage", storage, "--json"))
    by_weights = json.loads(run("best", "two", "--pick", "f2=1", "--storage", storage, "--json"))
    assert by_f2["trial"] == by_weights["trial"]
    front = json.loads(run("front", "two", "--storage", storage, "--json"))
    assert by_f2["values"]["f2"] == min(row["f2"] for row in front)


def test_the_storage_may_come_from_the_environment(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_STORAGE", storage)
    assert "two" in run("list")


@pytest.mark.parametrize("objective", ["analytic", "quality_regression"])
def test_init_writes_a_file_that_is_a_study(tmp_path: Path, objective: str) -> None:
    out = tmp_path / "study.yaml"
    run("init", objective, "--out", str(out))
    from hpo.spec import StudySpec

    spec, text = StudySpec.load(out)
    assert spec.objective == objective
    assert text.count("#") > 5
    again = CliRunner().invoke(cli.app, ["init", objective, "--out", str(out)])
    assert again.exit_code == 2
    assert "never overwrites a study file" in again.stderr
    assert out.read_text() == text


def test_init_of_the_analytic_objective_runs_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "study.yaml"
    run("init", "analytic", "--out", str(out))
    text = run("launch", str(out), "--storage", f"sqlite:///{tmp_path / 'x.db'}", "--runs", str(tmp_path / "runs"))
    assert "Study analytic: 30 trials" in text
    assert "Next: hpo front analytic" in text


def test_delete_asks_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    launch(tmp_path, url)
    refused = CliRunner().invoke(cli.app, ["delete", "branin", "--storage", url], input="n\n")
    assert refused.exit_code == 1
    assert "branin" in run("list", "--storage", url)
    run("delete", "branin", "--yes", "--storage", url)
    assert "branin" not in run("list", "--storage", url)


def test_objectives_lists_folders_and_summaries() -> None:
    rows = json.loads(run("objectives", "--json"))
    assert {"analytic", "quality_regression"} <= {row["objective"] for row in rows}
    assert all(row["summary"] for row in rows)


def test_json_is_strict_where_a_value_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    from hpo.printing import print_json

    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": None}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": None}}
