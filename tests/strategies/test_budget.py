"""Suggested budgets, worked out on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import service
from hpo.strategies.budget import suggest, usual
from hpo.training.checks.findings import Finding, Preflight, Result
from objectives import registry
from objectives.base import UsualBudget
from tests.studies import write


@pytest.mark.parametrize(
    ("weights", "samples", "epochs"),
    [
        (4_810, 1_100, (22, 88)),  # 20 * 4810 / 1100 = 87.5; a quarter of 88 is 22
        (10_000_000, 1_000, (50, 200)),  # more than 200
        (100, 1_000_000, (5, 5)),  # fewer than 5
    ],
)
def test_epochs_follow_the_samples_that_a_weight_sees(weights: int, samples: int, epochs: tuple[int, int]) -> None:
    assert suggest(parameters=1, weights=weights, samples=samples, epoch_s=1.0).epochs == epochs


def test_trials_follow_the_parameters_and_the_cost_the_epochs_and_the_workers() -> None:
    found = suggest(parameters=4, weights=4_810, samples=1_100, epoch_s=9.0, workers=3)
    # 40 trials are 14 rounds of three; 14 * 22 * 9 s = 2772 s, 14 * 88 * 9 s = 11088 s.
    assert found.trials == 40
    assert found.hours == pytest.approx((0.77, 3.08))
    assert "22 to 88 epochs, 40 trials; about 0.77 to 3.1 h with 3 at once" in str(found)


def test_a_check_takes_them_from_what_the_pre_flight_measured(tmp_path: Path) -> None:
    plan = service.check(write(tmp_path))  # two parameters, one trial at a time
    task = Finding("task", Result.OK, "", {"parameters": 9_999, "trainable": 4_810, "samples": 1_100})
    found = service.suggested_budget(plan, Preflight((task, Finding("time", Result.OK, "", {"epoch_s": 9.0}))))
    assert found == suggest(parameters=2, weights=4_810, samples=1_100, epoch_s=9.0, workers=1)
    untimed = Preflight((task, Finding("time", Result.SKIPPED, "")))
    assert service.suggested_budget(plan, untimed) is None


def test_what_an_objective_says_is_usual_for_the_size_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = service.check(Path(__file__).parents[2] / "examples" / "my-digits.yaml")
    budgets = (UsualBudget(1e3, 20, 5, (8, 16)), UsualBudget(1e6, 15, 3, (4, 8)))
    monkeypatch.setattr(type(registry.find(plan.spec.objective, plan.import_from)), "usual_budgets", budgets)

    def suggested(weights: int) -> str:
        task = Finding("task", Result.OK, "", {"trainable": weights, "samples": 1_000})
        return str(service.suggested_budget(plan, Preflight((task, Finding("time", Result.OK, "", {"epoch_s": 36.0})))))

    assert "as usual for this size: 3 epochs, 15 trials;" in suggested(500_000)
    assert "Physical batch: 4 to 8." in suggested(500_000)
    assert "5 epochs, 20 trials;" in suggested(999)
    assert "by rule of thumb" in suggested(2_000_000)


def test_the_hours_of_a_usual_budget_are_its_rounds() -> None:
    # 15 trials are 8 rounds of two; 8 * 3 * 36 s = 864 s.
    found = usual(trials=15, epochs=3, batch_size=(4, 8), epoch_s=36.0, workers=2)
    assert found.hours == pytest.approx((0.24, 0.24))
