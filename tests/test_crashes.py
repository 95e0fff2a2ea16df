"""kill -9 of the driver at random moments: no trial lost, doubled or left running.

The rows are looked at with plain SQL, not through hpo.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cli
from tests.studies import rows, write

ROOT = Path(cli.__file__).parent
FIELDS: dict[str, Any] = {
    "data": {"function": "zdt1", "dims": 4, "epoch_s": 0.01, "jitter": 0.5},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "sampler": {"name": "nsga2", "population": 6},
    "pruner": {"name": "median", "startup_trials": 3, "watch": "f2"},
    "budget": {"trials": 60, "epochs": 4},
    "concurrency": 2,
    "deterministic": True,
    "retrain": {"confirm": 0},
}


def start(folder: Path, url: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli", "launch", str(folder / "branin.yaml"), "--storage", url, *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HPO_RUNS": str(folder / "runs")}
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the driver and to whatever it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def trials_of(url: str) -> list[tuple[Any, ...]]:
    found = rows(url, "SELECT number, state, params, goal_values, reason, best_step FROM hpo_trials ORDER BY number")
    return [(n, s, json.loads(p), v, r, b) for n, s, p, v, r, b in found]


def check_invariants(url: str) -> int:
    """What must hold at every moment, in Optuna's tables and in ours; how many trials there are."""
    ours = rows(url, "SELECT number, state, trial_id FROM hpo_trials ORDER BY number")
    theirs = rows(url, "SELECT number, state, trial_id FROM trials ORDER BY number")
    assert [row[0] for row in ours] == list(range(len(ours)))
    assert [(n, i) for n, _, i in ours] == [(n, i) for n, _, i in theirs]
    named = {"queued": "WAITING", "running": "RUNNING", "complete": "COMPLETE", "pruned": "PRUNED", "fail": "FAIL"}
    assert [named[s] for _, s, _ in ours] == [s for _, s, _ in theirs]
    assert rows(url, "SELECT count(*) FROM hpo_trials WHERE state = 'complete' AND goal_values IS NULL") == [(0,)]
    doubled = "SELECT count(*) FROM (SELECT trial, step FROM hpo_points GROUP BY trial, step HAVING count(*) > 1) AS d"
    assert rows(url, doubled) == [(0,)]
    return len(ours)


def acknowledged(url: str) -> set[tuple[int, int]]:
    return set(rows(url, "SELECT t.number, p.step FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial"))


def kill_until_done(folder: Path, url: str, kills: int, seed: int, *options: str, settle_s: float) -> None:
    moments = random.Random(seed)
    before: set[tuple[int, int]] = set()
    for _ in range(kills):
        process = start(folder, url, *options)
        wait_for_lease(url, process)
        time.sleep(moments.uniform(0.0, settle_s))
        kill(process)
        check_invariants(url)
        now = acknowledged(url)
        assert before <= now, "an acknowledged report was lost"
        before = now
    process = start(folder, url, *options)
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "Study branin: 60 trials" in out
    assert before <= acknowledged(url)


def wait_for_lease(url: str, process: subprocess.Popen[str]) -> None:
    """Until the driver owns the study: a kill before that would kill nothing of interest."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if rows(url, f"SELECT 1 FROM hpo_leases WHERE pid = {process.pid}"):
                return
        except Exception:  # the tables are not there yet
            pass
        time.sleep(0.02)


def wait_for_points(url: str, process: subprocess.Popen[str]) -> None:
    """Until a trial has reported: then one is running."""
    wait_for_lease(url, process)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None and len(acknowledged(url)) < 2:
        time.sleep(0.02)


def settled(url: str) -> None:
    assert check_invariants(url) == 60
    assert rows(url, "SELECT count(*) FROM hpo_trials WHERE state IN ('running', 'queued')") == [(0,)]
    assert rows(url, "SELECT count(*) FROM hpo_attempts WHERE ended_at IS NULL") == [(0,)]
    assert rows(url, "SELECT count(*) FROM hpo_leases") == [(0,)]


def test_ten_kills_of_the_driver_lose_and_double_nothing(tmp_path: Path, storage_url: str) -> None:
    write(tmp_path, **FIELDS)
    kill_until_done(tmp_path, storage_url, 10 if "sqlite" in storage_url else 3, seed=1, settle_s=0.5)
    settled(storage_url)
    # And the study is the one that was never killed.
    whole = f"sqlite:///{tmp_path / 'whole.db'}"
    process = start(tmp_path, whole, "--runs", str(tmp_path / "whole"))
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert trials_of(storage_url) == trials_of(whole)


@pytest.mark.slow
@pytest.mark.ray
def test_kills_of_the_driver_on_ray_lose_and_double_nothing(tmp_path: Path, sqlite_url: str) -> None:
    fields = {**FIELDS, "resources": {"cpus": 0.5}}
    write(tmp_path, **fields)
    kill_until_done(tmp_path, sqlite_url, 3, 2, "--runner", "ray", settle_s=8.0)
    settled(sqlite_url)


def test_a_first_ctrl_c_stops_at_the_next_step_and_says_how_to_go_on(tmp_path: Path, sqlite_url: str) -> None:
    write(tmp_path, **{**FIELDS, "data": {"function": "zdt1", "dims": 4, "epoch_s": 0.05}})
    process = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, process)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"Go on with: hpo launch {tmp_path / 'branin.yaml'}" in out
    assert "Traceback" not in error
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_trials WHERE state = 'running'") == [(0,)]
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_trials WHERE state = 'queued'") == [(1,)]


def test_a_second_ctrl_c_leaves_at_once_and_the_study_goes_on_later(tmp_path: Path, sqlite_url: str) -> None:
    fields = {**FIELDS, "data": {"function": "zdt1", "dims": 4, "epoch_s": 20.0}, "budget": {"trials": 2, "epochs": 2}}
    write(tmp_path, **fields)
    process = start(tmp_path, sqlite_url)
    wait_for_lease(sqlite_url, process)
    time.sleep(1.0)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert "Left at once. Go on with: hpo launch" in error
    write(tmp_path, **{**fields, "data": {"function": "zdt1", "dims": 4}})
    again = start(tmp_path, sqlite_url)
    _, error = again.communicate(timeout=60)
    assert again.returncode == 0, error
    assert rows(sqlite_url, "SELECT state, attempts FROM hpo_trials ORDER BY number") == [
        ("complete", 2),
        ("complete", 1),
    ]


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A small file system of its own, filled while the study runs; then made free again."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        url = f"sqlite:///{mount / 'hpo.db'}"
        write(tmp_path, **{**FIELDS, "budget": {"trials": 4, "epochs": 4}})
        first = start(tmp_path, url)
        assert first.communicate(timeout=60)
        assert first.returncode == 0
        write(tmp_path, **FIELDS)
        (mount / "ballast").write_bytes(b"x" * (16 * 2**20 - sum(p.stat().st_size for p in mount.iterdir()) - 90_000))
        full = start(tmp_path, url)
        _, error = full.communicate(timeout=120)
        assert full.returncode in (1, 2), error
        assert "full" in error
        assert "Traceback" not in error
        (mount / "ballast").unlink()
        count = check_invariants(url)
        assert count >= 4
        last = start(tmp_path, url)
        _, error = last.communicate(timeout=120)
        assert last.returncode == 0, error
        settled(url)
    finally:
        subprocess.run(["umount", str(mount)], check=False)
