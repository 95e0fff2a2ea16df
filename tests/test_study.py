"""Study and FixedJobs: what they ask of a store and answer a runner. Real store, no Ray, no training."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import StudyBusy, StudyChanged, StudyFileError, UserError
from hpo.interrupt import Interrupt
from hpo.spec import StudySpec
from hpo.study import Study
from hpo.trial import Goal, Point, StopKind, TrialState, best_point, derive_seed
from objectives.analytic.functions import FUNCTIONS
from tests import studies
from tests.studies import StopAfter, launch, rows


def params_and_values(launched: service.Launched) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.values, t.reason) for t in launched.snapshot.trials]


def test_every_value_is_the_closed_form_of_its_parameters(tmp_path: Path, storage_url: str) -> None:
    launched = launch(tmp_path, storage_url, data={"function": "dtlz2"}, goals=[{"metric": f"f{i}"} for i in (1, 2, 3)])
    for trial in launched.snapshot.trials:
        point = [trial.params[f"x{i}"] for i in range(6)]
        assert trial.values == FUNCTIONS["dtlz2"](point)
        assert trial.best_step == trial.last_step == 4


def test_a_rerun_agrees_bit_for_bit(tmp_path: Path, sqlite_url: str) -> None:
    runs = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        url = f"sqlite:///{folder / 'x.db'}"
        fields: dict[str, Any] = {"pruner": {"name": "median", "startup_trials": 2}, "sampler": {"name": "tpe"}}
        runs.append(launch(folder, url, budget={"trials": 20, "epochs": 5}, **fields))
    assert params_and_values(runs[0]) == params_and_values(runs[1])
    assert any(t.state is TrialState.PRUNED for t in runs[0].snapshot.trials)


def test_more_trials_extend_a_study_as_if_they_had_been_asked_for_at_once(tmp_path: Path) -> None:
    first, second = f"sqlite:///{tmp_path / 'a.db'}", f"sqlite:///{tmp_path / 'b.db'}"
    for trials in (6, 15):
        grown = launch(tmp_path, first, budget={"trials": trials, "epochs": 4}, sampler={"name": "tpe"})
    whole = launch(tmp_path, second, budget={"trials": 15, "epochs": 4}, sampler={"name": "tpe"})
    assert params_and_values(grown) == params_and_values(whole)
    assert len(rows(first, "SELECT * FROM hpo_launches")) == 2


def test_a_changed_digest_says_what_differs_and_does_nothing(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    before = rows(sqlite_url, "SELECT count(*) FROM hpo_launches")
    with pytest.raises(StudyChanged, match=r"seed: was 3, is 4"):
        launch(tmp_path, sqlite_url, seed=4)
    with pytest.raises(StudyChanged, match="search_space.x0.low: was -5.0, is 0"):
        launch(
            tmp_path,
            sqlite_url,
            search_space={"x0": {"type": "float", "low": 0, "high": 1}, "x1": {"type": "float", "low": 0, "high": 1}},
        )
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_launches") == before


def test_a_budget_cannot_shrink_below_what_was_run(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    with pytest.raises(StudyFileError, match="has 8 trials already"):
        launch(tmp_path, sqlite_url, budget={"trials": 3, "epochs": 4})


def test_a_finished_study_launched_again_runs_nothing(tmp_path: Path, sqlite_url: str) -> None:
    first = launch(tmp_path, sqlite_url)
    again = launch(tmp_path, sqlite_url)
    assert params_and_values(first) == params_and_values(again)
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_attempts") == [(8,)]


def test_enqueued_points_go_first_and_appended_ones_next(tmp_path: Path, sqlite_url: str) -> None:
    points = [{"x0": 1.0, "x1": 2.0}, {"x0": 3.0}]
    launch(tmp_path, sqlite_url, enqueue=points, budget={"trials": 3, "epochs": 2})
    trials = launch(
        tmp_path, sqlite_url, enqueue=[*points, {"x0": 5.0, "x1": 6.0}], budget={"trials": 5, "epochs": 2}
    ).snapshot.trials
    assert trials[0].params == {"x0": 1.0, "x1": 2.0}
    assert trials[1].params["x0"] == 3.0
    assert trials[3].params == {"x0": 5.0, "x1": 6.0}
    assert [t.enqueued for t in trials] == [True, True, False, True, False]


@pytest.mark.parametrize("reports", [1, 4, 9, 22])
def test_an_interrupted_study_goes_on_as_if_it_never_stopped(tmp_path: Path, reports: int) -> None:
    fields: dict[str, Any] = {
        "sampler": {"name": "tpe", "startup_trials": 3}, "pruner": {"name": "median", "startup_trials": 2},
        "budget": {"trials": 12, "epochs": 4},
    }  # fmt: skip
    url = f"sqlite:///{tmp_path / 'stopped.db'}"
    interrupt = Interrupt()
    stopped = launch(
        tmp_path, url, interrupt=interrupt, listeners=lambda plan, ended: [StopAfter(interrupt, reports)], **fields
    )
    assert stopped.how == "interrupted"
    assert not [t for t in stopped.snapshot.trials if t.state is TrialState.RUNNING]
    assert rows(url, "SELECT ended_how FROM hpo_launches") == [("interrupted",)]
    resumed = launch(tmp_path, url, **fields)
    whole = launch(tmp_path, f"sqlite:///{tmp_path / 'whole.db'}", **fields)
    assert params_and_values(resumed) == params_and_values(whole)


def test_a_study_that_is_being_run_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    class Nested:
        refused = ""

        def started(self, job: object) -> None:
            with pytest.raises(StudyBusy) as error:
                launch(tmp_path, sqlite_url, budget={"trials": 1, "epochs": 1})
            Nested.refused = str(error.value)

        def reported(self, number: int, point: Point) -> None: ...
        def finished(self, record: object) -> None: ...

    launch(tmp_path, sqlite_url, listeners=lambda plan, ended: [Nested()], budget={"trials": 1, "epochs": 1})
    assert "is being run right now by process" in Nested.refused


def test_a_trial_that_fails_is_a_record_and_the_study_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "faulty.py").write_text(
        "from objectives.analytic import Analytic\n"
        "class Faulty(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number == 1:\n"
        "            context.report(1, f1=5.0)\n"
        "            raise RuntimeError('out of luck')\n"
        "        if job.number == 2:\n"
        "            context.report(1, f1=float('nan'))\n"
        "            return super().run(job.__class__(**{**job.__dict__, 'epochs': 0}), context)\n"
        "        return super().run(job, context)\n"
    )
    trials = launch(tmp_path, sqlite_url, objective="faulty:Faulty", data={"function": "branin"}).snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL] + [
        TrialState.COMPLETE
    ] * 5
    assert trials[1].reason is not None
    assert "RuntimeError: out of luck" in trials[1].reason.message
    assert "out of luck" in (tmp_path / "runs/branin/search-00001/error.txt").read_text()
    assert trials[1].points[0].metrics == {"f1": 5.0}
    assert trials[2].reason is not None
    assert "no usable value for every goal: f1 was nan" in trials[2].reason.message


def test_what_a_dead_attempt_did_later_is_forgotten(tmp_path: Path, storage_url: str) -> None:
    """Attempt 1 reports steps 1 to 4 and dies; attempt 2 begins again and ends at step 2."""
    (tmp_path / "dying.py").write_text(
        "from hpo.trial import Outcome, StopKind, StopReason\n"
        "from objectives.analytic import Analytic\n"
        "class Dying(Analytic):\n"
        "    def run(self, job, context):\n"
        "        for step, value in enumerate([9.0, 8.0, 7.0, 1.0] if job.attempt == 1 else [9.5, 5.0], 1):\n"
        "            context.report(step, f1=value)\n"
        "        if job.attempt == 1:\n"
        "            raise KeyboardInterrupt\n"
        "        return Outcome(StopReason(StopKind.FINISHED, 'done'))\n"
    )
    fields: dict[str, Any] = {"objective": "dying:Dying", "budget": {"trials": 1, "epochs": 4}}
    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, storage_url, **fields)
    (trial,) = launch(tmp_path, storage_url, **fields).snapshot.trials
    assert (trial.values, trial.best_step, trial.last_step) == ((5.0,), 2, 2)
    assert [(p.step, p.metrics["f1"]) for p in trial.points] == [(1, 9.5), (2, 5.0)]
    curve = "SELECT step, intermediate_value FROM trial_intermediate_values ORDER BY step"
    assert rows(storage_url, curve) == [(1, 9.5), (2, 5.0)]


def test_a_trial_whose_process_died_before_its_last_step_was_judged_ends_there(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial is to be pruned at step 2; the process dies when it has kept that step."""

    def die(study: Study, number: int, point: Point) -> None:
        if point.step == 2:
            raise KeyboardInterrupt

    fields: dict[str, Any] = {"pruner": {"name": "threshold", "upper": -1e9, "warmup_steps": 1}, "deterministic": True}
    with monkeypatch.context() as dying:
        dying.setattr(Study, "_judge", die)
        with pytest.raises(KeyboardInterrupt):
            launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 4}, **fields)
    trials = launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 4}, **fields).snapshot.trials
    assert [(t.state, t.last_step, t.attempts) for t in trials] == [(TrialState.PRUNED, 2, 1)] * 2


def test_a_trial_that_kills_its_process_again_and_again_fails_in_the_end(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "deadly_inline.py").write_text(
        "from objectives.analytic import Analytic\n"
        "class Deadly(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number == 1:\n"
        "            raise KeyboardInterrupt\n"
        "        return super().run(job, context)\n"
    )
    fields: dict[str, Any] = {"objective": "deadly_inline:Deadly", "budget": {"trials": 3, "epochs": 1}}
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            launch(tmp_path, sqlite_url, **fields)
    trials = launch(tmp_path, sqlite_url, **fields).snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert trials[1].reason is not None
    assert "5 times" in trials[1].reason.message


def test_the_top_of_the_front_is_confirmed_with_fresh_seeds(tmp_path: Path, sqlite_url: str) -> None:
    fields: dict[str, Any] = {
        "data": {"function": "branin", "noise": 3.0},
        "retrain": {"confirm": 3, "confirm_seeds": 2, "pick": "f1"},
    }
    launched = launch(tmp_path, sqlite_url, **fields)
    runs = launched.snapshot.others["confirm"]
    best_three = sorted((t for t in launched.snapshot.trials), key=lambda t: t.values or ())[:3]
    assert sorted({run.subject for run in runs}) == sorted(t.number for t in best_three)
    assert len({run.seed for run in runs} | {t.seed for t in launched.snapshot.trials}) == 6 + 8
    _, choice = service.choose(sqlite_url, "branin")
    assert choice.luck is not None
    means = {n: s["f1"].mean for n, s in choice.luck.spreads.items()}
    assert choice.number == min(means, key=means.__getitem__)
    for number, mean in means.items():
        own = [run.values[0] for run in runs if run.subject == number and run.values]
        assert mean == pytest.approx(sum(own) / 2)
    # A second launch confirms nothing again.
    assert launch(tmp_path, sqlite_url, **fields).snapshot.others["confirm"] == runs


def test_where_narrows_the_choice(tmp_path: Path, sqlite_url: str) -> None:
    trials = launch(tmp_path, sqlite_url).snapshot.trials
    right = [t for t in trials if t.params["x0"] > 2]
    _, choice = service.choose(sqlite_url, "branin", where=["x0 > 2"])
    assert choice.number == min(right, key=lambda t: t.values or ()).number
    with pytest.raises(UserError, match="No completed trial has x0 > 99"):
        service.choose(sqlite_url, "branin", where=["x0 > 99"])


def test_a_timeout_alone_ends_a_study(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count()  # it is looked at once at the start, and before each trial
    monkeypatch.setattr("hpo.session.Study", partial(Study, clock=lambda: float(next(moments))))
    launched = launch(tmp_path, sqlite_url, budget={"timeout": 6, "epochs": 1})
    assert len(launched.snapshot.trials) == 5
    assert {t.state for t in launched.snapshot.trials} == {TrialState.COMPLETE}


def test_deleting_a_study_takes_its_folder_along(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    assert (tmp_path / "runs/branin").is_dir()
    service.delete(sqlite_url, "branin")
    assert not (tmp_path / "runs/branin").exists()
    assert rows(sqlite_url, "SELECT count(*) FROM trials") == [(0,)]


def test_the_digest_names_what_makes_a_study_the_same(tmp_path: Path) -> None:
    def digest(**fields: Any) -> str:
        return service.check(studies.write(tmp_path, **fields)).digest

    same = digest()
    for may_change in (
        {"budget": {"trials": 99, "epochs": 4, "timeout": "1h"}}, {"runner": "ray"}, {"enqueue": [{"x0": 1}]},
        {"retrain": {"confirm": 9}}, {"export": {"atol": 1}}, {"resources": {"cpus": 2}}, {"name": "other"},
        {"data": {"function": "branin", "epoch_s": 1.0}},
    ):  # fmt: skip
        assert digest(**may_change) == same, may_change
    for may_not in (
        {"seed": 4}, {"budget": {"trials": 8, "epochs": 5}}, {"sampler": {"name": "tpe"}}, {"concurrency": 2},
        {"pruner": {"name": "median"}}, {"deterministic": True}, {"report": "last"},
        {"goals": [{"metric": "f1", "direction": "maximize"}]}, {"data": {"function": "branin", "noise": 0.1}},
    ):  # fmt: skip
        assert digest(**may_not) != same, may_not


def test_the_best_epoch_gives_a_trial_its_value() -> None:
    points = [Point(1, {"a": 3.0, "b": 1.0}), Point(2, {"a": float("nan")}), Point(3, {"a": 1.0}), Point(4, {"a": 1.0})]
    assert best_point(points, Goal("a")) is points[2]
    assert best_point(points, Goal("b")) is points[0]
    assert best_point(points, Goal("a"), "last") is points[3]
    assert best_point(points, Goal("c")) is None


def test_seeds_depend_on_every_part() -> None:
    seeds = {derive_seed(s, n, p) for s in range(5) for n in range(5) for p in ("trial", "sampler")}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**32 for seed in seeds)
    # From outside: printf '7:3:trial' | sha256sum, the first eight digits as a number.
    assert derive_seed(7, 3, "trial") == 0x76979F97


def test_stop_kinds_map_to_truthful_states() -> None:
    from hpo.trial import StopReason

    expected = {
        "finished": "complete", "early_stopped": "complete", "time_limit": "complete", "pruned": "pruned",
        "interrupted": "queued", "lost": "queued", "retry": "queued", "out_of_memory": "fail", "error": "fail",
    }  # fmt: skip
    assert {str(k): str(StopReason(k, "").state) for k in StopKind} == expected


def test_yaml_numbers_and_durations_are_read_as_people_write_them() -> None:
    spec = StudySpec.parse(
        "name: a\nobjective: b\nbudget: {timeout: 1.5h}\nsearch_space: {lr: {type: float, low: 1e-5, high: 1e-2}}"
    )
    assert spec.budget.timeout == 5400
    assert spec.search_space == {"lr": {"type": "float", "low": 1e-5, "high": 1e-2}}
