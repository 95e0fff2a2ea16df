"""hpo rerun: a trial again, alone; the same curve, or where it first differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import StudyChanged, UnknownName, UserError
from hpo.service.rerunning import Difference, compare
from hpo.trial import Metric, Point, TrialRecord, TrialState
from tests.processes import hpo
from tests.studies import launch, rows

NAN = float("nan")


def record(*curve: dict[str, float], **metrics: float) -> TrialRecord:
    points = tuple(Point(step, values) for step, values in enumerate(curve, 1))
    return TrialRecord(3, TrialState.COMPLETE, {}, 7, points=points, metrics=metrics)


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (record({"a": 1.0, "s": 5.0}), record({"a": 1.0, "s": 6.0}), None),
        (record({"a": NAN}), record({"a": NAN}), None),
        (record({"a": 0.1}, {"a": 0.3}), record({"a": 0.1}, {"a": 0.1 + 0.2}), Difference(2, "a", 0.3, 0.1 + 0.2)),
        (record({"a": 1.0}, {"a": 2.0}), record({"a": 1.0}), Difference(2, "a", 2.0, None)),
        (record({"a": 1.0}), record({"a": 1.0}, {"a": 2.0}), Difference(2, "a", None, 2.0)),
        (record({"a": 1.0}, mb=3.0), record({"a": 1.0}, mb=4.0), Difference(None, "mb", 3.0, 4.0)),
    ],
)
def test_two_runs_are_compared_bit_for_bit_without_the_timings(
    was: TrialRecord, now: TrialRecord, expected: Difference | None
) -> None:
    found = compare("x", was, now, {"a": Metric(), "mb": Metric(once=True), "s": Metric(timing=True)})
    assert found.difference == expected
    assert "s" not in found.compared


def test_any_trial_of_a_noisy_search_comes_out_the_same_again(tmp_path: Path, storage_url: str) -> None:
    fields: dict[str, Any] = {
        "data": {"function": "branin", "noise": 2.0}, "sampler": {"name": "tpe"}, "concurrency": 4,
        "pruner": {"name": "median", "startup_trials": 2}, "budget": {"trials": 10, "epochs": 5},
    }  # fmt: skip
    trials = launch(tmp_path, storage_url, **fields).snapshot.trials
    pruned = next(t for t in trials if t.state is TrialState.PRUNED)
    complete = next(t for t in trials if t.state is TrialState.COMPLETE)
    before = rows(storage_url, "SELECT * FROM hpo_trials WHERE series = 'search' ORDER BY number")
    for trial in (pruned, complete, complete):
        found = service.rerun(storage_url, "branin", trial.number)
        assert found is not None and found.is_same
        assert found.again.seed == trial.seed
        assert [p.metrics for p in found.again.points] == [p.metrics for p in trial.points]
    kept = "SELECT number, subject, state FROM hpo_trials WHERE series = 'rerun' ORDER BY number"
    assert rows(storage_url, kept) == [
        (0, pruned.number, "pruned"), (1, complete.number, "complete"), (2, complete.number, "complete")
    ]  # fmt: skip
    assert rows(storage_url, "SELECT * FROM hpo_trials WHERE series = 'search' ORDER BY number") == before


def test_a_trial_that_does_not_repeat_itself_says_where_it_first_differs(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "restless.py").write_text(
        "from pathlib import Path\n"
        "from objectives.analytic import Analytic\n"
        "class Restless(Analytic):\n"
        "    def run(self, job, context):\n"
        "        context.report(1, f1=1.0)\n"
        "        if job.series == 'rerun':\n"
        "            context.report(2, f1=0.5)\n"
        "        return super().run(job.__class__(**{**job.__dict__, 'reported': 3}), context)\n"
    )
    launch(tmp_path, sqlite_url, objective="restless:Restless", data={"function": "branin"}, budget={"trials": 2})
    shown = hpo(tmp_path, "rerun", "branin", "--trial", "1", "--storage", sqlite_url)
    assert shown.returncode == 1, shown.stderr
    assert "It differs first at step 2: f1 was absent and is 0.5 now." in shown.stdout
    as_json = hpo(tmp_path, "rerun", "branin", "--trial", "1", "--storage", sqlite_url, "--json")
    found = json.loads(as_json.stdout)
    assert (found["same"], found["rerun"], found["first_difference"]["step"]) == (False, 1, 2)


@pytest.mark.slow
def test_a_training_trial_comes_out_the_same_and_its_timings_are_left_out(tmp_path: Path, sqlite_url: str) -> None:
    launch(
        tmp_path, sqlite_url, objective="tests.run_objectives:Line", data=None,
        goals=[{"metric": "val_loss"}, {"metric": "samples_per_s"}], budget={"trials": 2, "epochs": 2},
        retrain={"confirm": 0},
    )  # fmt: skip
    found = service.rerun(sqlite_url, "branin", 1)
    assert found is not None and found.is_same, found
    assert {"epoch_s", "samples_per_s"} <= set(found.left_out) and "val_loss" in found.compared


def test_mistakes_are_one_clear_message(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    with pytest.raises(UserError, match="99"):
        service.rerun(sqlite_url, "branin", 99)
    with pytest.raises(UnknownName, match="Did you mean 'branin'"):
        service.rerun(sqlite_url, "brainin", 0)
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_launches") == [(1,)]


def test_a_trial_whose_data_has_changed_is_not_run(tmp_path: Path, sqlite_url: str) -> None:
    module = tmp_path / "datafied.py"
    text = (
        "from objectives.analytic import Analytic\nfrom objectives.base import DataFacts\n"
        "class Datafied(Analytic):\n    mark = 'one'\n"
        "    def check_data(self, data):\n        return DataFacts(self.mark)\n"
    )
    module.write_text(text)
    assert hpo_launch(tmp_path, sqlite_url).returncode == 0
    module.write_text(text.replace("'one'", "'two'"))
    refused = hpo(tmp_path, "rerun", "branin", "--trial", "0", "--storage", sqlite_url)
    assert refused.returncode == 2
    assert "is no longer what it was searched on" in refused.stderr
    assert StudyChanged.__name__ not in refused.stderr


def hpo_launch(folder: Path, url: str) -> Any:
    from tests.studies import write

    path = write(folder, objective="datafied:Datafied", budget={"trials": 1, "epochs": 1})
    return hpo(folder, "launch", str(path), "--storage", url, "--skip-preflight")
