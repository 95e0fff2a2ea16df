"""``hpo logs``: the log of a trial, also while it runs, and what happened in a study."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from hpo.service.logs import _Growing
from tests.processes import PATIENCE_S, ROOT, kill, start, wait_for_lease
from tests.studies import launch, write


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("logs")
    url = f"sqlite:///{folder / 'hpo.db'}"
    launch(folder, url, budget={"trials": 3, "epochs": 4}, retrain={"confirm": 1, "confirm_seeds": 1, "pick": "f1"})
    return url


def run(storage: str, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli.app, ["logs", "branin", "--storage", storage, *words])
    if code == 2 and done.exception is not None:
        return str(done.exception) if not isinstance(done.exception, SystemExit) else done.output
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_last_lines_of_a_trials_log_are_printed(storage: str) -> None:
    whole = run(storage, "--trial", "1").splitlines()
    assert "begins" in whole[0] and "finished: ran all 4 epochs" in whole[-1]
    assert [line.split()[2] for line in whole if " step " in line] == ["1/4", "2/4", "3/4", "4/4"]
    assert run(storage, "--trial", "1", "--lines", "2").splitlines() == whole[-2:]
    assert run(storage, "--trial", "1", "-f").splitlines() == whole  # it has ended, so there is nothing to wait for


def test_a_run_of_another_series_has_its_own(storage: str) -> None:
    assert "confirm trial 0 of study branin begins" in run(storage, "--series", "confirm", "--number", "0")


def test_without_a_trial_it_says_what_happened_in_the_order_of_time(storage: str) -> None:
    rows = json.loads(run(storage, "--json"))
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert [(row["where"], row["kind"]) for row in rows][:3] == [
        ("study", "launch_began"),
        ("trial 0", "attempt_began"),
        ("trial 0", "attempt_ended"),
    ]
    assert ("confirm 0", "attempt_ended") in [(row["where"], row["kind"]) for row in rows]
    assert rows[2]["message"] == "attempt 1 finished: ran all 4 epochs"
    assert [row["message"] for row in rows if row["kind"] == "launch_ended"] == ["done"]
    assert len(run(storage, "--lines", "3").splitlines()) == 2 + 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trial", "7"], "has no trial 7 yet; -f waits for it"),
        (["--trial", "-1"], "greater than or equal to 0"),
        (["--trial", "one"], "Invalid value for '--trial'"),
        (["-f"], "-f follows one trial"),
        (["--series", "confrim", "--number", "0"], "Did you mean 'confirm'"),
        (["--series", "confirm"], "--trial names a trial of the search; give it alone, or --series with --number"),
        (["--trial", "1", "--series", "confirm"], "give it alone"),
        (["--trial", "1", "--json"], "the log of a trial is text"),
        (["--trial", "1", "--lines", "0"], "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_one_message(storage: str, words: list[str], message: str) -> None:
    assert message in " ".join(run(storage, *words, code=2).split())


def test_a_log_that_is_not_there_is_one_line(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 1, "epochs": 1})
    log = tmp_path / "runs" / "branin" / "search-00000" / "log.txt"
    log.unlink()
    for words in (["--trial", "0"], ["--trial", "0", "-f"]):
        assert run(sqlite_url, *words, code=2).startswith(
            f"Trial 0 of study 'branin' has no log here: there is no {log}."
        )


@pytest.fixture
def follow() -> Iterator[Callable[[str, int], subprocess.Popen[str]]]:
    """Starts ``hpo logs -f`` in a process of its own, which does not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def follow(url: str, trial: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cli", "logs", "branin", "--trial", str(trial), "-f", "--storage", url]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield follow
    for process in started:
        process.kill()
        process.communicate()


HELD = """
import time
from pathlib import Path
from objectives.analytic import Analytic
class Held(Analytic):
    def run(self, job, context):
        here = Path(__file__).parent
        while not (here / f"go-{job.number}").exists():
            time.sleep(0.02)
        return super().run(job, context)
"""


def test_follow_waits_for_a_trial_and_goes_on_until_it_ends(
    tmp_path: Path, sqlite_url: str, follow: Any, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "held.py").write_text(HELD)
    (tmp_path / "go-1").touch()
    write(tmp_path, objective="held:Held", budget={"trials": 3, "epochs": 10})
    study = start(tmp_path, sqlite_url)
    request.addfinalizer(lambda: kill(study))  # it would wait for ever
    wait_for_lease(sqlite_url, study)
    ends, never = follow(sqlite_url, 1), follow(sqlite_url, 50)
    assert ends.stderr is not None and never.stderr is not None
    assert ends.stderr.readline() == "Trial 1 has not begun; waiting for it.\n"
    assert never.stderr.readline() == "Trial 50 has not begun; waiting for it.\n"
    (tmp_path / "go-0").touch()
    out, _ = ends.communicate(timeout=PATIENCE_S)
    assert ends.returncode == 0
    assert study.poll() is None  # the last trial is held
    assert out == (tmp_path / "runs" / "branin" / "search-00001" / "log.txt").read_text()
    assert out.count(" step ") == 10
    (tmp_path / "go-2").touch()
    study.communicate(timeout=PATIENCE_S)
    assert never.stderr.readline() == "Nobody runs study branin at the moment; waiting for trial 50.\n"
    never.send_signal(signal.SIGINT)
    assert tuple(never.communicate(timeout=PATIENCE_S)) == ("", "")
    assert never.returncode == 130


def test_a_line_is_read_when_it_has_ended_and_a_file_that_is_begun_anew_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    growing = _Growing(path)
    assert growing.new_lines() == []
    path.write_text("one\ntw")
    assert growing.new_lines() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert growing.new_lines() == ["two"]
    path.write_text("new\n")
    assert growing.new_lines() == ["new"]
    assert growing.was_there
