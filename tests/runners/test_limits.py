"""Limits of a single trial: the clock, and that both runners end what hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo.runners import find
from hpo.runners.limits import Limits
from hpo.trial import Decision, Job, Point, StopKind, StopReason, TrialState
from tests.runners.jobs import Source, make_job
from tests.studies import launch, rows


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def kind_after(seconds: float, limits: Limits, clock: Clock) -> StopKind | None:
    clock.now = 100.0 + seconds
    passed = limits.passed()
    return None if passed is None else passed.kind


def test_without_limits_nothing_ever_passes() -> None:
    clock = Clock()
    limits = Limits(make_job(), clock)
    assert kind_after(1e9, limits, clock) is None
    assert limits.left_s() is None


def test_the_time_limit_counts_earlier_attempts() -> None:
    clock = Clock()
    limits = Limits(make_job(time_limit_s=60.0, spent_s=45.0, reported=2), clock)
    assert limits.left_s() == 15.0
    assert kind_after(14.9, limits, clock) is None
    assert kind_after(15.0, limits, clock) is StopKind.TIME_LIMIT
    assert limits.left_s() == 0.0


def test_time_that_passes_before_any_report_is_an_error_that_says_so() -> None:
    clock = Clock()
    limits = Limits(make_job(time_limit_s=60.0), clock)
    clock.now += 61
    assert limits.passed() == StopReason(
        StopKind.ERROR, "its time limit of 60 s passed before its first report; raise limits.time"
    )


def test_silence_counts_from_the_last_report() -> None:
    clock = Clock()
    limits = Limits(make_job(silence_limit_s=10.0), clock)
    clock.now = 109.0
    limits.heard(3)
    assert kind_after(18.9, limits, clock) is None
    assert kind_after(19.0, limits, clock) is StopKind.ERROR
    assert "reported nothing for 10 s" in str(limits.passed())
    assert "3 of 5 epochs" in str(limits.passed())


def test_a_grace_moves_the_moment() -> None:
    clock = Clock()
    limits = Limits(make_job(silence_limit_s=10.0), clock)
    clock.now = 114.0
    assert limits.passed()
    assert limits.passed(after_s=5.0) is None
    clock.now = 115.0
    assert limits.passed(after_s=5.0)


def test_time_in_which_nobody_listened_is_no_silence() -> None:
    clock = Clock()
    limits = Limits(make_job(silence_limit_s=10.0), clock)
    clock.now = 106.0
    limits.nobody_listened(4.0)
    assert limits.left_s() == 8.0
    limits.nobody_listened(50.0)  # most of it before the job began
    assert limits.left_s() == 10.0


def test_a_trial_is_not_silent_while_its_report_waits_for_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("hpo.runners.inline.Limits", lambda job: Limits(job, clock))

    class Slow(Source):
        def report(self, number: int, point: Point) -> Decision:
            clock.now += 100.0
            return super().report(number, point)

    where = {"data": {"function": "branin"}, "params": {"x0": 0.0, "x1": 0.0}, "folder": str(tmp_path)}
    source = Slow(make_job(silence_limit_s=60.0, **where))
    find("inline")(source)
    assert source.told[1:] == [*(("report", 0, step) for step in range(1, 6)), ("finish", 0, StopKind.FINISHED)]


HANGS = {
    "asleep": "time.sleep(3600)",
    # A library that keeps the interpreter's lock: nothing in Python can run in that process any more.
    "with the lock held": "ctypes.PyDLL(None).sleep(3600)",
}


def hanging(folder: Path, how: str, *, reports: int) -> str:
    """An objective whose trial 1 reports so often, leaves a mark, and hangs."""
    module = f"hanging_in_{folder.name}"  # this process remembers a module by its name, and this one knows its folder
    (folder / f"{module}.py").write_text(
        "import ctypes, time\n"
        "from pathlib import Path\n"
        "from objectives.analytic import Analytic\n"
        "class Hanging(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number != 1:\n"
        "            return super().run(job, context)\n"
        f"        for step in range(1, {reports} + 1):\n"
        "            context.report(step, f1=float(step))\n"
        f"        Path({str(folder / 'hangs')!r}).touch()\n"
        f"        {how}\n"
    )
    return f"{module}:Hanging"


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that pass for what hangs alone, however long the rest takes on a busy machine."""

    def since_it_hangs(job: Job, clock: object = None) -> Limits:
        began: list[float] = []

        def passed() -> float:
            if job.number == 1 and not began and (tmp_path / "hangs").exists():
                began.append(time.monotonic())
            return time.monotonic() - began[0] if began else 0.0

        return Limits(job, passed)

    monkeypatch.setattr("hpo.runners.inline.Limits", since_it_hangs)
    monkeypatch.setattr("hpo.runners.ray_tune.driving.Limits", since_it_hangs)
    monkeypatch.setattr("hpo.runners.ray_tune.driving.GRACE_S", 0.3)


WAYS = [
    ("inline", "asleep"),
    pytest.param("ray", "asleep", marks=pytest.mark.slow),
    pytest.param("ray", "with the lock held", marks=pytest.mark.slow),
]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
class TestHanging:
    @pytest.mark.usefixtures("quick")
    @pytest.mark.parametrize(("runner", "how"), WAYS)
    def test_a_trial_that_hangs_is_complete_at_its_time_limit_with_what_it_reported(
        self, tmp_path: Path, sqlite_url: str, runner: str, how: str
    ) -> None:
        fields: dict[str, Any] = {"limits": {"time": 1}, "budget": {"trials": 3, "epochs": 4}}
        objective = hanging(tmp_path, HANGS[how], reports=2)
        trials = launch(tmp_path, sqlite_url, runner=runner, objective=objective, **fields).snapshot.trials
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 3
        assert trials[1].reason == StopReason(
            StopKind.TIME_LIMIT, "its time limit of 1 s has passed; 2 of 4 epochs are done"
        )
        assert (trials[1].values, trials[1].last_step) == ((1.0,), 2)

    @pytest.mark.usefixtures("quick")
    def test_a_trial_that_hangs_before_its_first_report_fails(
        self, tmp_path: Path, sqlite_url: str, runner: str
    ) -> None:
        fields: dict[str, Any] = {"limits": {"time": 1}, "budget": {"trials": 3, "epochs": 4}}
        objective = hanging(tmp_path, HANGS["asleep"], reports=0)
        trials = launch(tmp_path, sqlite_url, runner=runner, objective=objective, **fields).snapshot.trials
        assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
        assert "before its first report" in str(trials[1].reason)

    @pytest.mark.usefixtures("quick")
    def test_a_trial_that_falls_silent_fails(self, tmp_path: Path, sqlite_url: str, runner: str) -> None:
        fields: dict[str, Any] = {"limits": {"silence": 1}, "budget": {"trials": 3, "epochs": 4}}
        objective = hanging(tmp_path, HANGS["asleep"], reports=2)
        trials = launch(tmp_path, sqlite_url, runner=runner, objective=objective, **fields).snapshot.trials
        assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
        assert "reported nothing for 1 s" in str(trials[1].reason)

    def test_a_trial_of_many_short_epochs_ends_at_a_report(
        self, tmp_path: Path, sqlite_url: str, runner: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = {"function": "branin", "epoch_s": 0.05}

        class SinceItReports(Limits):
            def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
                self._first: float | None = None
                super().__init__(job, lambda: 0.0 if self._first is None else clock() - self._first)

            def heard(self, step: int) -> None:
                self._first = self._first or time.monotonic()
                super().heard(step)

        monkeypatch.setattr("hpo.runners.inline.Limits", SinceItReports)
        monkeypatch.setattr("hpo.runners.ray_tune.driving.Limits", SinceItReports)
        fields: dict[str, Any] = {"limits": {"time": 0.5}, "budget": {"trials": 1, "epochs": 1000}, "data": data}
        trial = launch(tmp_path, sqlite_url, runner=runner, **fields).snapshot.trials[0]
        assert trial.reason is not None
        assert (trial.state, trial.reason.kind) == (TrialState.COMPLETE, StopKind.TIME_LIMIT)
        assert f"{trial.last_step} of 1000 epochs" in trial.reason.message

    @pytest.mark.slow
    def test_what_a_dead_worker_had_spent_counts(self, tmp_path: Path, sqlite_url: str) -> None:
        (tmp_path / "spending.py").write_text(
            "import os, signal, time\n"
            "from pathlib import Path\n"
            "from objectives.analytic import Analytic\n"
            "class Spending(Analytic):\n"
            "    def run(self, job, context):\n"
            f"        spent = Path({str(tmp_path)!r}) / 'spent'\n"
            "        if job.attempt == 1:\n"
            "            time.sleep(1.0)\n"
            "            context.report(1, f1=99.0)\n"
            "            os.kill(os.getpid(), signal.SIGKILL)\n"
            "        spent.write_text(str(job.spent_s))\n"
            "        return super().run(job, context)\n"
        )
        fields: dict[str, Any] = {"limits": {"time": 600}, "budget": {"trials": 1, "epochs": 2}}
        launch(tmp_path, sqlite_url, runner="ray", objective="spending:Spending", **fields)
        assert rows(sqlite_url, "SELECT ended_how FROM hpo_attempts ORDER BY attempt") == [("lost",), ("finished",)]
        assert 1.0 <= float((tmp_path / "spent").read_text()) < 600
