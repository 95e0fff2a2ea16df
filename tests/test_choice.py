"""Naming a winner: when a confirmation counts, and what it decides. Numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import printing
from hpo.choice import choose, confirmations
from hpo.spec import StudySpec
from hpo.trial import Goal, TrialRecord, TrialState
from storage.records import CONFIRM, Snapshot, StudyRecord

SPEC = StudySpec.parse(
    "{name: s, objective: analytic, data: {function: branin}, goals: [{metric: loss}], budget: {trials: 3}, seed: 5,"
    " retrain: {pick: loss, confirm: 2, confirm_seeds: 2}}"
)
SEARCH = tuple(
    TrialRecord(number, TrialState.COMPLETE, {"x": float(number)}, 0, values=(loss,), metrics={"loss": loss})
    for number, loss in enumerate([0.1, 0.2, 0.9])
)
(KEY_A, KEY_B, KEY_C, KEY_D) = confirmations([0, 1], SPEC)  # trial 0 twice, trial 1 twice


def run(number: int, key: tuple[int, int], loss: float | None, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    metrics = {} if loss is None else {"loss": loss}
    return TrialRecord(number, state, {}, key[1], metrics=metrics, subject=key[0])


def snapshot(*runs: TrialRecord) -> Snapshot:
    study = StudyRecord("s", "analytic", "", "", (Goal("loss"),), Goal("loss"), "", "2026-01-01T00:00:00+00:00")
    return Snapshot(study, SEARCH, {CONFIRM: runs} if runs else {})


ALL = (run(0, KEY_A, 0.5), run(1, KEY_B, 0.7), run(2, KEY_C, 0.3), run(3, KEY_D, 0.1))


def test_each_of_the_top_is_confirmed_with_its_own_fresh_seeds() -> None:
    keys = confirmations([0, 1], SPEC)
    assert [number for number, _ in keys] == [0, 0, 1, 1]
    assert len({seed for _, seed in keys}) == 4


def test_the_means_of_a_whole_confirmation_decide() -> None:
    choice = choose(snapshot(*ALL), SPEC)
    assert choice.luck is not None and not choice.unfinished
    assert choice.luck.spreads[0]["loss"].mean == pytest.approx(0.6)
    assert choice.luck.spreads[1]["loss"].mean == pytest.approx(0.2)
    assert choice.number == 1


@pytest.mark.parametrize("state", [TrialState.QUEUED, TrialState.RUNNING])
def test_a_run_that_is_still_going_confirms_nothing(state: TrialState) -> None:
    choice = choose(snapshot(*ALL[:3], run(3, KEY_D, None, state)), SPEC)
    assert (choice.number, choice.luck, choice.unfinished) == (0, None, True)


def test_one_seed_of_two_confirms_nothing() -> None:
    choice = choose(snapshot(ALL[0], ALL[2]), SPEC)
    assert (choice.number, choice.luck, choice.unfinished) == (0, None, True)


def test_a_failed_run_has_ended_and_one_that_is_repeated_has_not() -> None:
    failed = (*ALL[:3], run(3, KEY_D, None, TrialState.FAIL))
    over = choose(snapshot(*failed), SPEC)
    assert over.luck is not None and over.luck.spreads[1]["loss"].values == (0.3,)
    assert choose(snapshot(*failed, run(4, KEY_D, None, TrialState.RUNNING)), SPEC).unfinished


def test_no_confirmation_at_all_is_not_an_unfinished_one() -> None:
    choice = choose(snapshot(), SPEC)
    assert (choice.number, choice.luck, choice.unfinished) == (0, None, False)


def test_trials_that_no_launch_would_confirm_are_not_called_unfinished() -> None:
    choice = choose(snapshot(*ALL), SPEC, where=["x > 0.5"])  # trials 1 and 2; 2 was never confirmed
    assert (choice.number, choice.luck, choice.unfinished) == (1, None, False)


def test_best_says_that_a_launch_goes_on_with_an_unfinished_confirmation(capsys: pytest.CaptureFixture[str]) -> None:
    half = snapshot(*ALL[:2])
    printing.show_choice(half, choose(half, SPEC), as_json=False)
    assert "Confirmation is unfinished; hpo launch goes on with it." in capsys.readouterr().out


def test_best_tells_what_fresh_seeds_gave_also_where_they_did_not_decide(capsys: pytest.CaptureFixture[str]) -> None:
    found = snapshot(*ALL)
    printing.show_choice(found, choose(found, SPEC, where=["x > 0.5"]), as_json=False)  # trial 1: 0.3 and 0.1
    told = capsys.readouterr().out
    assert "With 2 fresh seeds it gave on average loss 0.2." in told
    assert "Not confirmed" not in told


def test_a_launch_confirms_exactly_what_the_choice_waits_for(tmp_path: Path, sqlite_url: str) -> None:
    from tests.studies import launch

    launched = launch(tmp_path, sqlite_url, retrain={"confirm": 2, "confirm_seeds": 2, "pick": "f1"})
    spec = StudySpec.parse(launched.snapshot.study.spec_yaml)
    best = sorted(launched.snapshot.trials, key=lambda t: t.values or ())[:2]
    done = {(r.subject, r.seed) for r in launched.snapshot.others[CONFIRM]}
    assert done == set(confirmations([t.number for t in best], spec))
    assert launched.choice is not None and launched.choice.luck is not None
