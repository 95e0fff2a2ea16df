"""What the work on a study cost, and what its launches changed: from records made by hand, and from real launches."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpo import costs, environment, launches, service
from hpo.costs import Cost
from hpo.trial import Goal
from storage.records import AttemptRecord, LaunchRecord, Snapshot, StudyRecord
from tests.studies import launch, rows

STUDY = StudyRecord(
    "s", "analytic", "name: s", "d" * 64, (Goal("f1"),), Goal("f1"), "none", "2026-03-01T09:00:00+00:00"
)


def at(second: int) -> str:
    return f"2026-03-01T10:{second // 60:02}:{second % 60:02}+00:00"


def attempt(
    number: int, n: int, begin: int, end: int | None, how: str | None, until: int | None, by: int = 1
) -> AttemptRecord:
    ended = None if end is None else at(end)
    return AttemptRecord(number, n, "w", at(begin), ended, how, None if until is None else at(until), by)


def made(id: int, cpus: float, gpus: float) -> LaunchRecord:
    return LaunchRecord(at(0), at(60), "done", "h", 1, "inline", 1, {"resources": {"cpus": cpus, "gpus": gpus}}, {}, id)


def test_a_trial_costs_what_its_attempts_worked_times_what_each_launch_gave_it() -> None:
    snapshot = Snapshot(
        STUDY,
        (),
        launches=(made(1, 2, 0), made(2, 4, 0.5)),
        attempts=(
            attempt(0, 1, 0, 40, "lost", 30),  # it died after its last report: 30 s on two CPUs
            attempt(0, 2, 100, 110, "finished", 110, by=2),  # 10 s on half a GPU
            attempt(1, 1, 0, 5, "pruned", 5),
            attempt(2, 1, 50, 60, "lost", None),  # died without a report
            attempt(3, 1, 50, None, None, 57),  # is under way
        ),
        other_attempts={"confirm": (attempt(0, 1, 200, 220, "finished", 220, by=2),), "retrain": ()},
    )
    assert costs.of_trials(snapshot) == {
        0: Cost(40, gpu_s=5, cpu_s=60), 1: Cost(5, cpu_s=10), 2: Cost(), 3: Cost(7, cpu_s=14),
    }  # fmt: skip
    assert costs.of_trials(snapshot, "confirm") == {0: Cost(20, gpu_s=10)}
    assert costs.of_study(snapshot) == {"search": Cost(52, gpu_s=5, cpu_s=84), "confirm": Cost(20, gpu_s=10)}
    assert costs.total(costs.of_study(snapshot).values()).device_s == 99


def test_a_real_study_costs_what_its_rows_say(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, resources={"cpus": 3}, data={"function": "branin", "epoch_s": 0.01},
           retrain={"confirm": 1, "confirm_seeds": 1, "pick": "f1"})  # fmt: skip
    found = costs.of_study(service.snapshot(sqlite_url, "branin", curves=False))
    query = (
        "SELECT sum((julianday(a.ended_at) - julianday(a.started_at)) * 86400) FROM hpo_attempts a "
        "JOIN hpo_trials t ON t.id = a.trial WHERE t.series = '{}'"
    )
    for series in ("search", "confirm"):
        assert found[series].seconds == pytest.approx(rows(sqlite_url, query.format(series))[0][0], abs=0.02)
        assert found[series].cpu_s == pytest.approx(3 * found[series].seconds)
    assert set(found) == {"search", "confirm"}


def test_what_a_launch_changed_is_said_in_words() -> None:
    first = LaunchRecord(
        at(0), at(60), "done", "h", 1, "inline", 2,
        {"budget": {"trials": 20, "timeout": None}, "enqueue": [], "mirror": None},
        {"python": "3.11", "packages": {"torch": "2.12.0", "numpy": "2.4"}, "git": {"commit": "a", "dirty": False}},
    )  # fmt: skip
    second = replace(
        first,
        runner="ray",
        settings={"budget": {"trials": 40, "timeout": None}, "enqueue": [{"x": 1}], "mirror": "/m"},
        environment={
            "python": "3.11", "packages": {"torch": "2.13.0", "scipy": "1"}, "git": {"commit": "a", "dirty": True},
        },
    )  # fmt: skip
    assert launches.changes([first, second, second]) == [
        [],
        [
            "budget.trials: was 20, is 40",
            'enqueue: was none, is [{"x": 1}]',
            "mirror: was none, is /m",
            "runner: was inline, is ray",
            "packages.torch: was 2.12.0, is 2.13.0",
            "git.dirty: was false, is true",
        ],
        [],
    ]
    assert launches.changes([]) == []


def test_the_launches_of_a_real_study_say_what_changed(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 2})
    launch(tmp_path, sqlite_url, budget={"trials": 4, "epochs": 2}, limits={"failures": 1})
    found = launches.changes(service.snapshot(sqlite_url, "branin", curves=False).launches)
    assert [sorted(changes) for changes in found] == [
        [],
        ["budget.trials: was 2, is 4", "limits.failures: was 0, is 1"],
    ]


def test_the_environment_tells_the_commit_of_the_studys_own_folder(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert environment.describe({"git": str(tmp_path)})["git"] is None
    git("init", "-q")
    (tmp_path / "mine.py").write_text("x = 1\n")
    git("add", "mine.py")
    git("commit", "-q", "-m", "first")
    inner = tmp_path / "inner"
    inner.mkdir()
    found = environment.describe({"git": str(tmp_path), "git_objective": str(inner)})
    assert found["git"] == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert "git_objective" not in found  # the same repository
    (tmp_path / "data.csv").touch()
    assert environment.describe({"git": str(tmp_path)})["git"]["dirty"] is False
    (tmp_path / "new.py").touch()  # code that the commit does not hold
    assert environment.describe({"git": str(tmp_path)})["git"]["dirty"] is True
    assert found["packages"]["torch"] and found["python"] and found["os"]
