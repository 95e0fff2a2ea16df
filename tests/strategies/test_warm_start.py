"""Points of an earlier study in a new space: mappings by hand, and real studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import StudyChanged, StudyFileError, UserError
from hpo.strategies.warm_start import map_points
from hpo.trial import Params, TrialRecord, TrialState
from search_spaces import SearchSpace
from tests.studies import launch, rows

SPACE = SearchSpace.from_dict(
    {
        "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "drop": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.2},
        "width": {"type": "int", "low": 16, "high": 64, "step": 16},
        "batch": {"type": "categorical", "choices": [8, 32, 128]},
        "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
    }
)


def trials(*points: Params) -> list[TrialRecord]:
    return [TrialRecord(10 + i, TrialState.COMPLETE, point, 0, values=(0.0,)) for i, point in enumerate(points)]


def test_a_point_inside_stays_as_it_is() -> None:
    point = {"lr": 1e-3, "drop": 0.2, "width": 32, "batch": 32, "optimizer": "sgd", "momentum": 0.5}
    found = map_points(trials(point), SPACE, clip=False)
    assert found.points == (point,) and found.trials == (10,)
    assert (found.clipped, found.dropped, found.open) == (0, (), ())


def test_values_outside_go_to_the_nearest_bound_step_or_choice() -> None:
    point = {"lr": 1.0, "drop": 0.5, "width": 45, "batch": 100, "optimizer": "adamw"}
    found = map_points(trials(point), SPACE, clip=True)
    # Steps of drop: 0, 0.2, 0.4; of width: 16, 32, 48, 64.
    assert found.points == ({"lr": 1e-2, "drop": 0.4, "width": 48, "batch": 128, "optimizer": "adamw"},)
    assert found.clipped == 4


def test_or_their_trial_is_left_out() -> None:
    found = map_points(trials({"lr": 1.0}, {"lr": 1e-3}), SPACE, clip=False)
    assert (found.points, found.trials, found.dropped) == (({"lr": 1e-3},), (11,), (10,))


def test_what_has_no_nearest_value_and_what_the_earlier_study_had_not_is_left_to_the_sampler() -> None:
    found = map_points(trials({"lr": 1e-3, "optimizer": "lion", "momentum": 0.5, "gone": 1}), SPACE, clip=True)
    # Without an optimizer, nobody knows whether there is a momentum.
    assert found.points == ({"lr": 1e-3},)
    assert found.open == ("drop", "width", "batch", "optimizer")


def test_a_parameter_whose_condition_does_not_hold_is_no_part_of_a_point() -> None:
    found = map_points(trials({"optimizer": "adamw", "momentum": 0.5}), SPACE, clip=True)
    assert found.points == ({"optimizer": "adamw"},)
    assert "momentum" not in found.open


def test_two_trials_that_come_to_the_same_point_give_it_once() -> None:
    found = map_points(trials({"lr": 1.0}, {"lr": 2.0}), SPACE, clip=True)
    assert (found.points, found.same) == (({"lr": 1e-2},), (11,))


FINER: dict[str, Any] = {
    "name": "finer",
    "search_space": {
        "x0": {"type": "float", "low": 0.0, "high": 5.0},
        "x1": {"type": "float", "low": 0.0, "high": 15.0},
    },
    "warm_start": {"study": "branin", "top": 3},
}


def best_by_sql(url: str) -> list[int]:
    query = (
        "SELECT t.number FROM trials t JOIN studies s USING (study_id) JOIN trial_values v USING (trial_id) "
        "WHERE s.study_name = 'branin' ORDER BY v.value LIMIT 3"
    )
    return [row[0] for row in rows(url, query)]


def test_the_best_trials_come_first_then_what_is_enqueued_then_the_sampler(tmp_path: Path, sqlite_url: str) -> None:
    earlier = launch(tmp_path, sqlite_url).snapshot.trials
    own = [{"x0": 1.0, "x1": 2.0}]
    found = launch(tmp_path, sqlite_url, **FINER, enqueue=own).snapshot
    numbers = best_by_sql(sqlite_url)
    expected = [
        {"x0": min(max(earlier[n].params["x0"], 0.0), 5.0), "x1": earlier[n].params["x1"]} for n in numbers
    ]  # fmt: skip
    assert [t.params for t in found.trials[:4]] == [*expected, *own]
    assert [t.enqueued for t in found.trials] == [True] * 4 + [False] * 4
    event = next(event for event in found.events if event.kind == "warm_start")
    assert (event.details["study"], event.details["trials"]) == ("branin", numbers)


def test_the_points_stay_when_the_earlier_study_is_gone(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    whole = launch(tmp_path, sqlite_url, **{**FINER, "name": "whole"}).snapshot.trials
    launch(tmp_path, sqlite_url, **FINER, budget={"trials": 1, "epochs": 4})
    service.delete(sqlite_url, "branin")
    own = [{"x0": 1.0, "x1": 2.0}]
    trials = launch(tmp_path, sqlite_url, **FINER, enqueue=own).snapshot.trials
    assert [t.params for t in trials[:3]] == [t.params for t in whole[:3]]
    assert trials[3].params == own[0]
    with pytest.raises(StudyFileError, match=r"enqueue\[0\] was run as trial 3"):
        launch(tmp_path, sqlite_url, **FINER, enqueue=[{"x0": 3.0, "x1": 2.0}])


def test_another_warm_start_makes_it_another_study(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    launch(tmp_path, sqlite_url, **FINER)
    with pytest.raises(StudyChanged, match=r"warm_start\.top: was 3, is 2"):
        launch(tmp_path, sqlite_url, **{**FINER, "warm_start": {"study": "branin", "top": 2}})


def test_the_earlier_study_may_be_in_another_database(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    launch(tmp_path, other)
    monkeypatch.setenv("EARLIER", other)
    warm_start = {"study": "branin", "top": 3, "storage": "$EARLIER"}
    found = launch(tmp_path, sqlite_url, **{**FINER, "warm_start": warm_start}).snapshot
    assert sum(t.enqueued for t in found.trials) == 3
    monkeypatch.delenv("EARLIER")
    launch(tmp_path, sqlite_url, **{**FINER, "warm_start": {**warm_start, "storage": other}})  # only its place differs


@pytest.mark.parametrize(
    ("warm_start", "message"),
    [
        ({"study": "brannin"}, "warm_start: Unknown study 'brannin'.*Did you mean 'branin'"),
        ({"study": "finer"}, "'finer' is this study itself"),
        ({"study": "branin", "storage": "$NOT_THERE"}, "environment variable 'NOT_THERE' is not set"),
        ({"study": "branin", "storage": "sqlite:///none.db"}, "none.db"),
        ({"study": "empty"}, "no completed, feasible trial"),
    ],
)
def test_an_earlier_study_that_cannot_be_used_is_refused_and_nothing_is_made(
    tmp_path: Path, sqlite_url: str, warm_start: dict[str, Any], message: str
) -> None:
    launch(tmp_path, sqlite_url)
    launch(tmp_path, sqlite_url, name="empty", budget={"trials": 1, "epochs": 1}, constraints=["f1 <= -1"])
    with pytest.raises(UserError, match=message):
        launch(tmp_path, sqlite_url, **{**FINER, "warm_start": warm_start})
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_studies WHERE name = 'finer'") == [(0,)]
    assert not (tmp_path / "runs/finer").exists()


def test_a_password_in_the_file_is_refused_and_not_shown(tmp_path: Path, sqlite_url: str) -> None:
    storage = "postgresql://me:hunter2secret@db/hpo"
    with pytest.raises(StudyFileError) as error:
        launch(tmp_path, sqlite_url, **{**FINER, "warm_start": {"study": "branin", "storage": storage}})
    assert "environment variable" in str(error.value) and "hunter2secret" not in str(error.value)


def test_a_grid_takes_no_warm_start(tmp_path: Path, sqlite_url: str) -> None:
    space = {"x0": {"type": "int", "low": 0, "high": 2}, "x1": {"type": "int", "low": 0, "high": 2}}
    with pytest.raises(StudyFileError, match="a grid tries every point"):
        launch(tmp_path, sqlite_url, **{**FINER, "search_space": space, "sampler": {"name": "grid"}})
