"""Launches in processes of their own, for tests that stop or kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import cli
from tests.studies import rows

ROOT = Path(cli.__file__).parent
PATIENCE_S = 300.0  # for what takes seconds, on a machine that is busy with other tests

# Trials that wait in their middle until the test has seen what it wants to see of them.
HELD = """
import time
from pathlib import Path
from objectives.analytic import Analytic
class Held(Analytic):
    def run(self, job, context):
        report, go = context.report, Path(__file__).with_name(f"go-{{job.number}}")
        def held(step, /, **metrics):
            report(step, **metrics)
            while job.series == "search" and job.number in {numbers} and step == 2 and not go.exists():
                time.sleep(0.02)
        context.report = held
        return super().run(job, context)
"""


def hold(folder: Path, *numbers: int, module: str = "held") -> str:
    """An objective in ``folder`` whose trials of these numbers wait after step 2 for a file there, ``go-NUMBER``."""
    (folder / f"{module}.py").write_text(HELD.format(numbers=numbers))
    return f"{module}:Held"


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
        command, cwd=folder, env=_environment(folder), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the driver and to whatever it started; one that has ended already is left alone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until it has happened, or the process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def wait_for_lease(url: str, process: subprocess.Popen[str]) -> None:
    """Until the driver owns the study."""

    def is_held() -> bool:
        try:
            return bool(rows(url, f"SELECT 1 FROM hpo_leases WHERE pid = {process.pid}"))
        except Exception:  # the tables are not there yet
            return False

    wait_until(is_held, process)


def wait_for_points(url: str, process: subprocess.Popen[str]) -> None:
    """Until a trial has reported twice: then one is running."""
    wait_for_lease(url, process)
    wait_until(lambda: count(url, "hpo_points") >= 2, process)


def wait_for_words(process: subprocess.Popen[str], words: str) -> None:
    """Until the process has said these words on standard error; what came before is read, too."""
    assert process.stderr is not None
    told = ""
    while words not in told:
        line = process.stderr.readline()
        assert line, f"it ended without saying {words!r}: {told}"
        told += line


def count(url: str, table: str) -> int:
    return int(rows(url, f"SELECT count(*) FROM {table}")[0][0])


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HPO_RUNS": str(folder / "runs")}
