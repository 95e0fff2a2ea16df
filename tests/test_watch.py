"""``hpo watch``: a study that runs elsewhere, seen through its database alone."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import cli
from hpo import service
from hpo.errors import UnknownName
from hpo.reports.live import LiveTable
from hpo.trial import Event, Goal, Point, StopKind, StopReason, TrialState
from search_spaces import Float, SearchSpace
from storage import codec
from storage.database import Database
from storage.leases import Lease
from storage.records import CONFIRM, SEARCH, StudyRecord
from storage.studies import Studies
from storage.watching import Seen, Watcher
from tests.processes import PATIENCE_S, ROOT, hold, kill, start, wait_for_points, wait_until
from tests.studies import launch, rows, write

FIELDS: dict[str, Any] = {
    "data": {"function": "zdt1", "dims": 4, "epoch_s": 0.05},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "budget": {"trials": 12, "epochs": 6},
    "retrain": {"confirm": 2, "confirm_seeds": 1},
}
DONE = StopReason(StopKind.FINISHED, "ran all 3 epochs")
SPACE = SearchSpace({"x": Float(0.0, 1.0)})


def facts(trials: tuple[Seen, ...]) -> list[tuple[Any, ...]]:
    return [(s.series, s.record.number, s.record.state, s.record.last_step, s.record.metrics) for s in trials]


def test_each_look_brings_what_is_new_and_what_has_not_ended(storage_url: str) -> None:
    with Database(storage_url, create=True) as database:
        studies, goals = Studies(database), (Goal("loss"),)
        record = StudyRecord("s", "analytic", "name: s", "d" * 64, goals, goals[0], "none", codec.now())
        study = studies.create(record, identity={}, space=SPACE, folder="/none")
        store = studies.trials(study)
        watcher = Watcher(database, study.id, ["health"])
        look = watcher.look()
        assert (look.holder, look.launch, look.trials, look.events, look.is_run) == (None, None, (), (), False)
        store.start(0, {"x": 0.5}, seed=1, epochs=3)
        store.start(1, {"x": 0.6}, seed=2, epochs=3)
        event = Event("health", "m", {"rule": "overfitting"})
        store.add_point(0, Point(1, {"loss": 0.5}, events=(event, Event("other", "m"))), attempt=1, worker="w")
        with Lease(database, study.id, "s"):
            look = watcher.look()
        assert look.is_run
        assert facts(look.trials) == [
            (SEARCH, 0, TrialState.RUNNING, 1, {"loss": 0.5}),
            (SEARCH, 1, TrialState.RUNNING, 0, {}),
        ]
        assert look.trials[0].record.worker == "w"
        assert [(event.number, event.details) for event in look.events] == [(0, {"rule": "overfitting"})]
        store.finish(0, DONE, values=(0.25,), metrics={"loss": 0.25}, best_step=1, attempt=1)
        studies.trials(study, CONFIRM).start(0, {"x": 0.5}, seed=3, epochs=3, subject=0)
        look = watcher.look()
        assert [row[:3] for row in facts(look.trials)] == [
            (SEARCH, 0, TrialState.COMPLETE),
            (SEARCH, 1, TrialState.RUNNING),
            (CONFIRM, 0, TrialState.RUNNING),
        ]
        assert look.trials[0].record.values == (0.25,)
        assert (look.events, look.is_run) == ((), False)
        assert [row[:2] for row in facts(watcher.look().trials)] == [(SEARCH, 1), (CONFIRM, 0)]


def watching(folder: Path, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli", "watch", "branin", "--storage", url]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_watch_ends_with_the_launch_and_says_how(
    tmp_path: Path, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    # The last trial is held until both watches have shown how the study runs.
    write(tmp_path, **{**FIELDS, "objective": hold(tmp_path, 11)})
    study = start(tmp_path, sqlite_url)
    request.addfinalizer(lambda: kill(study))  # it would wait for ever
    wait_for_points(sqlite_url, study)
    left = watching(tmp_path, sqlite_url)
    assert left.stderr is not None and left.stderr.readline()  # it is watching
    left.send_signal(signal.SIGINT)
    screen = io.StringIO()

    def on_a_terminal(*args: Any, **options: Any) -> LiveTable:
        return LiveTable(*args, Console(file=screen, force_terminal=True, width=120), **options)

    begun: list[service.Watched] = []

    def let_go_once_it_is_drawn() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while "inline" not in screen.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        (tmp_path / "go-11").touch()

    reported = "SELECT 1 FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial WHERE t.number = 11 AND p.step = 2"
    wait_until(lambda: rows(sqlite_url, reported), study)
    threading.Thread(target=let_go_once_it_is_drawn, daemon=True).start()
    watched = service.watch(sqlite_url, "branin", on_a_terminal, began=begun.append, every_s=0.2)
    assert left.communicate(timeout=PATIENCE_S)[0] == ""
    assert left.returncode == 130
    study.communicate(timeout=PATIENCE_S)
    assert study.returncode == 0
    assert begun[0].where == f"process {study.pid} on {watched.where.rpartition(' ')[2]}"  # type: ignore[union-attr]
    assert begun[0].was_running and begun[0].how is None
    assert (watched.how, watched.counts, watched.total, watched.is_well) == (
        "done", {TrialState.COMPLETE: 12}, 12, True,
    )  # fmt: skip
    drawn = screen.getvalue()
    for shown in ("worker", "inline", "queued", "front ", "hypervolume", "epochs/s", "confirm: "):
        assert shown in drawn, shown


def test_without_a_terminal_a_line_per_trial_and_a_driver_that_dies_is_told(tmp_path: Path, sqlite_url: str) -> None:
    write(tmp_path, **{**FIELDS, "budget": {"trials": 100_000, "epochs": 6}})
    study = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, study)
    watch = watching(tmp_path, sqlite_url)
    lines = [watch.stderr.readline() for _ in range(3)]  # type: ignore[union-attr]
    kill(study)
    out, _ = watch.communicate(timeout=PATIENCE_S)
    assert lines[0].startswith(f"Study branin is run by process {study.pid} on ")
    assert lines[1].startswith("trial ") and " done after 6 epochs · f1 " in lines[1]
    assert watch.returncode == 1
    assert out.startswith("Study branin is not being run any more: process ")
    assert "died without a word" in out and "hpo launch goes on with it" in out


def test_a_study_that_nobody_runs_says_so_and_what_to_do(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    done = CliRunner().invoke(cli.app, ["watch", "branin", "--storage", sqlite_url])
    assert done.exit_code == 0
    assert done.stdout.startswith("Study branin is not being run: the launch was done at ")
    assert done.stdout.endswith("; 8 of 8 trials have ended.\n")
    with pytest.raises(UnknownName, match="Did you mean 'branin'"):
        service.watch(sqlite_url, "brannin", LiveTable)


def test_looking_at_a_study_of_many_trials_again_reads_few_rows(sqlite_url: str) -> None:
    """The number of rows, not the time: what a look costs must not grow with the study."""
    with Database(sqlite_url, create=True) as database:
        studies, goals = Studies(database), (Goal("loss"),)
        record = StudyRecord("s", "analytic", "name: s", "d" * 64, goals, goals[0], "none", codec.now())
        study = studies.create(record, identity={}, space=SPACE, folder="/none")
        store = studies.trials(study)
        for number in range(60):
            store.start(number, {"x": 0.5}, seed=1, epochs=3)
            if number != 30:
                store.finish(number, DONE, values=(0.25,), metrics={}, best_step=None, attempt=1)
        watcher = Watcher(database, study.id, [])
        assert len(watcher.look().trials) == 60
        assert [seen.record.number for seen in watcher.look().trials] == [30]
