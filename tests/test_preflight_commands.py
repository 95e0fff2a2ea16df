"""The pre-flight as a person meets it: ``hpo check``, and once before the first trial of a new study."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result as Done
from typer.testing import CliRunner

import cli
from hpo import preflight, service
from hpo.errors import UserError
from hpo.interrupt import Interrupt
from hpo.trial import TrialState
from tests.processes import PATIENCE_S, is_running
from tests.studies import rows, write

ROOT = Path(__file__).parent.parent

# What each fault does is done really, in the process of the pre-flight.
OBJECTIVE = """
import os, signal, sys, time
import torch
from torch import nn
from hpo.errors import DataError
from hpo.training.task import Split, Task
from objectives.base import TrainingObjective
from search_spaces import Choice, Float, Int, SearchSpace

class Small(TrainingObjective):
    summary = "for tests"
    default_params = {"lr": 0.5, "width": 6}
    space = SearchSpace({"lr": Float(1e-4, 1e-2, log=True), "width": Int(2, 8), "batch_size": Choice((8, 16, 32))})

    def task(self, job):
        print("what an objective prints is not in the way")
        fault = job.data.get("fault")
        if fault == "missing":
            raise DataError("numbers.csv is missing. Make it first.")
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "slow":
            open(job.data["mark"], "w").write(str(os.getpid()))
            time.sleep(600)
        x = torch.rand(64, 4, generator=torch.Generator().manual_seed(job.data_seed))
        y = x.sum(1, keepdim=True)
        if fault == "nan":
            x[17, 2] = torch.nan
        if fault == "large":
            x = x * 1e6
        model = nn.Sequential(nn.Linear(4, job.params["width"]), nn.ReLU(), nn.Linear(job.params["width"], 1))
        return Task(model, Split((x, y)), Split((x[:32], y[:32])), nn.functional.mse_loss, (x[:1],))
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preflight_objective.py").write_text(OBJECTIVE)
    monkeypatch.setenv("HPO_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)


def study(folder: Path, fault: str | None = None, **fields: Any) -> Path:
    small: dict[str, Any] = {
        "name": "small",
        "objective": "preflight_objective:Small",
        "data": {"fault": fault},
        "goals": None,
        "retrain": {"confirm": 0},
        "budget": {"trials": 1, "epochs": 1},
    }
    return write(folder, **{**small, **fields})


def hpo(*arguments: str | Path) -> Done:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def there(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"locks", "__pycache__"}  # Python's own, beside a user's module


# hpo check


def test_check_tells_what_it_tried_and_writes_nothing(tmp_path: Path) -> None:
    path = study(tmp_path)
    before = there(tmp_path)
    done = hpo("check", path)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[2:9]] == [
        [name, "ok"] for name in ("task", "batches", "samples", "shapes", "gradients", "memory", "time")
    ]
    assert lines[-1].endswith("study 'small', goals val_loss ↓, 3 parameters. Nothing is wrong with it.")
    assert there(tmp_path) == before


def test_check_fails_with_a_line_for_each_failed_check(tmp_path: Path) -> None:
    done = hpo("check", study(tmp_path, "nan"), "--json")
    assert done.exit_code == 2
    (batches, samples) = done.stderr.splitlines()
    assert batches.startswith("hpo: batches: training batch ")
    assert samples.startswith("hpo: samples: training sample 17: the input holds nan at [2]")
    told = json.loads(done.stdout)
    results = {check["check"]: check["result"] for check in told["checks"]}
    assert results["batches"] == results["samples"] == "failed"
    assert results["shapes"] == "skipped"
    assert told["params"] == {"lr": pytest.approx(0.001), "width": 6, "batch_size": 16}


@pytest.mark.slow
def test_check_shows_warnings_and_is_content(tmp_path: Path) -> None:
    done = hpo("check", study(tmp_path, "large"))
    assert done.exit_code == 0
    assert "3 parameters. 1 warning." in done.stdout
    assert "normalise it" in done.stdout


def test_a_quick_check_tries_nothing(tmp_path: Path) -> None:
    done = hpo("check", study(tmp_path, "killed"), "--quick")
    assert done.exit_code == 0
    assert done.stdout.endswith("Nothing is wrong with it.\n")
    assert "task" not in done.stdout


def test_an_objective_that_does_not_train_is_checked_as_ever(tmp_path: Path) -> None:
    done = hpo("check", write(tmp_path))
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1


# The process of its own


def found(folder: Path, fault: str, **fields: Any) -> list[str]:
    return [finding.line for finding in preflight.run(service.check(study(folder, fault, **fields))).failed]


def test_data_that_are_missing_are_a_failed_check_with_the_reason(tmp_path: Path) -> None:
    assert found(tmp_path, "missing") == ["task: numbers.csv is missing. Make it first."]


def test_a_process_that_is_killed_is_a_failed_check(tmp_path: Path) -> None:
    (line,) = found(tmp_path, "killed")
    assert line.startswith("task: the process that built the task and tried it was killed by SIGKILL")


def ended(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


class Wanted(Interrupt):
    """Requested as soon as the pre-flight is at work."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        super().__init__()

    @property  # type: ignore[override]
    def requested(self) -> bool:
        return self._mark.exists() and self._mark.read_text() != ""

    @requested.setter
    def requested(self, value: bool) -> None: ...


def test_an_interrupt_ends_it_and_nothing_has_been_written(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = study(tmp_path, data={"fault": "slow", "mark": str(mark)})
    before = there(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        service.launch(path, storage=f"sqlite:///{tmp_path / 'hpo.db'}", runs=tmp_path / "runs", interrupt=Wanted(mark))
    assert ended(int(mark.read_text()))
    assert there(tmp_path) - {"mark"} == before


@pytest.mark.slow
def test_it_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    plan = service.check(study(tmp_path, data={"fault": "slow", "mark": str(mark)}))
    code = "import pickle, sys\nfrom hpo import preflight\nplan = pickle.load(sys.stdin.buffer)\npreflight.run(plan)\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert parent.stdin is not None
    parent.stdin.write(pickle.dumps(plan))
    parent.stdin.close()
    while parent.poll() is None and (not mark.exists() or not mark.read_text()):
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert ended(int(mark.read_text()))


# hpo launch


def test_a_study_whose_preflight_fails_is_not_begun(tmp_path: Path) -> None:
    path = study(tmp_path, "nan")
    before = there(tmp_path)
    with pytest.raises(UserError) as refused:
        service.launch(path, storage=f"sqlite:///{tmp_path / 'hpo.db'}", runs=tmp_path / "runs")
    said = str(refused.value)
    assert "samples: training sample 17: the input holds nan at [2]" in said
    assert "launch with --skip-preflight" in said
    assert there(tmp_path) == before


@pytest.mark.slow
def test_it_is_made_once_and_kept_as_an_event_of_the_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    done = hpo("launch", study(tmp_path, "large"), "--storage", url)
    assert "Warning of the pre-flight: batches: the input reaches" in done.stderr
    again = hpo("launch", study(tmp_path, "large", budget={"trials": 2, "epochs": 1}), "--storage", url)
    assert "pre-flight" not in again.stderr
    ((message, details),) = rows(url, "SELECT message, details FROM hpo_events WHERE kind = 'preflight'")
    assert message == "batches warning"
    checks = json.loads(details)["checks"]
    assert [check["check"] for check in checks][:2] == ["task", "batches"]
    assert rows(url, "SELECT count(*) FROM hpo_trials") == [(2,)]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    hpo("launch", study(tmp_path, "nan"), "--storage", url, "--skip-preflight")
    trials = service.snapshot(url, "small").trials
    assert [trial.state for trial in trials] == [TrialState.FAIL]
    assert rows(url, "SELECT count(*) FROM hpo_events WHERE kind = 'preflight'") == [(0,)]


# Where it looks


def test_it_looks_at_the_first_enqueued_point_then_at_the_defaults_then_at_the_middle(tmp_path: Path) -> None:
    plan = service.check(study(tmp_path, enqueue=[{"width": 3}, {"width": 8}]))
    # lr's default of 0.5 lies outside the space: the geometric middle of 1e-4 and 1e-2
    assert preflight.first_point(plan) == {"lr": pytest.approx(1e-3), "width": 3, "batch_size": 16}
    plan = service.check(study(tmp_path))
    assert preflight.first_point(plan)["width"] == 6


def test_inline_runs_one_trial_at_a_time_whatever_the_concurrency(tmp_path: Path) -> None:
    plan = service.check(study(tmp_path, runner="ray", concurrency=4))
    assert [preflight.extent(plan, *more)["workers"] for more in [(), ("inline",), (None, 2)]] == [4, 1, 2]


@pytest.mark.slow
def test_quality_regression_passes(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    drawn, records = np.random.default_rng(0), 1000
    features = drawn.random((records, 2048), dtype=np.float32)
    table = {
        "logo_id": [f"{i:04d}" for i in range(records)],
        "features": list(features),
        "settings": list(drawn.random((records, 8), dtype=np.float32)),
        "ssim": 0.5 + 0.3 * (features[:, 0] - 0.5),
        "logo_type": [("simple", "text", "gradient", "complex")[i % 4] for i in range(records)],
    }
    pq.write_table(pa.table(table), tmp_path / "logos.parquet")
    fields = {"data": {"path": str(tmp_path / "logos.parquet")}, "budget": {"trials": 4, "epochs": 5}}
    path = study(tmp_path, objective="quality_regression", **fields)
    seen = preflight.run(service.check(path))
    assert not seen.failed
    details = {finding.check: finding.details for finding in seen.findings}
    assert details["task"]["parameters"] == 2_762_753  # the hand-picked network, by hand in the objective's own tests
    assert details["memory"]["gradients_mb"] * 2**20 == 2_762_753 * 4
