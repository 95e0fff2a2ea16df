"""``hpo why``: what a trial was judged on, from a real launch to the terminal."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from hpo import service
from hpo.errors import UserError
from tests.studies import launch, rows

ZDT: dict[str, Any] = {
    "name": "zdt",
    "data": {"function": "zdt2", "dims": 4},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "pruner": {"name": "any", "of": [{"name": "pareto_median", "startup_trials": 4}, {"name": "hopeless"}]},
    "budget": {"trials": 16, "epochs": 6},
    "retrain": {"confirm": 0, "pick": "knee"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("why")
    url = f"sqlite:///{folder}/hpo.db"
    launch(folder, url, **ZDT)
    return url


def numbers(url: str, state: str) -> list[int]:
    return [number for (number,) in rows(url, f"SELECT number FROM hpo_trials WHERE state = '{state}' ORDER BY number")]


def why(url: str, number: int, *options: str) -> str:
    done = CliRunner().invoke(app, ["why", "zdt", str(number), "--storage", url, *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_pruned_trial_shows_its_vector_and_those_it_was_held_against(study: str) -> None:
    number = numbers(study, "pruned")[0]
    shown = why(study, number)
    step = service.why(study, "zdt", number).trial.last_step
    assert shown.startswith(f"Trial {number} of zdt, pruned: at step {step}: f1 ")
    assert f"Rule pareto_median at step {step}, judged on f1=" in shown
    table = shown.split("Held against, the best first\n")[1].splitlines()
    assert table[0].split() == ["trial", "f1", "f2", "dominates", "it"]
    assert table[2].split()[:2] == [str(number), "itself"]
    assert any(line.endswith("yes") for line in table[3:])


def test_the_facts_are_what_the_curves_in_the_database_say(study: str) -> None:
    number = numbers(study, "pruned")[0]
    judged = json.loads(why(study, number, "--json"))["judged"]
    query = (
        "SELECT t.number, p.metrics FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial "
        f"WHERE p.step = {judged['step']} AND t.number <= {number} AND (t.state = 'complete' OR t.number = {number})"
    )
    stored = {n: json.loads(metrics) for n, metrics in rows(study, query)}
    own = stored.pop(number)
    assert judged["vector"] == own
    assert {int(n): vector for n, vector in judged["against"].items()} == stored
    assert judged["against_count"] == len(stored)
    dominating = {n for n, v in stored.items() if v["f1"] <= own["f1"] and v["f2"] <= own["f2"] and v != own}
    assert set(judged["dominated_by"]) == dominating


def test_a_complete_trial_says_so_with_its_values(study: str) -> None:
    number = numbers(study, "complete")[0]
    shown = why(study, number)
    assert shown.startswith(f"Trial {number} of zdt, complete: ran all 6 epochs\n  6 of 6 steps, the best ")
    assert "f1=" in shown
    assert "Rule" not in shown
    told = json.loads(why(study, number, "--json"))
    assert told["judged"] is None
    assert told["reason"] == {"kind": "finished", "message": "ran all 6 epochs"}
    assert len(told["attempts"]) == 1


def test_a_rule_for_one_goal_keeps_its_facts_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hpo.db"
    launch(
        tmp_path, url, name="zdt", pruner={"name": "median", "startup_trials": 2}, budget={"trials": 12, "epochs": 6}
    )
    shown = why(url, numbers(url, "pruned")[0])
    assert "Rule median at step " in shown
    assert "threshold: " in shown
    assert "Held against, the best first" in shown


def test_a_trial_whose_pruning_left_no_facts_is_told_all_the_same(tmp_path: Path) -> None:
    """As of a study of an earlier version."""
    url = f"sqlite:///{tmp_path}/hpo.db"
    launch(tmp_path, url, **ZDT)
    number = numbers(url, "pruned")[0]
    with sqlite3.connect(tmp_path / "hpo.db") as connection:
        connection.execute("DELETE FROM hpo_events WHERE kind = 'pruned'")
    assert why(url, number).startswith(f"Trial {number} of zdt, pruned: at step ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zdt", "99"], "Study 'zdt' has trials 0 to 15; there is no 99."),
        (["zd", "1"], "Did you mean 'zdt'?"),
    ],
)
def test_a_trial_that_is_not_there_is_refused(study: str, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["why", *arguments, "--storage", study])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
