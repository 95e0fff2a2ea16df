"""The report's section on health: warnings by rule, flags of the chosen runs, what was recovered from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from make_snapshot import make_snapshot
from parsed import write

from storage.records import EventRecord

pytestmark = pytest.mark.usefixtures("light", "no_plots")


def test_warnings_are_grouped_by_rule_with_their_trials_and_the_remedy(tmp_path: Path) -> None:
    page, _ = write(make_snapshot(2, 30), tmp_path)
    assert "3 of 30 trials raised a warning, most often overfitting (3)." in page.text
    assert (
        "overfitting 3 trial 2 , trial 5 and trial 8 epoch 4: overfitting said of 8 What helps against overfitting."
    ) in page.text
    assert "unstable 1 trial 5 epoch 4: unstable said of 5 What helps against unstable." in page.text
    assert "converged said of 5" not in page.text  # something hoped for is no warning
    assert any(tag == "a" and found.get("href") == "#health" for tag, found in page.tags)


def test_the_flags_are_those_of_the_recommended_trial_and_the_newest_retraining(tmp_path: Path) -> None:
    made = make_snapshot(1, 30)
    best = min((t for t in made.trials if t.values), key=lambda t: t.values).number
    retrained = made.others["retrain"]
    older = replace(retrained[0], subject=4)
    runs = (older, *(replace(r, number=n, subject=best) for n, r in enumerate(retrained[1:], start=1)))
    page, _ = write(replace(made, others={"retrain": runs}), tmp_path)
    assert f"rule trial {best} retrained, run 1 retrained, run 2 as wished" in page.text
    assert "overfitting ✗ 0.31 ✗ 0.31 ✗ 0.31 not: train_loss / val_loss < 0.5" in page.text
    assert "worsening ✓ 0 ✓ 0 ✓ 0 not: epochs running >= 3" in page.text
    assert f"converged ✓ {0.9 + best / 1e3:.4g} ✓ 0.901 ✓ 0.902 best val_r > 0.9" in page.text


def test_what_was_recovered_from_is_listed_once(tmp_path: Path) -> None:
    made = make_snapshot(1, 12)
    at = made.study.created_at
    troubles = [
        EventRecord(at, "search", 3, "recovery", "Second halving."),
        EventRecord(at, "retrain", 1, "mirror_failed", "The drive is gone."),
        EventRecord(at, "search", 4, "checkpoint_failed", "No space left."),
        EventRecord(at, "search", 4, "broken_checkpoint", "Cut short."),
    ]
    page, _ = write(replace(made, events=(*made.events, *troubles)), tmp_path)
    assert (
        "2 recoveries, 1 checkpoint that could not be written, 1 copy that did not reach the mirror "
        "and 1 broken checkpoint. Each was handled"
    ) in page.text
    assert "retrain run 1 mirror failed The drive is gone." in page.text
    assert page.text.count("Second halving.") == page.text.count("2 times the accumulation.") == 1
    assert "1 running trial was queued again" in page.text  # other events stay where they were


def test_without_anything_watched_there_is_no_section_on_health(tmp_path: Path) -> None:
    made = make_snapshot(1, 12)
    page, _ = write(replace(made, events=()), tmp_path / "none")
    assert not any(found.get("href") == "#health" or found.get("id") == "health" for _, found in page.tags)
    flags = tuple(event for event in made.events if event.kind == "health_flags")
    page, _ = write(replace(made, events=flags), tmp_path / "quiet")
    assert "None of 12 trials raised a warning." in page.text
