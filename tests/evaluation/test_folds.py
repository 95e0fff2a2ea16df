"""Cross-validation summed up, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from hpo.evaluation.folds import over_folds, summarise_folds
from hpo.trial import Point, StopKind, StopReason, TrialRecord, TrialState


def fold(
    index: int, value: float, *, of: int = 3, state: TrialState = TrialState.COMPLETE, **more: float
) -> TrialRecord:
    points = (Point(1, {"val_r": value, **more}), Point(2, {"val_r": value - 0.5, **more}))
    reason = StopReason(StopKind.ERROR, "out of memory") if state is TrialState.FAIL else None
    return TrialRecord(
        7 + index, state, {"lr": 0.1}, seed=index, metrics={"val_r": value, **more}, best_step=1, last_step=2,
        reason=reason, points=points, subject=4, epochs=20, fold=(index, of),
    )  # fmt: skip


def test_mean_and_spread_are_those_of_the_folds_best_epochs() -> None:
    summary = summarise_folds([fold(2, 0.97), fold(0, 0.90), fold(1, 0.92)])
    assert (summary.subject, summary.folds, summary.epochs, summary.is_complete) == (4, 3, 20, True)
    over = summary.metrics["val_r"]
    assert over.values == (0.90, 0.92, 0.97)
    assert over.mean == pytest.approx(0.93)
    assert over.std == pytest.approx(math.sqrt(0.0026 / 2))  # deviations -0.03, -0.01, 0.04
    assert [(run.index, run.best_epoch, run.final_epoch) for run in summary.runs] == [(0, 1, 2), (1, 1, 2), (2, 1, 2)]
    assert [run.best["val_r"] for run in summary.runs] == [0.90, 0.92, 0.97]
    assert [run.final["val_r"] for run in summary.runs] == pytest.approx([0.40, 0.42, 0.47])


def test_a_fold_that_failed_is_told_and_leaves_the_whole_incomplete() -> None:
    summary = summarise_folds([fold(0, 0.9), fold(1, 0.1, state=TrialState.FAIL), fold(2, 0.8)])
    assert not summary.is_complete
    assert summary.metrics["val_r"].values == (0.9, 0.8)
    assert summary.runs[1].reason == "out of memory"
    assert not summarise_folds([fold(0, 0.9), fold(2, 0.8)]).is_complete


def test_a_group_too_small_in_one_fold_is_judged_on_the_others() -> None:
    summary = summarise_folds([fold(0, 0.9, val_r_rare=0.5), fold(1, 0.9), fold(2, 0.9, val_r_rare=0.7)])
    assert summary.metrics["val_r_rare"].values == (0.5, 0.7)


def test_a_nan_is_not_left_out_of_the_mean() -> None:
    over = over_folds("val_r", [0.5, math.nan])
    assert math.isnan(over.mean) and over.std is not None and math.isnan(over.std)
    assert over_folds("val_r", [0.5]).std is None


@pytest.mark.parametrize(
    "records",
    [
        [],
        [fold(0, 0.9), fold(0, 0.8)],
        [fold(0, 0.9), fold(1, 0.8, of=5)],
        [TrialRecord(0, TrialState.COMPLETE, {}, 0)],
    ],
)
def test_runs_of_several_cross_validations_are_not_mixed(records: list[TrialRecord]) -> None:
    with pytest.raises(ValueError, match="another fold of the same cross-validation"):
        summarise_folds(records)
