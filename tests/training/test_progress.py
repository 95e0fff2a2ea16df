import math

import pytest

from hpo.errors import TrialFailed
from hpo.training.progress import Progress
from hpo.training.settings import EarlyStopping
from hpo.trial import Direction, Goal, Point, StopKind, best_point

LOSS = Goal("val_loss")


def run(progress: Progress, losses: list[float], name: str = "val_loss") -> list[bool]:
    return [progress.see(epoch, {name: loss}) for epoch, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize("losses", [[3.0, 2.0, 2.0, 1.0], [1.0, 2.0], [math.nan, 5.0, math.nan, 4.0], [2.0, 2.0]])
def test_the_best_epoch_is_the_one_that_the_study_would_choose(losses: list[float]) -> None:
    progress = Progress(LOSS, None)
    run(progress, losses)
    chosen = best_point([Point(i, {"val_loss": loss}) for i, loss in enumerate(losses, start=1)], LOSS)
    assert chosen is not None
    assert progress.best_epoch == chosen.step


def test_early_stopping_says_since_when_and_from_what() -> None:
    progress = Progress(LOSS, EarlyStopping(patience=3))
    run(progress, [0.5, 0.0123, 0.02, 0.03])
    assert progress.stop_reason(100) is None
    progress.see(5, {"val_loss": 0.02})
    reason = progress.stop_reason(100)
    assert reason is not None
    assert reason.kind is StopKind.EARLY
    assert reason.message == "val_loss has not improved for 3 epochs since epoch 2 (0.0123)"


def test_a_gain_below_min_delta_is_the_best_epoch_but_does_not_end_the_waiting() -> None:
    progress = Progress(
        Goal("r", Direction.MAXIMIZE), EarlyStopping(metric="r", direction="maximize", patience=2, min_delta=0.1)
    )
    assert run(progress, [0.5, 0.55, 0.59], "r") == [True, True, True]
    assert progress.best_epoch == 3
    reason = progress.stop_reason(100)
    assert reason is not None
    assert "by 0.1 for 2 epochs since epoch 1 (0.5)" in reason.message


def test_a_metric_that_is_never_a_number_stops_after_the_patience_with_no_best_epoch() -> None:
    progress = Progress(LOSS, EarlyStopping(patience=2))
    run(progress, [math.nan, math.nan])
    assert progress.best_epoch == 0
    reason = progress.stop_reason(100)
    assert reason is not None
    assert "since the start" in reason.message


def test_the_last_epoch_is_finished_even_when_patience_ends_there() -> None:
    progress = Progress(LOSS, EarlyStopping(patience=1))
    run(progress, [1.0, 2.0])
    reason = progress.stop_reason(2)
    assert reason is not None
    assert reason.kind is StopKind.FINISHED


def test_a_restored_progress_goes_on_where_it_was() -> None:
    first, second = Progress(LOSS, EarlyStopping(patience=2)), Progress(LOSS, EarlyStopping(patience=2))
    run(first, [1.0, 2.0])
    second.restore(first.state())
    second.see(3, {"val_loss": 3.0})
    reason = second.stop_reason(100)
    assert reason is not None
    assert reason.kind is StopKind.EARLY
    assert second.best_epoch == 1


def test_a_missing_metric_is_named_with_those_that_are_there() -> None:
    with pytest.raises(TrialFailed, match=r"'val_r' is not. Reported: val_loss"):
        Progress(Goal("val_r"), None).see(1, {"val_loss": 1.0})
