"""The picture of one run: what is drawn for which kind of model, and what the figures in it are."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.metrics import confusion_matrix

from hpo.errors import UserError
from hpo.reports.page import write_report
from hpo.reports.predictions import Predictions, agreement, calibration, confusion, load
from hpo.reports.run_picture import Marks, draw_run, run_marks, run_panels
from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState
from storage.records import EventRecord, Snapshot
from tests.reports.make_snapshot import make_study

LOSS = Goal("val_loss")


def make_run(epochs: int = 6, kind: StopKind = StopKind.FINISHED, **more: Any) -> TrialRecord:
    points = tuple(
        Point(
            step,
            {
                "train_loss": 1 / step, "val_loss": 1.1 / step, "val_mse": 1.1 / step, "val_r": step / 10,
                "val_r_text": 0.1 * step, "train_r": step / 9, "val_mae": 0.2 / step, "val_a": float(step),
                "val_b": step**0.5, "lr": 1e-3, "grad_norm": 1.0 * step, "epoch_s": 2.0, "epoch_memory_mb": 100.0,
                "latency_ms": 3.0, "val_never": math.nan,
            },
        )
        for step in range(1, epochs + 1)
    )  # fmt: skip
    reason = StopReason(kind, "why it ended")
    return TrialRecord(
        3, reason.state, {"lr": 0.1}, 1, values=(0.2,), metrics={"val_loss": 0.2}, best_step=min(4, epochs),
        last_step=epochs, reason=reason, points=points, epochs=epochs, **more,
    )  # fmt: skip


def make_snapshot_of(run: TrialRecord, *events: EventRecord) -> Snapshot:
    return Snapshot(make_study(1), (run,), events=events)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def keep(folder: Path, part: str, **arrays: Any) -> Path:
    np.savez(folder / f"{part}_predictions.npz", **arrays)
    return folder


def test_losses_come_first_then_main_metrics_then_upkeep() -> None:
    titles = [panel.title for panel in run_panels(make_run(), [LOSS], LOSS)]
    # val_mse is the loss under another name, val_r_text a single group's, latency_ms measured once.
    assert titles == [
        "loss", "r", "mae", "a",
        "learning rate", "gradient norm before clipping", "memory (MB)", "time of an epoch (s)",
    ]  # fmt: skip


def test_the_monitored_metric_and_the_goals_come_before_other_metrics() -> None:
    goals = [LOSS, Goal("val_b", Direction.MAXIMIZE), Goal("val_a", Direction.MAXIMIZE)]
    titles = [panel.title for panel in run_panels(make_run(), goals, Goal("val_mae"))]
    assert titles[:4] == ["loss", "mae", "b", "a"]


def test_training_and_validation_share_a_panel() -> None:
    panels = {panel.title: panel for panel in run_panels(make_run(3), [LOSS], LOSS)}
    assert [(line.label, line.values) for line in panels["loss"].lines] == [
        ("training", (1.0, 0.5, 1 / 3)),
        ("validation", (1.1, 0.55, 1.1 / 3)),
    ]
    assert [line.label for line in panels["r"].lines] == ["training", "validation"]
    assert [line.steps for line in panels["mae"].lines] == [(1, 2, 3)]


def test_an_objective_that_does_not_train_has_its_own_metrics() -> None:
    run = replace(make_run(2), points=(Point(1, {"f1": 2.0}), Point(2, {"f1": 1.0})))
    assert [panel.title for panel in run_panels(run, [Goal("f1")], Goal("f1"))] == ["f1"]


def test_marks_tell_the_best_epoch_recoveries_of_this_run_and_an_early_end() -> None:
    events = [
        EventRecord("t", "search", 3, "recovery", "", {"epoch": 2}),
        EventRecord("t", "search", 4, "recovery", "", {"epoch": 1}),
        EventRecord("t", "retrain", 3, "recovery", "", {"epoch": 5}),
        EventRecord("t", "search", 3, "compiled", "", {}),
    ]
    assert run_marks(make_run(), events, "search") == Marks(4, (2,), None)
    assert run_marks(make_run(5, StopKind.EARLY), events, "search") == Marks(4, (2,), 5)


def test_agreement_is_pearsons_r_and_the_rmse() -> None:
    actual = rng().normal(size=(50, 1))
    predicted = actual + rng().normal(size=(50, 1))
    predicted[3] = np.nan
    found = agreement(Predictions("test", "value", predicted, actual))
    assert found is not None
    kept = np.arange(50) != 3
    assert found.r == pytest.approx(stats.pearsonr(actual[kept, 0], predicted[kept, 0]).statistic)
    assert found.rmse == pytest.approx(np.sqrt(np.mean((actual[kept] - predicted[kept]) ** 2)))
    constant = agreement(Predictions("test", "value", np.ones(4), np.arange(4.0)))
    assert constant is not None and math.isnan(constant.r)


def test_confusion_counts_actual_by_predicted_and_leaves_padding_out() -> None:
    targets = rng().integers(0, 4, 200)
    logits = rng().normal(size=(200, 4)) + 2 * np.eye(4)[targets]
    found = confusion(Predictions("test", "class", logits, targets))
    assert found is not None
    np.testing.assert_array_equal(found.counts, confusion_matrix(targets, logits.argmax(1), labels=range(4)))
    padded = np.where(np.arange(200) < 50, -100, targets)
    found = confusion(Predictions("test", "class", logits, padded))
    assert found is not None and found.counts.sum() == 150


def test_one_logit_a_row_stands_for_two_classes() -> None:
    found = confusion(Predictions("test", "class", np.array([[-1.0], [2.0], [3.0]]), np.array([0, 0, 1])))
    assert found is not None
    assert found.counts.tolist() == [[1, 1], [0, 1]]


def test_standard_deviations_that_are_right_are_well_calibrated() -> None:
    sigmas = rng().uniform(0.5, 2.0, (20_000, 1))
    means = rng().normal(size=(20_000, 1))
    targets = means + sigmas * np.random.default_rng(8).normal(size=(20_000, 1))
    found = calibration(Predictions("test", "gaussian", np.hstack([means, sigmas]), targets))
    assert found is not None
    np.testing.assert_allclose(found.observed, found.expected, atol=0.02)
    np.testing.assert_allclose(found.error, found.sigma, rtol=0.06)
    # With twice the true sigma, the 68.27 % of one sigma lie within half of it.
    wide = calibration(Predictions("test", "gaussian", np.hstack([means, 2 * sigmas]), targets))
    assert wide is not None
    half = float(2 * stats.norm.cdf(0.5) - 1)
    assert np.interp(half, wide.expected, wide.observed) == pytest.approx(0.6827, abs=0.02)


@pytest.mark.parametrize("kind", ["value", "class", "gaussian", "other"])
def test_what_does_not_fit_is_no_figure(kind: str) -> None:
    odd = Predictions("test", kind, np.zeros((4, 3, 2)), np.zeros((4, 5)))
    assert (agreement(odd), confusion(odd), calibration(odd)) == (None, None, None)


def test_kept_predictions_say_what_they_are(tmp_path: Path) -> None:
    two = np.zeros((3, 2), np.float32)
    for arrays, kind in (
        ({"targets": np.zeros(3, np.int64)}, "class"),
        ({"targets": two}, "value"),
        ({"targets": two[:, :1], "kind": "gaussian"}, "gaussian"),
        ({"targets": np.zeros(3, np.int64), "kind": "other"}, "other"),
    ):
        found = load(keep(tmp_path, "val", outputs=two, **arrays), "validation")
        assert found is not None and found.kind == kind
    wide = {"outputs": np.arange(6).reshape(1, 6), "targets": np.zeros(1, int), "columns": 4}
    cut = load(keep(tmp_path, "val", **wide), "validation")
    assert cut is not None and cut.outputs.tolist() == [[0, 1, 2, 3]]
    assert load(tmp_path, "test") is None
    (tmp_path / "test_predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    assert load(tmp_path, "test") is None


def size_of(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture)) as image:
        image.verify()
        return image.size


def test_each_kind_of_model_adds_its_own_panels(tmp_path: Path) -> None:
    """Eight curves fill two rows of four; one panel more makes three rows of three, two more a fourth row."""
    run = make_run()
    snapshot = make_snapshot_of(run)
    shapes = {}
    values = rng().normal(size=(40, 1))
    for name, arrays in {
        "none": {},
        "value": {"outputs": values + 0.1, "targets": values},
        "class": {"outputs": rng().normal(size=(40, 10)), "targets": rng().integers(0, 10, 40)},
        "gaussian": {"outputs": np.hstack([values, 0 * values + 1]), "targets": values, "kind": "gaussian"},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        if arrays:
            keep(folder, "val", **arrays)
        shapes[name] = size_of(draw_run(snapshot, run, "search", folder))
    assert shapes["none"][0] > shapes["none"][1]
    assert shapes["value"] == shapes["class"] != shapes["none"]
    assert shapes["gaussian"][0] == shapes["value"][0] < shapes["none"][0]
    assert shapes["gaussian"][1] > shapes["value"][1] > shapes["none"][1]


def test_a_run_of_one_epoch_a_stopped_one_and_one_that_recovered_are_drawn(tmp_path: Path) -> None:
    recovery = EventRecord("t", "retrain", 3, "recovery", "", {"epoch": 2})
    for run in (make_run(1), make_run(60, StopKind.PRUNED), make_run(3, StopKind.ERROR)):
        assert size_of(draw_run(make_snapshot_of(run, recovery), run, "retrain", tmp_path))[0] > 1000


def test_a_run_without_an_epoch_is_told(tmp_path: Path) -> None:
    run = replace(make_run(), points=(), state=TrialState.QUEUED)
    with pytest.raises(UserError, match="has reported no epoch"):
        draw_run(make_snapshot_of(run), run, "search", tmp_path)


def test_the_report_shows_pictures_of_runs_and_drops_those_of_an_earlier_one(tmp_path: Path) -> None:
    run = make_run()
    picture = draw_run(make_snapshot_of(run), run, "search", tmp_path)
    (tmp_path / "run-retrain-7.png").write_bytes(b"of an earlier report")
    paths = write_report(make_snapshot_of(replace(run, number=0)), tmp_path, runs={"search-0": picture})
    assert tmp_path / "run-search-0.png" in paths
    assert (tmp_path / "run-search-0.png").read_bytes() == picture
    assert not (tmp_path / "run-retrain-7.png").exists()
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert base64.b64encode(picture).decode() in page
    assert '<section id="runs">' in page
