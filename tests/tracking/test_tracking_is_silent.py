"""Trackers that are told to stay here connect to nobody and say nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import studies

# Refuses every connection of this process that leaves the machine; other processes meet the proxy below.
_LAUNCH = """
import socket, sys
connect = socket.socket.connect
def local_only(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        print("CONNECTS", address, file=sys.stderr)
        raise OSError("no network here")
    return connect(self, address)
socket.socket.connect = local_only
import cli
from hpo import aside
aside._WAIT_S = 600.0  # importing three trackers takes more than a minute where the machine is busy
cli.main()
"""


@pytest.mark.slow
def test_no_tracker_connects_to_anybody_or_prints(tmp_path: Path) -> None:
    path = studies.write(tmp_path, tracking=["mlflow", "tensorboard", "wandb"], budget={"trials": 3, "epochs": 2})
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def listen() -> None:
            while True:
                try:
                    caller, _ = proxy.accept()
                except OSError:
                    return
                with caller:
                    calls.append(caller.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), address)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WANDB_"))},
            **proxies, "NO_PROXY": "", "no_proxy": "", "NETRC": str(tmp_path / "none"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", _LAUNCH, "launch", str(path), "--skip-preflight"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert calls == []
    assert "CONNECTS" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("trial ")]
    assert said == []
    assert (tmp_path / "mlflow.db").exists() and list((tmp_path / "runs").rglob("*.wandb"))
