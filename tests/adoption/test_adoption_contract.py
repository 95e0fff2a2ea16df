"""What holds for training code of one's own, whoever runs it: a function, Lightning, the Trainer of transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import UserError
from hpo.trial import Goal, Outcome, StopKind, TrialState
from tests.adoption.trial_kit import PRUNED, Line, run_found
from tests.processes import hpo
from tests.studies import launch, write

ROOT = Path(__file__).parents[2]
RANGE = {"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}}


@dataclass(frozen=True)
class Brought:
    """``is_function``: its loop is its own, so nobody looks into it between reports or before its checkpoints."""

    objective: str
    metric: str
    is_function: bool = False

    def run(self, folder: Path, line: Line, lr: float = 0.01, **fields: Any) -> Outcome:
        goal = Goal(self.metric)
        return run_found(self.objective, folder, {"lr": lr}, line, beside=ROOT, goal=goal, **fields)

    def study(self, **fields: Any) -> dict[str, Any]:
        """A study file that says everything, so that it fits a function as it does the others."""
        return {
            "objective": self.objective,
            "data": None,
            "goals": [{"metric": self.metric, "direction": "minimize"}],
            "search_space": RANGE,
            "pruner": {"name": "median", "startup_trials": 2},
            "budget": {"trials": 5, "epochs": 4},
            "artifacts": {"pictures": False},
            "retrain": {"confirm": 0, "pick": self.metric},
            **fields,
        }


BROUGHT = {
    "function": Brought("tests.adoption.brought_function:train", "val_loss", is_function=True),
    "lightning": Brought("tests.adoption.brought_lightning:Tuned", "val_loss"),
    "trainer": Brought("tests.adoption.brought_trainer:Tuned", "eval_loss"),
}
SLOW = {"lightning", "trainer"}  # to import


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BROUGHT])
def brought(request: pytest.FixtureRequest) -> Brought:
    return BROUGHT[request.param]


def test_every_epoch_is_told_and_the_same_seed_tells_the_same(brought: Brought, tmp_path: Path) -> None:
    lines = [Line(), Line(), Line()]
    for line, seed in zip(lines, (7, 7, 8), strict=True):
        outcome = brought.run(tmp_path / str(id(line)), line, seed=seed)
        assert (outcome.reason.kind, outcome.reason.message) == (StopKind.FINISHED, "ran all 4 epochs")
    first, again, other = (line.told for line in lines)
    assert [step for step, _ in first] == [1, 2, 3, 4]
    assert all(brought.metric in metrics for _, metrics in first)
    assert first[3][1][brought.metric] < first[0][1][brought.metric]
    assert again == first != other


def test_one_that_goes_on_ends_as_one_that_was_never_stopped(brought: Brought, tmp_path: Path) -> None:
    whole, before, after = Line(), Line(prune_at=2), Line()
    brought.run(tmp_path / "whole", whole)
    assert brought.run(tmp_path / "parts", before).reason == PRUNED
    brought.run(tmp_path / "parts", after, resume=True, reported=2)
    assert after.told[0][0] == 2  # again: nobody knows whether it was heard
    assert before.told[:1] + after.told == whole.told


def test_a_wish_to_stop_is_heard_between_batches(brought: Brought, tmp_path: Path) -> None:
    if brought.is_function:
        pytest.skip("a function hears it at its next report")
    whole, before, after = Line(), Line(), Line()
    brought.run(tmp_path / "whole", whole)
    looks = iter([False] * 15 + [True] * 100)  # six batches an epoch: within the third
    outcome = brought.run(tmp_path / "parts", before, stop_requested=lambda: next(looks))
    assert outcome.reason.kind is StopKind.INTERRUPTED
    assert [step for step, _ in before.told] == [1, 2]
    brought.run(tmp_path / "parts", after, resume=True, reported=2)
    assert before.told[:1] + after.told == whole.told


def test_an_epoch_that_was_kept_but_never_heard_of_is_told_again(brought: Brought, tmp_path: Path) -> None:
    if brought.is_function:
        pytest.skip("this one tells first and keeps then")
    whole, before, after = Line(), Line(), Line()
    brought.run(tmp_path / "whole", whole)
    brought.run(tmp_path / "parts", before)
    brought.run(tmp_path / "parts", after, resume=True, reported=3)
    assert after.told == whole.told[3:]


def test_an_error_is_the_reason_of_its_trial(brought: Brought, tmp_path: Path) -> None:
    reason = brought.run(tmp_path, Line(), lr=-1.0).reason
    assert reason.kind is StopKind.ERROR
    assert reason.message.startswith("ValueError: a negative learning rate")


def test_it_leaves_nothing_behind_but_its_folder(
    brought: Brought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    brought.run(tmp_path / "warm", Line(), epochs=1)  # libraries set a thing or two when they are imported
    environment = dict(os.environ)
    capfd.readouterr()
    brought.run(tmp_path / "trial", Line())
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == environment
    assert not list((tmp_path / "here").iterdir())


def test_a_study_of_it_prunes_reports_and_retrains(brought: Brought, tmp_path: Path, sqlite_url: str) -> None:
    launched = launch(tmp_path, sqlite_url, **brought.study(retrain={"confirm": 0, "seeds": [1, 2]}))
    ends = {trial.reason.kind for trial in launched.snapshot.trials if trial.reason}
    assert ends == {StopKind.FINISHED, StopKind.PRUNED}
    assert launched.choice is not None
    page, *_ = service.report(sqlite_url, "branin", tmp_path / "report")
    assert page.is_file()
    retrained = service.retrain(sqlite_url, "branin")
    assert retrained is not None and len(retrained.runs) == 2
    with pytest.raises(UserError, match="trains with its own code"):
        service.export(sqlite_url, "branin", tmp_path / "bundle")


# A command that waits to be killed when its fifth epoch has been heard: as late as it likes to be.
HELD = """
import sys, time
from hpo.trial import TrialContext

report, heard = TrialContext.report, []

def held(self, step, **metrics):
    report(self, step, **metrics)
    heard.append(step)
    if len(heard) == 5:
        print("held", file=sys.__stdout__, flush=True)
        time.sleep(600)

TrialContext.report = held
import cli
cli.main()
"""


@pytest.mark.slow
def test_killed_and_launched_again_it_ends_as_one_that_never_was(
    brought: Brought, tmp_path: Path, sqlite_url: str
) -> None:
    study = brought.study(budget={"trials": 2, "epochs": 8}, pruner=None)
    whole = launch(tmp_path, f"sqlite:///{tmp_path / 'whole.db'}", **study)
    folder = tmp_path / "killed"
    folder.mkdir()
    write(folder, **study)
    words = ["launch", "branin.yaml", "--storage", sqlite_url, "--skip-preflight"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPO_RUNS": str(folder / "runs")}
    with subprocess.Popen(
        [sys.executable, "-c", HELD, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    assert hpo(folder, "launch", "branin.yaml", "--storage", sqlite_url).returncode == 0
    trials = service.snapshot(sqlite_url, "branin").trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 2
    assert sum(t.attempts for t in trials) == 3
    assert [[p.metrics for p in t.points] for t in trials] == [
        [p.metrics for p in t.points] for t in whole.snapshot.trials
    ]


@pytest.mark.slow
@pytest.mark.ray
def test_it_runs_on_ray_as_it_does_here(brought: Brought, tmp_path: Path, sqlite_url: str) -> None:
    study = brought.study(deterministic=True, concurrency=2, budget={"trials": 3, "epochs": 3})
    here = launch(tmp_path, sqlite_url, **study)
    there = launch(tmp_path, f"sqlite:///{tmp_path / 'ray.db'}", runner="ray", workers=2, **study)
    assert [[p.metrics for p in t.points] for t in here.snapshot.trials] == [
        [p.metrics for p in t.points] for t in there.snapshot.trials
    ]
