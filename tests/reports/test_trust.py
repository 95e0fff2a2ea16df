"""What the report says of cross-validations, gains, intervals and gates; figures by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from make_snapshot import make_snapshot

from hpo.reports import trust
from hpo.reports.facts import Facts
from hpo.reports.page import write_report
from hpo.trial import Point, StopKind, StopReason, TrialRecord, TrialState
from storage.records import RETRAIN, VALIDATE, EventRecord, ModelRecord, Snapshot

DONE = StopReason(StopKind.FINISHED, "ran all 2 epochs")
NASTY = "<b>evil</b>"


def fold(number: int, index: int, loss: float, *, of: int = 3, subject: int | None = 4, epochs: int = 2) -> TrialRecord:
    points = (Point(1, {"val_loss": loss}), Point(2, {"val_loss": loss + 1}))
    return TrialRecord(
        number, TrialState.COMPLETE, {"lr": 0.1}, seed=number, metrics={"val_loss": loss}, best_step=1, last_step=2,
        reason=DONE, points=points, subject=subject, epochs=epochs, fold=(index, of),
    )  # fmt: skip


def snapshot(
    *runs: TrialRecord, events: tuple[EventRecord, ...] = (), models: tuple[ModelRecord, ...] = ()
) -> Snapshot:
    made = make_snapshot(1, 6)
    spec = made.study.spec_yaml + "gates:\n  - {metric: r, at_least: 0.9}\n"
    return replace(
        made, study=replace(made.study, spec_yaml=spec), others={VALIDATE: tuple(runs)}, events=events, models=models
    )


def event(kind: str, **details: object) -> EventRecord:
    return EventRecord("2026-03-01T10:00:00+00:00", RETRAIN, None, kind, "", details)


def test_each_cross_validation_stands_for_itself_the_newest_first() -> None:
    runs = [fold(i, i, loss) for i, loss in enumerate((0.1, 0.2, 0.6))]
    later = [fold(3, 0, 0.5, of=2, subject=None), fold(4, 1, 0.7, of=2, subject=None)]
    newest, first = trust.cross_validations(Facts(snapshot(*runs, *later)))
    assert first.title == "Trial 4, 3 folds of up to 2 epochs"
    # mean 0.3; deviations -0.2, -0.1, 0.3: sqrt(0.14 / 2) = 0.2646
    assert first.sentence == "val_loss is 0.3 ± 0.2646 over 3 folds."
    assert first.overall == (("val_loss", "0.3", "0.2646", "0.1", "0.6", "3"),)
    assert first.folds[2] == ("2", "0.6", "1.6", "1", "2", "complete")
    assert newest.title == "Parameters given by hand, 2 folds of up to 2 epochs"
    assert first.strip is not None
    # 280 pixels between the paddings for 0.1 to 0.6: 0.2 stands a fifth of the way, the mean two fifths.
    assert [x for x, _ in first.strip.dots] == [10.0, 66.0, 290.0] and first.strip.mean == 122.0


def test_a_cross_validation_that_is_not_over_says_so() -> None:
    (found,) = trust.cross_validations(Facts(snapshot(fold(0, 0, 0.1), fold(1, 2, math.nan))))
    assert "Only 2 of 3 folds are complete" in found.sentence
    assert found.strip is None


def test_gains_are_those_of_the_recommended_trial_and_of_the_seeds_mean() -> None:
    simple = {"mean": {"val_loss": 9.0, "test_loss": 2.0, "test_r": 0.5}}
    events = (
        event("baselines", part="validation", metrics=simple),
        event("baselines", metrics=simple),  # an earlier hpo did not say which part
        event("intervals", metrics={"test_r": {"low": 0.85, "high": 0.95}}),
    )
    made = snapshot(events=events)
    retrained = tuple(
        TrialRecord(i, TrialState.COMPLETE, {}, i, metrics={"test_r": r, "test_loss": 4.0}, subject=1)
        for i, r in enumerate((0.8, 1.0))
    )
    facts = Facts(replace(made, others={RETRAIN: retrained}))
    validation, test = trust.gained(facts)
    best = facts.recommended
    assert best is not None and validation.columns == ("metric", "model", "beside mean")
    assert (
        validation.rows[0][2]
        == f"{9 - best.metrics['val_loss']:.3g} better, ×{best.metrics['val_loss'] / 9:.3g} (than 9)"
    )
    assert test.rows == (("loss", "4", "2 worse, ×2 (than 2)"), ("r", "0.9", "0.4 better, ×1.8 (than 0.5)"))
    assert trust.intervals(facts) == {"test_r": "0.85 to 0.95"}


def test_the_page_shows_folds_gains_and_gates_and_no_markup_of_others(tmp_path: Path) -> None:
    gates = [
        {"name": "r ≥ 0.9", "rule": "r ≥ 0.9", "over": "test", "metric": "r", "value": 0.8, "met": False, "why": ""},
        {"name": NASTY, "rule": "file_mb ≤ 1", "over": "export", "metric": "file_mb", "value": None, "met": None,
         "why": "hpo export s"},
    ]  # fmt: skip
    model = ModelRecord("2026-03-01T10:00:00+00:00", "b", 4, {"formats": {}, "gates": gates, "released": False})
    made = snapshot(fold(0, 0, 0.1), fold(1, 1, 0.2), fold(2, 2, 0.3), models=(model,))
    page = write_report(made, tmp_path)[0].read_text()
    assert "Cross-validation: " in page and "val_loss is 0.2 ± 0.1 over 3 folds." in page
    assert "Not released: not every gate is met." in page
    assert "NOT MET" in page and "not measured" in page
    assert NASTY not in page and "&lt;b&gt;evil&lt;/b&gt;: file_mb ≤ 1" in page


def test_a_study_without_any_of_it_has_no_such_section(tmp_path: Path) -> None:
    page = write_report(make_snapshot(1, 6), tmp_path)[0].read_text()
    assert "How far to trust it" not in page
