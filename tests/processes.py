"""Launches in processes of their own, for tests that stop or kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cli
from tests.studies import rows

ROOT = Path(cli.__file__).parent


def start(folder: Path, url: str, *options: str) -> subprocess.Popen[str]:
    """``hpo launch`` of ``branin.yaml`` in ``folder``, without a pre-flight; the leader of a group of its own."""
    words = ["launch", str(folder / "branin.yaml"), "--storage", url, "--skip-preflight", *options]
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.Popen(
        command, cwd=folder, env=_environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def hpo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Any command, to its end."""
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.run(
        command, cwd=folder, env=_environment(folder), capture_output=True, text=True, timeout=120, check=False
    )


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the driver and to whatever it started; one that has ended already is left alone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for_lease(url: str, process: subprocess.Popen[str]) -> None:
    """Until the driver owns the study."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if rows(url, f"SELECT 1 FROM hpo_leases WHERE pid = {process.pid}"):
                return
        except Exception:  # the tables are not there yet
            pass
        time.sleep(0.02)


def wait_for_points(url: str, process: subprocess.Popen[str]) -> None:
    """Until a trial has reported twice: then one is running."""
    wait_for_lease(url, process)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None and count(url, "hpo_points") < 2:
        time.sleep(0.02)


def count(url: str, table: str) -> int:
    return int(rows(url, f"SELECT count(*) FROM {table}")[0][0])


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HPO_RUNS": str(folder / "runs")}
