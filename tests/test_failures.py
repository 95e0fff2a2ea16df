"""Trials that fail: taken up again as often as the study file allows; a launch that gives up, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.failures import Streak, sameness
from hpo.trial import StopKind, StopReason, TrialRecord, TrialState
from tests.studies import launch, rows


def test_the_same_failure_is_known_whatever_its_numbers_and_paths() -> None:
    def same(message: str) -> str:
        return sameness(StopReason(StopKind.ERROR, message))

    first = same("RuntimeError: shapes (32, 2056) and (32, 1) differ (traceback: /runs/a/search-00001/error.txt)")
    assert first == same("RuntimeError: shapes (8, 17) and (4, 1) differ (traceback: /x/search-00012/error.txt)\nmore")
    assert first != same("ValueError: shapes (32, 2056) and (32, 1) differ (traceback: /runs/error.txt)")
    assert same("OSError: C:\\data\\a.bin is gone") == same("OSError: D:\\b.bin is gone")
    assert same("loss 1.5e-3 at 0x7fae") == same("loss 2 at 0x1234")


def ended(number: int, message: str | None) -> TrialRecord:
    """A trial that failed with a message; None: one that completed."""
    if message is None:
        return TrialRecord(number, TrialState.COMPLETE, {}, 0, values=(1.0,))
    return TrialRecord(number, TrialState.FAIL, {}, 0, reason=StopReason(StopKind.ERROR, message))


def test_a_streak_counts_the_same_failure_without_anything_between() -> None:
    streak = Streak(3)
    for number, message in enumerate(["a 1", "a 2", "b", "b 7", None, "a 3", "a 4"]):
        streak.finished(ended(number, message))
        assert streak.spent(number + 1) is None, number
    streak.finished(ended(7, "a 5\nand more"))
    assert streak.spent(8) == "the last 3 trials all failed the same way: a 5"


def test_a_deterministic_streak_is_the_same_in_whatever_order_trials_end() -> None:
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        streak = Streak(3, concurrency=2)
        for number in order:
            streak.finished(ended(number, "a"))
        assert streak.spent(3) is None  # it may look at 0 and 1
        assert streak.spent(4) is not None  # and at 2


FLAKY = """
from objectives.analytic import Analytic
class Flaky(Analytic):
    def run(self, job, context):
        if job.number == 1 and job.attempt <= {failing}:
            for step in range(max(1, job.reported), 3):
                context.report(step, f1=10.0 - step)
            raise RuntimeError(f'the disk {{job.attempt}} was away')
        return super().run(job, context)
"""


def flaky(folder: Path, url: str, failing: int, **fields: Any) -> service.Launched:
    (folder / f"flaky{failing}.py").write_text(FLAKY.format(failing=failing))
    return launch(folder, url, objective=f"flaky{failing}:Flaky", data={"function": "branin"}, **fields)


def test_a_trial_that_failed_is_taken_up_again_and_every_attempt_is_told(tmp_path: Path, storage_url: str) -> None:
    found = flaky(tmp_path, storage_url, 2, limits={"failures": 2}, deterministic=True)
    steady = launch(tmp_path, f"sqlite:///{tmp_path / 'steady.db'}", deterministic=True)
    assert [(t.state, t.params, t.values) for t in found.snapshot.trials] == [
        (t.state, t.params, t.values) for t in steady.snapshot.trials
    ]
    attempts = "SELECT attempt, ended_how FROM hpo_attempts a JOIN hpo_trials t ON t.id = a.trial WHERE number = 1"
    assert rows(storage_url, f"{attempts} ORDER BY attempt") == [(1, "retry"), (2, "retry"), (3, "finished")]
    messages = [m for (m,) in rows(storage_url, "SELECT message FROM hpo_events WHERE kind = 'retry' ORDER BY id")]
    assert ["disk 1" in messages[0], "disk 2" in messages[1], len(messages)] == [True, True, 2]
    assert "goes on from its last checkpoint, time 2 of 2" in messages[1]


def test_it_fails_in_the_end_with_the_last_reason_and_how_often(tmp_path: Path, sqlite_url: str) -> None:
    trial = flaky(tmp_path, sqlite_url, 9, limits={"failures": 2}).snapshot.trials[1]
    assert (trial.state, trial.attempts, trial.last_step) == (TrialState.FAIL, 3, 2)
    assert trial.reason is not None
    assert trial.reason.message.startswith("failed 3 times; the last time: RuntimeError: the disk 3 was away")


def test_tries_of_an_earlier_launch_count(tmp_path: Path, sqlite_url: str) -> None:
    from hpo.interrupt import Interrupt

    interrupt = Interrupt()

    class StopAtRetry:
        def started(self, job: Any) -> None: ...
        def reported(self, number: int, point: Any) -> None: ...
        def finished(self, record: TrialRecord) -> None:
            if record.reason is not None and record.reason.kind is StopKind.RETRY:
                interrupt.request()

    fields: dict[str, Any] = {"limits": {"failures": 1}, "budget": {"trials": 3, "epochs": 4}}
    first = flaky(tmp_path, sqlite_url, 9, interrupt=interrupt, listeners=lambda p, e: [StopAtRetry()], **fields)
    assert [t.state for t in first.snapshot.trials] == [TrialState.COMPLETE, TrialState.QUEUED]
    second = flaky(tmp_path, sqlite_url, 9, **fields).snapshot.trials
    assert [(t.state, t.attempts) for t in second][:2] == [(TrialState.COMPLETE, 1), (TrialState.FAIL, 2)]


def broken(folder: Path, line: str, name: str) -> str:
    (folder / f"{name}.py").write_text(
        "from objectives.analytic import Analytic\n"
        f"class Broken(Analytic):\n    def run(self, job, context):\n        {line}\n"
    )
    return f"{name}:Broken"


def test_a_launch_gives_up_when_ten_trials_failed_the_same_way(tmp_path: Path, sqlite_url: str) -> None:
    objective = broken(tmp_path, "raise RuntimeError(f'no room for {job.number + 7} rows')", "broken_alike")
    fields: dict[str, Any] = {"objective": objective, "data": {"function": "branin"}}
    found = launch(tmp_path, sqlite_url, budget={"trials": 40, "epochs": 2}, **fields)
    assert [t.state for t in found.snapshot.trials] == [TrialState.FAIL] * 10
    # Launched again, it tries ten more: what was wrong may have been mended.
    assert len(launch(tmp_path, sqlite_url, budget={"trials": 40, "epochs": 2}, **fields).snapshot.trials) == 20


def test_a_launch_goes_on_when_trials_fail_each_in_its_own_way(tmp_path: Path, sqlite_url: str) -> None:
    objective = broken(tmp_path, "raise RuntimeError('abcdefghijklmnop'[job.number])", "broken_differently")
    found = launch(tmp_path, sqlite_url, objective=objective, data={"function": "branin"}, budget={"trials": 14})
    assert len(found.snapshot.trials) == 14


@pytest.mark.parametrize("concurrency", [2, 4])
def test_a_deterministic_study_gives_up_at_the_same_trial_for_any_concurrency(
    tmp_path: Path, sqlite_url: str, concurrency: int
) -> None:
    """Trials 0 to 9 fail; the first that may look at all of them is 9 + concurrency, or with three times it later."""
    objective = broken(tmp_path, "raise RuntimeError('always')", f"broken_always{concurrency}")
    found = launch(
        tmp_path, sqlite_url, objective=objective, data={"function": "branin"}, budget={"trials": 60, "epochs": 1},
        deterministic=True, concurrency=concurrency,
    )  # fmt: skip
    assert len(found.snapshot.trials) == max(10, 3 * concurrency) - 1 + concurrency


def test_a_recovery_marks_a_trial_of_a_deterministic_study(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "recovering.py").write_text(
        "from objectives.analytic import Analytic\n"
        "class Recovering(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number == 2:\n"
        "            raise MemoryError('no more')\n"
        "        if job.number == 1:\n"
        "            context.event('recovery', 'went back')\n"
        "        return super().run(job, context)\n"
    )
    for deterministic, expected in ((True, [(1,), (2,)]), (False, [])):
        name = f"study{deterministic}"
        launch(
            tmp_path, sqlite_url, name=name, objective="recovering:Recovering", data={"function": "branin"},
            deterministic=deterministic, budget={"trials": 4, "epochs": 2},
        )  # fmt: skip
        query = "SELECT e.number FROM hpo_events e JOIN hpo_studies s USING (study_id) WHERE kind = 'promise_broken'"
        assert rows(sqlite_url, f"{query} AND name = '{name}' ORDER BY 1") == expected
