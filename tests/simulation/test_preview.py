"""A study before it runs: made-up curves, and what the preview makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpo import service
from hpo.errors import StudyFileError, UserError
from hpo.simulation.synthetic import synthetic_trials
from hpo.trial import Direction, Goal, TrialState
from tests import studies

Run = Callable[..., tuple[int, str, str]]
LOSS, SCORE, SIZE = Goal("loss"), Goal("score", Direction.MAXIMIZE), Goal("size")


def test_made_up_trials_learn_in_the_direction_of_their_goals() -> None:
    trials = synthetic_trials(200, 10, [LOSS, SCORE, SIZE], monitor=LOSS, once={"size"}, seed=1)
    curves = {
        name: np.array([[point.metrics[name] for point in trial.points] for trial in trials])
        for name in ("loss", "score", "size")
    }
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert [point.step for point in trials[0].points] == list(range(1, 11))
    # From step 1 to 10 a curve goes 1 - 10^-pace of its height: on average 2 (1 - 0.124) = 1.75.
    assert np.mean(curves["loss"][:, 0] - curves["loss"][:, -1]) == pytest.approx(1.75, abs=0.15)
    assert np.mean(curves["score"][:, -1] - curves["score"][:, 0]) == pytest.approx(1.75, abs=0.15)
    assert (curves["size"] == curves["size"][:, :1]).all() and np.std(curves["size"][:, 0]) == pytest.approx(
        1, abs=0.15
    )
    for trial in trials[:20]:
        best = min(trial.points, key=lambda point: point.metrics["loss"])
        assert trial.values == tuple(best.metrics[name] for name in ("loss", "score", "size"))


def test_the_same_seed_makes_up_the_same_trials() -> None:
    assert synthetic_trials(3, 4, [LOSS], monitor=LOSS, seed=5) == synthetic_trials(3, 4, [LOSS], monitor=LOSS, seed=5)
    assert synthetic_trials(3, 4, [LOSS], monitor=LOSS, seed=5) != synthetic_trials(3, 4, [LOSS], monitor=LOSS, seed=6)


def test_without_a_pruner_the_cost_is_trials_times_epochs(tmp_path: Path) -> None:
    path = studies.write(
        tmp_path, budget={"trials": 12, "epochs": 5}, concurrency=3, runner="ray", retrain={"confirm": 2}
    )
    found = service.preview(path, epoch_s=60)
    assert (found.spent.low, found.spent.median, found.spent.high) == (60, 60, 60)
    assert found.work_h is not None and found.work_h.median == 1.0
    assert found.wall_h is not None and found.wall_h.median == pytest.approx(1 / 3)  # 3 at once
    assert found.confirm_epochs == 2 * 2 * 5
    assert service.preview(path).work_h is None
    alone = service.preview(path, epoch_s=60, workers=1)
    assert alone.wall_h is not None and alone.wall_h.median == pytest.approx(1.0)


def test_a_pruner_with_rungs_shows_its_own(tmp_path: Path) -> None:
    pruner = {"name": "successive_halving", "reduction_factor": 3, "min_resource": 2}
    path = studies.write(tmp_path, budget={"trials": 27, "epochs": 10}, pruner=pruner)
    found = service.preview(path)
    assert set(found.reach) == {1, 2, 6, 10}  # the first and last step, and 2 times 3^k between
    assert found.reach[2].median == 27 > found.reach[6].median > found.reach[10].median
    assert 0 < found.share.low <= found.share.median <= found.share.high < 1


def test_a_time_limit_ends_it_where_nothing_else_does(tmp_path: Path) -> None:
    path = studies.write(tmp_path, budget={"timeout": 100, "epochs": 5}, concurrency=2, runner="ray")
    # A trial takes 50 s: two begin at 0, two at 50, and at 100 the limit has passed.
    found = service.preview(path, epoch_s=10)
    assert (found.started.median, found.wall_h and found.wall_h.median) == (4, 100 / 3600)


def test_limits_in_a_metrics_own_units_are_left_out_and_told(tmp_path: Path) -> None:
    path = studies.write(tmp_path, pruner={"name": "threshold", "upper": 0.001})
    found = service.preview(path)
    assert found.pruned.high == 0
    assert any("threshold is left out" in remark for remark in found.remarks)


def test_the_command_prints_tables_and_json(tmp_path: Path, run_cli: Run) -> None:
    path = studies.write(tmp_path, budget={"trials": 20, "epochs": 8}, pruner={"name": "median"})
    code, out, _ = run_cli("preview", str(path), "--epoch-s", "2")
    assert code == 0
    assert out.startswith("Study branin: 20 trials of at most 8 epochs, 1 at once, pruner median.")
    assert "hours until it ends" in out and "made-up learning curves" in out
    code, out, _ = run_cli("preview", str(path), "--json")
    assert code == 0 and json.loads(out)["started"] == {"median": 20, "low": 20, "high": 20}
    assert list(tmp_path.iterdir()) == [path]  # nothing is written


def test_the_time_of_an_epoch_is_measured_on_request(tmp_path: Path, run_cli: Run) -> None:
    path = studies.write(tmp_path)
    code, _, err = run_cli("preview", str(path), "--measure")
    assert code == 2 and "analytic has no pre-flight; say how long an epoch takes with --epoch-s" in err


def test_mistakes_are_one_message(tmp_path: Path, run_cli: Run) -> None:
    path = studies.write(tmp_path, budget={"timeout": 100, "epochs": 5})
    with pytest.raises(UserError, match="Only a time limit ends this study"):
        service.preview(path)
    with pytest.raises(UserError, match="--workers must be between 1 and"):
        service.preview(path, epoch_s=1, workers=2)
    assert run_cli("preview", str(path), "--epoch-s", "1", "--measure")[0] == 2
    for seconds in ("0", "nan", "inf"):
        code, _, err = run_cli("preview", str(path), "--epoch-s", seconds)
        assert code == 2 and "--epoch-s is the seconds of one epoch, above 0" in err
    with pytest.raises(StudyFileError, match="Unknown pruner"):
        service.preview(studies.write(tmp_path, pruner={"name": "nobody"}))
