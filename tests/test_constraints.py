"""Constraints through a whole study: who is feasible, who stands on the front, who may win; and what Optuna thinks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from hpo import printing, service
from hpo.choice import choose, top
from hpo.constraints import broken, least_violated, spoken
from hpo.errors import UserError
from hpo.pareto import ParetoFront
from hpo.spec import StudySpec
from hpo.trial import Goal, TrialRecord, TrialState
from storage.database import Database
from storage.records import Snapshot, StudyRecord
from storage.studies import Studies
from tests.studies import launch, rows

ZDT1 = {
    "name": "limited", "data": {"function": "zdt1"}, "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "constraints": ["f2 <= 4", "f1 >= 0.1"], "budget": {"trials": 20, "epochs": 1}, "retrain": {"confirm": 0},
}  # fmt: skip
LOSS = Goal("loss")


def trial(number: int, loss: float, *violations: float) -> TrialRecord:
    metrics = {"loss": loss}
    return TrialRecord(
        number, TrialState.COMPLETE, {}, 0, values=(loss,), metrics=metrics, best_step=1, violations=violations
    )


def snapshot(*trials: TrialRecord) -> Snapshot:
    record = StudyRecord("s", "analytic", "", "", (LOSS,), LOSS, "", "", constraints=("a <= 1", "b >= 2"))
    return Snapshot(record, trials)


def test_what_is_broken_is_told_by_name_and_amount() -> None:
    found = broken(("a <= 1", "b >= 2", "c <= 3"), trial(0, 0.0, 0.25, -1.0, math.inf))
    assert found == {"a <= 1": 0.25, "c <= 3": math.inf}
    assert spoken(found) == "a <= 1 by 0.25, c <= 3 (no value)"


def test_the_least_violated_has_the_smallest_sum_of_what_is_above_0() -> None:
    # 0.5 + 0.25; 0.5 with 9 to spare elsewhere; 0.5 again, later; without a value.
    found = [trial(0, 0, 0.5, 0.25), trial(1, 0, 0.5, -9.0), trial(2, 0, -1.0, 0.5), trial(3, 0, math.inf, 0.0)]
    assert least_violated(found).number == 1


def test_an_infeasible_trial_is_neither_confirmed_nor_picked_with_a_single_goal() -> None:
    trials = (trial(0, 0.1, 0.5, 0.0), trial(1, 0.3, 0.0, -1.0), trial(2, 0.2, -1.0, -1.0))
    assert top(trials, [LOSS], "loss", 3) == [2, 1]
    spec = StudySpec.parse("{name: s, objective: analytic, goals: [{metric: loss}], budget: {trials: 3}}")
    spec = spec.model_copy(update={"retrain": spec.retrain.model_copy(update={"confirm": 0, "pick": "loss"})})
    assert choose(snapshot(*trials), spec).number == 2
    with pytest.raises(UserError, match=r"None of the 1 completed trials keeps .* trial 0, which breaks a <= 1 by 0.5"):
        choose(snapshot(trials[0]), spec)


def test_optuna_and_hpo_agree_on_the_front_of_a_constrained_study(
    tmp_path: Path, storage_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    launched = launch(tmp_path, storage_url, **ZDT1)
    front = ParetoFront.of(launched.snapshot.trials, launched.snapshot.study.goals).numbers
    study = optuna.load_study(study_name="limited", storage=storage_url)
    assert sorted(t.number for t in study.best_trials) == list(front)
    feasible = [t.number for t in study.trials if all(v <= 0 for v in t.constraints.values())]
    by_hand = [t.number for t in study.trials if t.values[1] <= 4 and t.values[0] >= 0.1]
    assert feasible == by_hand
    assert 0 < len(by_hand) < 20

    printing.show_front(launched.snapshot, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert [row["trial"] for row in shown if row["feasible"]] == list(front)
    assert [row["trial"] for row in shown if not row["feasible"]] == [n for n in range(20) if n not in by_hand]
    assert all(bool(row["breaks"]) != row["feasible"] for row in shown)
    printing.show_front(launched.snapshot)
    assert "\nNot feasible, and so not on the front:\n" in capsys.readouterr().out
    printing.show_study(launched.snapshot, as_json=False)
    out = capsys.readouterr().out
    assert f"20 complete ({20 - len(by_hand)} of them not feasible)" in out
    assert "f1 >= 0.1 by" in out


def test_a_study_without_a_feasible_trial_says_which_was_nearest_and_still_has_a_report(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    launched = launch(tmp_path, sqlite_url, **{**ZDT1, "constraints": ["f2 <= 0.5"]})
    assert launched.choice is None
    nearest = min(launched.snapshot.trials, key=lambda t: t.values[1]).number  # type: ignore[index]
    words = printing.launch_summary(launched, "hpo launch s.yaml")
    assert f"No trial keeps to every constraint. The nearest is trial {nearest}, which breaks f2 <= 0.5 by " in words
    with pytest.raises(UserError, match=f"The nearest is trial {nearest}"):
        service.choose(sqlite_url, "limited")
    capsys.readouterr()
    printing.show_front(launched.snapshot)
    assert capsys.readouterr().out.startswith("No trial keeps to every constraint:\n")
    page, *_ = service.report(sqlite_url, "limited", tmp_path / "report")
    assert "20 of the completed break a constraint." in page.read_text()


def test_a_violation_without_a_value_is_stored_everywhere(tmp_path: Path, storage_url: str) -> None:
    """Infinite in our table, and in Optuna's the largest number, which a browser can read."""
    launched = launch(tmp_path, storage_url, **ZDT1)
    with Database(storage_url) as database:
        studies = Studies(database)
        store = studies.trials(studies.get("limited"))
        last = launched.snapshot.trials[-1]
        store.records()
        number = len(launched.snapshot.trials)
        store.start(number, last.params, seed=1, epochs=1)
        store.finish(
            number, last.reason, values=last.values, metrics=last.metrics, best_step=1, attempt=1,  # type: ignore[arg-type]
            violations=(math.inf, -1.0),
        )  # fmt: skip
        assert store.records()[-1].violations == (math.inf, -1.0)
    plain = optuna.load_study(study_name="limited", storage=storage_url).trials[-1]
    assert list(plain.constraints.values()) == [pytest.approx(1.797e308, rel=1e-3), -1.0]
    query = "SELECT value_json FROM trial_system_attributes"
    assert not any("Infinity" in text for (text,) in rows(storage_url, query))


def test_the_table_of_a_study_without_constraints_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    free = replace(snapshot(trial(0, 0.5)), study=replace(snapshot().study, constraints=()))
    printing.show_front(free, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"trial": 0, "loss": 0.5, "best epoch": 1}]
