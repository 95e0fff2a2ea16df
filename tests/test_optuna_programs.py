"""The real programs of Optuna open a study of ours as it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo import service
from tests import processes
from tests.studies import launch, write


@pytest.fixture
def study(tmp_path: Path, sqlite_url: str) -> str:
    fields: dict[str, Any] = {
        "pruner": {"name": "median", "startup_trials": 2},
        "sampler": {"name": "tpe"},
        "budget": {"trials": 12, "epochs": 4},
    }
    launch(tmp_path, sqlite_url, **fields)
    launch(tmp_path, sqlite_url, name="two", data={"function": "zdt1"}, goals=[{"metric": "f1"}, {"metric": "f2"}], **{
        **fields, "retrain": {"confirm": 0},
    })  # fmt: skip
    return sqlite_url


def program(name: str) -> str:
    found = Path(sys.executable).parent / name
    return str(found) if found.exists() else shutil.which(name) or name


def test_optunas_own_command_reads_it(study: str) -> None:
    listed = subprocess.run(
        [program("optuna"), "trials", "--storage", study, "--study-name", "branin", "-f", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    trials = json.loads(listed.stdout)
    assert len(trials) == 12
    assert {t["state"] for t in trials} == {"COMPLETE", "PRUNED"}


def test_a_notebook_reads_it_with_plain_optuna(study: str) -> None:
    found = optuna.load_study(study_name="two", storage=study)
    assert found.metric_names == ["f1", "f2"]
    assert len(found.best_trials) >= 1
    frame = found.trials_dataframe()
    assert len(frame) == 12
    assert optuna.importance.get_param_importances(found, target=lambda t: t.values[0])
    # Plain Optuna goes on where we stopped, and we see no trial of its own as ours.
    found.optimize(lambda trial: (trial.suggest_float("x0", 0, 1), 0.0), n_trials=1)
    assert len(optuna.load_study(study_name="two", storage=study).trials) == 13


def test_optuna_dashboard_serves_it_on_loopback(study: str) -> None:
    port = _free_port()
    command = [sys.executable, "-m", "cli", "dashboard", "--storage", study, "--port", str(port)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as server:
        try:
            studies = _ask(f"http://127.0.0.1:{port}/api/studies", server=server)
            names = {s["study_name"]: s["study_id"] for s in studies["study_summaries"]}
            assert set(names) == {"branin", "two"}
            detail = _ask(f"http://127.0.0.1:{port}/api/studies/{names['branin']}?after=0")
            assert len(detail["trials"]) == 12
            listening = subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=False).stdout
            if listening:
                assert f"127.0.0.1:{port}" in listening
                assert f"0.0.0.0:{port}" not in listening
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.ray
def test_optuna_dashboard_beside_a_running_study_disturbs_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """For HPO_DASHBOARD_S seconds (60 by default) its pages are read and notes are saved, while four workers report."""
    write(tmp_path, budget={"trials": 100_000, "epochs": 20}, concurrency=4)
    launched = processes.start(tmp_path, sqlite_url, "--runner", "ray", "--workers", "4")
    port, asked, log = _free_port(), 0, tmp_path / "dashboard.log"
    command = [sys.executable, "-m", "cli", "dashboard", "--storage", sqlite_url, "--port", str(port)]
    try:
        processes.wait_for_points(sqlite_url, launched)
        before = processes.count(sqlite_url, "hpo_points")
        with log.open("wb") as out, subprocess.Popen(command, stderr=out, stdout=out, cwd=processes.ROOT) as server:
            try:
                _ask(f"http://127.0.0.1:{port}/api/studies", server=server)
                until = time.monotonic() + float(os.environ.get("HPO_DASHBOARD_S", "60"))
                while time.monotonic() < until or asked <= 5:
                    assert launched.poll() is None
                    _ask(f"http://127.0.0.1:{port}/api/studies")
                    _ask(f"http://127.0.0.1:{port}/api/studies/1?after=0")
                    asked += 1
                    _ask(f"http://127.0.0.1:{port}/api/studies/1/note", {"body": "seen " * asked, "version": asked})
            finally:
                server.kill()
        processes.wait_until(lambda: processes.count(sqlite_url, "hpo_points") > before + 100, launched)
        reported = processes.count(sqlite_url, "hpo_points") - before
        launched.send_signal(signal.SIGINT)
        _, told = launched.communicate(timeout=processes.PATIENCE_S)
    finally:
        processes.kill(launched)
    print(f"{reported} points were written beside {asked} rounds of the dashboard")
    assert launched.returncode == 130, told
    assert "locked" not in told and "locked" not in log.read_text()
    assert asked > 5 and reported > 100
    assert service.check_database(sqlite_url).problems == ()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _ask(url: str, content: dict[str, Any] | None = None, server: subprocess.Popen[bytes] | None = None) -> Any:
    """The answer to a GET, or to a PUT of ``content``; waits for a ``server`` that has not begun to listen."""
    deadline = time.monotonic() + processes.PATIENCE_S
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="PUT" if data else "GET")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=processes.PATIENCE_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError:
            raise
        except OSError:
            if server is None or server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
