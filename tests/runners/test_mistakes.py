"""What people's objectives do wrong, and what a failing database does, on every runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.errors import StorageError, StorageLost
from hpo.trial import StopReason, TrialState
from storage.trials import TrialStore
from tests.studies import launch, rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

HEAD = """
import os, sys, time
import numpy as np
from hpo.trial import Outcome, StopKind, StopReason
from objectives.analytic import Analytic
DONE = StopReason(StopKind.FINISHED, 'done')
class Mute(Exception):
    def __str__(self): raise RuntimeError('no words')
class Wrong(Analytic):
    def run(self, job, context):
"""
MISTAKES = {
    "returns None": ("context.report(1, f1=1.0)", "run() must return an Outcome; it returned None"),
    "leaves the process": ("sys.exit(3)", "SystemExit: 3"),
    "speaks no UTF-8": ("raise FileNotFoundError('\\udcff.png')", r"FileNotFoundError: \udcff.png"),
    "speaks NUL": ("raise ValueError('a\\x00b')", "ValueError: a"),
    "reports step 0": ("context.report(0, f1=1.0)", "A step is a whole number"),
    "reports backwards": ("context.report(2, f1=1.0); context.report(1, f1=1.0)", "larger than the one before (2)"),
    "reports a word": ("context.report('x', f1=1.0)", "got 'x'"),
    "reports no number": ("context.report(1, f1='good')", "could not convert string to float"),
    "never reports": ("return Outcome(StopReason(StopKind.FINISHED, 'done'))", "f1 was never reported"),
    "reports NaN": (
        "context.report(1, f1=float('nan')); return Outcome(StopReason(StopKind.FINISHED, ''))",
        "f1 was nan",
    ),
    "raises in a circle": ("error = ValueError('round'); raise error from error", "ValueError: round"),
    "raises what has no text": ("raise Mute()", "Mute: its text could not be made (RuntimeError)"),
    "measures a word": ("return Outcome(DONE, {'f1': 'good'})", "'f1' of an Outcome must be a number; got 'good'"),
    "measures nothing": ("return Outcome(DONE, {'f1': None})", "Metric 'f1' of an Outcome must be a number; got None"),
    "has no metrics": ("return Outcome(DONE, None)", "its metrics by name"),
    "gives no reason": ("return Outcome('done', {'f1': 1.0})", "needs a StopReason"),
    "goes on for ever": ("return Outcome(StopReason(StopKind.RETRY, 'x'), {'f1': 1.0})", "kind that is an end"),
    "explains with an object": ("return Outcome(StopReason(StopKind.FINISHED, '', {'a': object()}))", "JSON values"),
    "tells an object": ("context.event('odd', 'holds one', it=object())", "event 'odd' must be JSON values"),
    "tells too long a kind": ("context.event('k' * 51, 'x')", "a word of at most 50 characters"),
    "returns no events": ("return Outcome(DONE, {'f1': 1.0}, ['oops'])", "and Events; got"),
}


def test_a_mistake_fails_its_trial_alone_and_says_what_it_was(tmp_path: Path, sqlite_url: str, runner: str) -> None:
    """Every second trial makes a mistake, each another one."""
    module = f"wrong_{runner}"
    wrong = "".join(
        f"        if job.number == {2 * i + 1}:\n            {code}\n" for i, (code, _) in enumerate(MISTAKES.values())
    )
    right = "        if job.number % 2 == 0:\n            return super().run(job, context)\n"
    (tmp_path / f"{module}.py").write_text(HEAD + wrong + right)
    fields = {"objective": f"{module}:Wrong", "budget": {"trials": 2 * len(MISTAKES) + 1, "epochs": 2}}
    trials = launch(tmp_path, sqlite_url, runner=runner, **fields).snapshot.trials
    assert {t.state for t in trials[::2]} == {TrialState.COMPLETE}
    assert len(trials[1::2]) == len(MISTAKES)
    for trial, (mistake, (_, message)) in zip(trials[1::2], MISTAKES.items(), strict=True):
        assert trial.state is TrialState.FAIL, mistake
        assert isinstance(trial.reason, StopReason)
        assert message in trial.reason.message, mistake


def test_numbers_and_paths_of_other_libraries_are_taken(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "numpys.py").write_text(
        HEAD
        + "        from pathlib import Path\n"
        + "        context.event('odd', ValueError('no text'), share=np.float32(0.5), seen=np.int64(3))\n"
        + "        context.checkpoint_saved(Path('model.pt'))\n"
        + "        context.report(np.int64(1), f1=np.float32(0.25))\n"
        + "        return Outcome(DONE, {'f1': np.float32(0.5)})\n"
    )
    fields = {"objective": "numpys:Wrong", "budget": {"trials": 1, "epochs": 1}}
    found = launch(tmp_path, sqlite_url, runner="inline", **fields).snapshot
    assert found.trials[0].metrics == {"f1": 0.5}
    assert found.trials[0].points[0].checkpoint == "model.pt"
    told = next(event for event in found.events if event.kind == "odd")
    assert (told.message, told.details) == ("no text", {"share": 0.5, "seen": 3})


def test_an_objective_that_takes_its_job_to_pieces_gets_a_whole_one_again(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "piecewise.py").write_text(
        HEAD
        + "        x0, data = job.params.pop('x0'), dict(job.data)\n"
        + "        job.data.clear()\n"
        + "        if job.attempt == 1:\n"
        + "            raise ValueError('once more')\n"
        + "        job.params['x0'] = x0\n"
        + "        job.data.update(data)\n"
        + "        return super().run(job, context)\n"
    )
    fields = {"objective": "piecewise:Wrong", "budget": {"trials": 2, "epochs": 1}, "limits": {"failures": 1}}
    trials = launch(tmp_path, sqlite_url, runner="inline", **fields).snapshot.trials
    assert [(trial.state, trial.attempts) for trial in trials] == [(TrialState.COMPLETE, 2)] * 2


def test_what_is_told_before_a_stop_is_kept(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "stopped.py").write_text(
        "from hpo.trial import StopKind, StopReason, TrialStopped\n"
        + HEAD
        + "        context.report(1, f1=1.0)\n"
        + "        context.event('recovery', 'went back')\n"
        + "        raise TrialStopped(StopReason(StopKind.PRUNED, 'by itself'))\n"
    )
    fields = {"objective": "stopped:Wrong", "budget": {"trials": 1, "epochs": 2}}
    found = launch(tmp_path, sqlite_url, runner="inline", **fields).snapshot
    assert found.trials[0].state is TrialState.PRUNED
    assert "recovery" in [event.kind for event in found.events]


@pytest.mark.parametrize(
    "verb", ["add_point", *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("start", "finish"))]
)
def test_a_database_that_fails_ends_the_launch_and_no_trial_is_blamed(
    tmp_path: Path, sqlite_url: str, runner: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = getattr(TrialStore, verb), []

    def failing(self: TrialStore, *args: Any, **kwargs: Any) -> Any:
        calls.append(verb)
        if len(calls) == 2:
            raise StorageError("the database went away.")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(TrialStore, verb, failing)
    fields = {"runner": runner, "budget": {"trials": 4, "epochs": 3}}
    with pytest.raises(StorageLost, match="went away"):
        launch(tmp_path, sqlite_url, **fields)
    monkeypatch.undo()
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_trials WHERE state = 'fail'") == [(0,)]
    trials = launch(tmp_path, sqlite_url, **fields).snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4


def test_what_an_objective_prints_is_not_the_commands_output(
    tmp_path: Path, sqlite_url: str, runner: str, capfd: pytest.CaptureFixture[str]
) -> None:
    module = f"loud_{runner}"
    (tmp_path / f"{module}.py").write_text(HEAD + "        print('hello')\n        return super().run(job, context)\n")
    launch(tmp_path, sqlite_url, runner=runner, objective=f"{module}:Wrong", budget={"trials": 2, "epochs": 1})
    assert capfd.readouterr().out == ""


def test_a_study_in_which_everything_fails_stops_starting_trials(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "always.py").write_text(
        "from objectives.analytic import Analytic\n"
        "class Always(Analytic):\n"
        "    def run(self, job, context):\n"
        "        raise RuntimeError('no')\n"
    )
    launched = launch(tmp_path, sqlite_url, objective="always:Always", budget={"timeout": 60, "epochs": 1})
    assert len(launched.snapshot.trials) == 10
    assert launched.all_failed
