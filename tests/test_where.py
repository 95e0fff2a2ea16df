"""Comparisons as people type them."""

from __future__ import annotations

import pytest

from hpo.errors import UnknownName, UserError
from hpo.trial import TrialRecord, TrialState
from hpo.where import filtered

TRIALS = [
    TrialRecord(0, TrialState.COMPLETE, {"opt.lr": 1.0, "drop-out": 0.5, "flag": True, "clip": None}, 0),
    TrialRecord(1, TrialState.COMPLETE, {"opt.lr": 3.0, "drop-out": 0.1, "flag": False, "clip": 2.0}, 0),
    TrialRecord(2, TrialState.COMPLETE, {"opt.lr": 4.0, "kind": "None"}, 0, metrics={"mb": -2.0}),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("opt.lr < 2", [0]),
        ("opt.lr>=3", [1, 2]),
        ("drop-out > 0.2", [0]),
        ("mb<-1", [2]),
        ("mb > -1", []),
        ("flag == true", [0]),
        ("flag == True", [0]),
        ("flag == FALSE", [1]),
        ("flag != true", [1]),
        ("clip == none", [0]),
        ("clip == NULL", [0]),
        ("clip != none", [1]),
        ("clip == 2", [1]),
        ("clip != 2", [0]),
        ("clip > 1", [1]),
        ("kind == None", [2]),
    ],
)
def test_a_comparison_keeps_the_trials_for_which_it_holds(text: str, expected: list[int]) -> None:
    assert [trial.number for trial in filtered(TRIALS, [text])] == expected


def test_all_comparisons_must_hold() -> None:
    assert [t.number for t in filtered(TRIALS, ["opt.lr > 2", "flag == false"])] == [1]


@pytest.mark.parametrize("text", ["opt.lr", "opt lr < 2", "< 2", "opt.lr < fast"])
def test_what_is_no_comparison_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        filtered(TRIALS, [text])


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'opt\.lr'"):
        filtered(TRIALS, ["opt.lt < 2"])
