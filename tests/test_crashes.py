"""kill -9 at random moments: nothing acknowledged is lost, nothing doubled, nothing left running.

What must hold is looked at with plain SQL, not through hpo. HPO_KILLS sets how many kills of the
driver the slow matrix has in all (100; CI takes fewer, so that they fit into its time).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, text

from tests.processes import (
    PATIENCE_S,
    count,
    hpo,
    kill,
    start,
    wait_for_lease,
    wait_for_points,
    wait_for_words,
    wait_until,
)
from tests.studies import rows, without_timings, write

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
TRAINING: dict[str, Any] = {
    "objective": "tests.run_objectives:Line",
    "data": None,
    "goals": [{"metric": "val_loss"}],
    "pruner": {"name": "none"},
    "sampler": {"name": "random"},
    "budget": {"trials": 10, "epochs": 6},
    "retrain": {"confirm": 0, "pick": "val_loss"},
}
KILLS = int(os.environ.get("HPO_KILLS", "100"))
SHARES = {"analytic": 0.35, "training": 0.15}  # of KILLS, on SQLite and on PostgreSQL each
TRIALS_MORE = {"analytic": 12, "training": 3}  # after the last kill


def trials_of(url: str) -> list[tuple[Any, ...]]:
    query = "SELECT number, state, params, goal_values, stop_kind, best_step, last_step, seed FROM hpo_trials"
    return [(n, s, json.loads(p), *rest) for n, s, p, *rest in rows(url, f"{query} ORDER BY number")]


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
    gaps = "SELECT trial, max(step), count(*) FROM hpo_points GROUP BY trial HAVING max(step) <> count(*)"
    assert rows(url, gaps) == []
    # A trial that has begun has as many attempts as it says, and all but the last of them have ended.
    assert rows(
        url,
        "SELECT t.number FROM hpo_trials t LEFT JOIN hpo_attempts a ON a.trial = t.id GROUP BY t.id, t.number, "
        "t.attempts, t.state HAVING count(a.attempt) <> t.attempts "
        "OR sum(CASE WHEN a.ended_at IS NULL THEN 1 ELSE 0 END) <> CASE WHEN t.state = 'running' THEN 1 ELSE 0 END",
    ) == []  # fmt: skip
    return len(ours)


def acknowledged(url: str) -> dict[tuple[int, int], str]:
    """What the study knows of each step, without what goes by the clock."""
    found = rows(url, "SELECT t.number, p.step, p.metrics FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial")
    return {(n, step): json.dumps(without_timings(metrics)) for n, step, metrics in found}


def finished(url: str) -> dict[int, tuple[Any, ...]]:
    found = rows(url, "SELECT number, state, goal_values, best_step, finished_at, attempts FROM hpo_trials")
    return {row[0]: row[1:] for row in found if row[1] in ("complete", "pruned", "fail")}


class Memory:
    """What was acknowledged before a kill; none of it may change by a later launch."""

    def __init__(self) -> None:
        self.points: dict[tuple[int, int], str] = {}
        self.ended: dict[int, tuple[Any, ...]] = {}

    def compare(self, url: str) -> None:
        """Every step and every ended trial that was there is there, and the same to the last bit."""
        check_invariants(url)
        points, ended = acknowledged(url), finished(url)
        lost = {key for key in self.points if key not in points}
        # A trial that trains repeats the epoch in progress at most; one that has no checkpoint yet begins again.
        assert not {key for key in lost if key[0] in self.ended}, "an acknowledged report of an ended trial was lost"
        assert {key: points[key] for key in self.points.keys() - lost} == {
            key: self.points[key] for key in self.points.keys() - lost
        }
        assert {n: ended.get(n) for n in self.ended} == self.ended, "a trial that had ended is another one now"
        assert all(step >= self._newest(number) for number, step in lost), "more than the epoch in progress was lost"
        self.points, self.ended = points, ended

    def _newest(self, number: int) -> int:
        return max(step for n, step in self.points if n == number)


def kill_again_and_again(folder: Path, url: str, kills: int, seed: int, *, settle_s: float) -> Memory:
    """Launch and kill, each time after another random while; what was acknowledged until the last.

    One kill in four may fall into the beginning, when no trial has reported yet.
    """
    moments, memory = random.Random(seed), Memory()
    for _ in range(kills):
        process = start(folder, url)
        wait_for_lease(url, process)
        if moments.random() < 0.75:
            wait_for_more(url, process, count(url, "hpo_points"))
        time.sleep(moments.uniform(0.0, settle_s))
        kill(process)
        memory.compare(url)
    return memory


def finish(folder: Path, url: str, *options: str) -> None:
    process = start(folder, url, *options)
    _, error = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == 0, error


def settled(url: str, trials: int = 60) -> None:
    """Nothing is left over once a study has come to its end."""
    assert check_invariants(url) == trials
    assert rows(url, "SELECT count(*) FROM hpo_trials WHERE state IN ('running', 'queued')") == [(0,)]
    assert rows(url, "SELECT count(*) FROM hpo_attempts WHERE ended_at IS NULL") == [(0,)]
    assert rows(url, "SELECT count(*) FROM hpo_leases") == [(0,)]


def unbroken(folder: Path) -> list[tuple[Any, ...]]:
    """The trials of the same study, never killed."""
    url = f"sqlite:///{folder / 'whole.db'}"
    finish(folder, url, "--runs", str(folder / "whole"))
    return trials_of(url)


@pytest.mark.parametrize(
    "storage_url",
    ["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgresql", "mysql"))],
    indirect=True,
)
def test_kills_of_the_driver_lose_and_double_nothing(tmp_path: Path, storage_url: str) -> None:
    write(tmp_path, **FIELDS)
    memory = kill_again_and_again(tmp_path, storage_url, 5 if "sqlite" in storage_url else 3, seed=1, settle_s=1.0)
    finish(tmp_path, storage_url)
    memory.compare(storage_url)
    settled(storage_url)
    assert trials_of(storage_url) == unbroken(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("study", ["analytic", "training"])
def test_many_kills_of_the_driver_lose_and_double_nothing(tmp_path: Path, storage_url: str, study: str) -> None:
    """Without an end of its own until the last kill; the while before each is anything up to a trial or two."""
    less = 0.1 if "mysql" in storage_url else 1  # the same code as on PostgreSQL, but for its dialect
    kills = max(1, round(KILLS * SHARES[study] * less))
    fields = {**FIELDS, **(TRAINING if study == "training" else {})}
    write(tmp_path, **{**fields, "budget": {**fields["budget"], "trials": 100_000}})
    memory = kill_again_and_again(tmp_path, storage_url, kills, seed=7, settle_s=0.5)
    hit = "SELECT count(*) FROM hpo_launches WHERE ended_at IS NULL"
    assert rows(storage_url, hit)[0][0] > kills / 2, "most of the kills came before the launch had begun"
    trials = count(storage_url, "hpo_trials") + TRIALS_MORE[study]
    write(tmp_path, **{**fields, "budget": {**fields["budget"], "trials": trials}})
    finish(tmp_path, storage_url)
    memory.compare(storage_url)
    settled(storage_url, trials)
    assert trials_of(storage_url) == unbroken(tmp_path)


@pytest.mark.slow
@pytest.mark.ray
def test_kills_of_driver_and_workers_on_ray_lose_and_double_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """Ten kills, with fewer KILLS the first of them: the driver and all of Ray, a worker, the node (its raylet)."""
    write(tmp_path, **{**FIELDS, "resources": {"cpus": 0.5}, "budget": {"trials": 2000, "epochs": 4}})
    moments, memory = random.Random(3), Memory()
    victims = ["driver", "worker", "node", "worker", "driver", "worker", "node", "worker", "driver", "worker"]
    for victim in victims[: max(3, KILLS // 10)]:
        process = start(tmp_path, sqlite_url, "--runner", "ray")
        before = count(sqlite_url, "hpo_points") if memory.points else 0
        wait_for_more(sqlite_url, process, before)
        time.sleep(moments.uniform(0.0, 1.0))
        if victim == "driver":
            kill(process)
        else:
            kill_inside_ray(process, victim)
            if victim == "worker":  # the launch goes on
                wait_for_more(sqlite_url, process, count(sqlite_url, "hpo_points"))
                assert process.poll() is None, process.communicate()[1][-3000:]
                kill(process)
            else:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    kill(process)
        memory.compare(sqlite_url)
    ended = count(sqlite_url, "hpo_trials")
    write(tmp_path, **{**FIELDS, "resources": {"cpus": 0.5}, "budget": {"trials": ended + 5, "epochs": 4}})
    finish(tmp_path, sqlite_url, "--runner", "ray")
    memory.compare(sqlite_url)
    settled(sqlite_url, ended + 5)
    assert trials_of(sqlite_url) == unbroken(tmp_path)


def kill_inside_ray(process: subprocess.Popen[str], victim: str) -> None:
    """SIGKILL to a process that runs trials, or to the raylet under it."""
    named = {"worker": "ray::Worker", "node": "/raylet"}[victim]
    deadline, found = time.monotonic() + PATIENCE_S, list[psutil.Process]()
    while not found and time.monotonic() < deadline:  # a worker bears its name only while a call of it runs
        family = {one: command(one) for one in psutil.Process(process.pid).children(recursive=True)}
        found = [one for one, words in family.items() if named in words.split(" ")[0] and "IDLE" not in words]
    assert found, family
    found[0].kill()


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""


def wait_for_more(url: str, process: subprocess.Popen[str], than: int) -> None:
    """Until trials have reported more often than that."""
    wait_for_lease(url, process)
    wait_until(lambda: count(url, "hpo_points") > than, process)


def test_a_trial_goes_on_from_its_newest_checkpoint(tmp_path: Path, sqlite_url: str) -> None:
    """At most the epoch in progress is repeated: the next attempt begins one epoch on, or tells the last again."""
    write(tmp_path, **{**FIELDS, **TRAINING, "budget": {"trials": 1, "epochs": 1_000_000}})
    process = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, process)
    time.sleep(0.2)
    kill(process)
    ((last,),) = rows(sqlite_url, "SELECT max(step) FROM hpo_points")
    assert last >= 2
    again = start(tmp_path, sqlite_url)
    wait_for_more(sqlite_url, again, last)
    kill(again)
    ((first,),) = rows(sqlite_url, "SELECT min(step) FROM hpo_points WHERE attempt = 2")
    assert first in (last, last + 1)


def take_over(url: str, host: str, age_s: float) -> None:
    """As if the lease were another machine's, whose last sign of life is so old."""
    from datetime import UTC, datetime, timedelta

    beat = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(timespec="microseconds")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE hpo_leases SET host = :host, pid = 1, heartbeat_at = :beat"), {"host": host, "beat": beat}
        )
        connection.execute(text("UPDATE hpo_launches SET host = :host"), {"host": host})
    engine.dispose()


@pytest.mark.slow
def test_a_machine_that_vanished_is_waited_for_a_minute_and_then_replaced(tmp_path: Path, sqlite_url: str) -> None:
    write(tmp_path, **FIELDS)
    process = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, process)
    kill(process)
    take_over(sqlite_url, "elsewhere", age_s=0)
    refused = hpo(tmp_path, "launch", str(tmp_path / "branin.yaml"), "--storage", sqlite_url)
    assert refused.returncode == 2
    assert "is being run right now by process 1 on elsewhere" in refused.stderr
    take_over(sqlite_url, "elsewhere", age_s=90)
    gone = hpo(tmp_path, "stop", "branin", "--storage", sqlite_url)
    assert gone.returncode == 2
    assert "process 1 on elsewhere died without a word" in gone.stderr
    finish(tmp_path, sqlite_url)
    settled(sqlite_url)
    assert trials_of(sqlite_url) == unbroken(tmp_path)


@pytest.mark.slow
def test_a_trial_of_another_machines_launch_begins_again_where_its_folder_cannot_be_seen(
    tmp_path: Path, sqlite_url: str
) -> None:
    fields = {**FIELDS, **TRAINING, "budget": {"trials": 100_000, "epochs": 30}}
    write(tmp_path, **fields)
    process = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, process)
    kill(process)
    take_over(sqlite_url, "elsewhere", age_s=90)
    trials = count(sqlite_url, "hpo_trials") + 2
    write(tmp_path, **{**fields, "budget": {"trials": trials, "epochs": 30}})
    (tmp_path / "runs").rename(tmp_path / "on-the-other-machine")
    again = start(tmp_path, sqlite_url)
    _, error = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, error
    assert "was gone; trials that were under way go on in" in error
    settled(sqlite_url, trials)
    assert trials_of(sqlite_url) == unbroken(tmp_path)


def test_a_first_ctrl_c_stops_at_the_next_step_and_says_how_to_go_on(tmp_path: Path, sqlite_url: str) -> None:
    budget = {"trials": 2, "epochs": 100_000}  # so that no trial ends by itself meanwhile
    write(tmp_path, **{**FIELDS, "data": {"function": "zdt1", "dims": 4, "epoch_s": 0.05}, "budget": budget})
    process = start(tmp_path, sqlite_url)
    wait_for_points(sqlite_url, process)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert f"Go on with: hpo launch {tmp_path / 'branin.yaml'}" in out
    assert "Traceback" not in error
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_trials WHERE state = 'running'") == [(0,)]
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_trials WHERE state = 'queued'") == [(1,)]


def test_a_second_ctrl_c_leaves_at_once_and_the_study_goes_on_later(tmp_path: Path, sqlite_url: str) -> None:
    data = {"function": "zdt1", "dims": 4, "epoch_s": 3600.0}  # the step that a first Ctrl-C waits for never comes
    fields = {**FIELDS, "data": data, "budget": {"trials": 2, "epochs": 2}}
    write(tmp_path, **fields)
    process = start(tmp_path, sqlite_url)
    try:
        wait_for_lease(sqlite_url, process)
        wait_until(lambda: count(sqlite_url, "hpo_trials"), process)
        process.send_signal(signal.SIGINT)
        wait_for_words(process, "Stopping as soon as")
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=PATIENCE_S)
    finally:
        kill(process)
    assert process.returncode == 130
    assert "Left at once. Go on with: hpo launch" in error
    write(tmp_path, **{**fields, "data": {"function": "zdt1", "dims": 4}})
    again = start(tmp_path, sqlite_url)
    _, error = again.communicate(timeout=PATIENCE_S)
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
        assert first.communicate(timeout=PATIENCE_S)
        assert first.returncode == 0
        write(tmp_path, **FIELDS)
        (mount / "ballast").write_bytes(b"x" * (16 * 2**20 - sum(p.stat().st_size for p in mount.iterdir()) - 90_000))
        full = start(tmp_path, url)
        _, error = full.communicate(timeout=PATIENCE_S)
        assert full.returncode in (1, 2), error
        assert "full" in error
        assert "Traceback" not in error
        (mount / "ballast").unlink()
        count = check_invariants(url)
        assert count >= 4
        last = start(tmp_path, url)
        _, error = last.communicate(timeout=PATIENCE_S)
        assert last.returncode == 0, error
        settled(url)
    finally:
        subprocess.run(["umount", str(mount)], check=False)
