"""hpo stop from another terminal: the launch ends, says why, and goes on later as if it had never stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import UnknownName, UserError
from tests.processes import PATIENCE_S, hold, hpo, kill, start, wait_for_points, wait_for_words, wait_until
from tests.studies import launch, rows, write

FIELDS: dict[str, Any] = {
    "data": {"function": "zdt1", "dims": 4, "epoch_s": 0.05},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "budget": {"trials": 100_000, "epochs": 6},
    "deterministic": True,
    "retrain": {"confirm": 2},
}


@pytest.fixture
def running(tmp_path: Path, storage_url: str) -> Iterator[subprocess.Popen[str]]:
    write(tmp_path, **FIELDS)
    process = start(tmp_path, storage_url)
    wait_for_points(storage_url, process)
    yield process
    kill(process)


def test_a_drained_launch_ends_what_runs_starts_nothing_more_and_says_why(
    tmp_path: Path, storage_url: str, running: subprocess.Popen[str]
) -> None:
    stopped = hpo(tmp_path, "stop", "branin", "--wait", "--storage", storage_url)
    out, error = running.communicate(timeout=PATIENCE_S)
    assert stopped.returncode == 0, stopped.stderr
    assert f"Asked process {running.pid} on " in stopped.stderr
    assert "what runs is left to its end" in stopped.stderr
    assert "is no longer run by process" in stopped.stdout
    assert running.returncode == 130
    assert "Asked to stop by hpo stop" in error
    assert "Stopped by hpo stop; nothing is lost. Go on with: hpo launch" in out
    states = {state for (state,) in rows(storage_url, "SELECT state FROM hpo_trials")}
    assert states == {"complete"}
    assert rows(storage_url, "SELECT ended_how FROM hpo_launches") == [("stopped",)]
    events = rows(storage_url, "SELECT message FROM hpo_events WHERE kind = 'stopped'")
    assert events == [("by hpo stop: what ran came to its end",)]
    assert rows(storage_url, "SELECT count(*) FROM hpo_trials WHERE series = 'confirm'") == [(0,)]
    assert rows(storage_url, "SELECT count(*) FROM hpo_leases") == [(0,)]


@pytest.mark.parametrize(
    "storage_url",
    ["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgresql", "mysql"))],
    indirect=True,
)
def test_now_stops_a_trial_at_its_next_step_and_the_study_goes_on_as_if_it_never_stopped(
    tmp_path: Path, storage_url: str
) -> None:
    # Held in its middle, so that the wish does not come just between two trials.
    module = f"stopped_on_{storage_url.partition(':')[0].partition('+')[0]}"
    held = {**FIELDS, "objective": hold(tmp_path, 1, module=module)}
    write(tmp_path, **held)
    process = start(tmp_path, storage_url)
    reported = "SELECT 1 FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial WHERE t.number = 1 AND p.step = 2"
    try:
        wait_for_points(storage_url, process)
        wait_until(lambda: rows(storage_url, reported), process)
        assert hpo(tmp_path, "stop", "branin", "--now", "--storage", storage_url).returncode == 0
        wait_for_words(process, "Asked to stop by hpo stop")
        (tmp_path / "go-1").touch()
        process.communicate(timeout=PATIENCE_S)
    finally:
        kill(process)
    assert process.returncode == 130
    (trials,) = rows(storage_url, "SELECT count(*) FROM hpo_trials")[0]
    assert rows(storage_url, "SELECT count(*), min(number) FROM hpo_trials WHERE state = 'queued'") == [(1, trials - 1)]
    fields = {**held, "budget": {"trials": trials + 3, "epochs": 6}, "retrain": {"confirm": 0}}
    resumed = launch(tmp_path, storage_url, **fields)
    whole = launch(tmp_path, f"sqlite:///{tmp_path / 'whole.db'}", **fields)
    assert [(t.params, t.values, t.state) for t in resumed.snapshot.trials] == [
        (t.params, t.values, t.state) for t in whole.snapshot.trials
    ]


def test_ctrl_c_after_a_drain_stops_with_a_checkpoint_and_does_not_leave_at_once(
    tmp_path: Path, sqlite_url: str
) -> None:
    write(tmp_path, **{**FIELDS, "budget": {"trials": 2, "epochs": 100_000}})  # no end of its own
    process = start(tmp_path, sqlite_url)
    try:
        wait_for_points(sqlite_url, process)
        service.stop(sqlite_url, "branin")
        wait_for_words(process, "Asked to stop by hpo stop")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE_S)
    finally:
        kill(process)
    assert process.returncode == 130
    assert "Left at once" not in error
    assert rows(sqlite_url, "SELECT ended_how FROM hpo_launches") == [("interrupted",)]


def test_a_study_that_nobody_runs_is_not_stopped(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    with pytest.raises(UserError, match="'branin' is not being run, so there is nothing to stop"):
        service.stop(sqlite_url, "branin")
    with pytest.raises(UnknownName, match="Did you mean 'branin'"):
        service.stop(sqlite_url, "brannin")
    refused = hpo(tmp_path, "stop", "branin", "--storage", sqlite_url)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_a_launch_that_died_is_named_instead_of_stopped(tmp_path: Path, sqlite_url: str) -> None:
    write(tmp_path, **FIELDS)
    process = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, process)
    process.kill()
    process.communicate()
    with pytest.raises(UserError, match=rf"process {process.pid} on .* died without a word .* hpo launch goes on"):
        service.stop(sqlite_url, "branin")
    assert rows(sqlite_url, "SELECT stop FROM hpo_leases") == [(None,)]


def test_now_is_not_taken_back_by_a_later_drain(tmp_path: Path, storage_url: str) -> None:
    from storage.database import Database
    from storage.leases import DRAIN, NOW, Lease, ask_to_stop
    from tests.storage.test_leases import make_study

    with Database(storage_url, create=True) as database:
        study = make_study(database)
        assert ask_to_stop(database, study, DRAIN) is None
        with Lease(database, study, "s"):
            wishes = [ask_to_stop(database, study, wish) for wish in (DRAIN, NOW, DRAIN)]
        assert [found and found.wish for found in wishes] == [DRAIN, NOW, NOW]
        # The next launch has a lease of its own, and nobody wants that one stopped.
        with Lease(database, study, "s"):
            assert rows(storage_url, "SELECT stop FROM hpo_leases") == [(None,)]
