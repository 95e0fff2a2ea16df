"""The live view: one line per ended trial without a terminal, a table with one."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import pytest
from make_snapshot import make_snapshot
from rich.console import Console

from hpo.reports.live import LiveTable
from hpo.training.settings import TrainerSettings
from hpo.trial import Event, Job, StopKind, StopReason, TrialRecord, TrialState
from storage.records import Snapshot


def job(snapshot: Snapshot, trial: TrialRecord, series: str = "search") -> Job:
    study = snapshot.study
    return Job(
        study.name, series, trial.number, study.objective, trial.params, {}, TrainerSettings(), study.goals,
        study.monitor, trial.seed, 0, 20, "folder",
    )  # fmt: skip


def play(live: LiveTable, snapshot: Snapshot, trials: tuple[TrialRecord, ...], series: str = "search") -> None:
    for trial in trials:
        live.started(job(snapshot, trial, series))
        for point in trial.points:
            live.reported(trial.number, point)
        live.finished(trial)


def drawn(live: LiveTable) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(live.render())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_without_a_terminal_each_ended_trial_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = make_snapshot(1, 30)
    with LiveTable(snapshot.study.goals, 30) as live:
        play(live, snapshot, snapshot.trials)
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert told.out == ""
    assert len(lines) == 30
    for trial, line in zip(snapshot.trials, lines, strict=True):
        word = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[trial.state]
        assert line.startswith(f"trial {trial.number} {word} after ")
    best = min(t.values[0] for t in snapshot.trials if t.values)
    assert f"30/30 ended · best val_loss {best:.4g}" in lines[-1]


def test_a_console_that_is_no_terminal_gets_the_same_lines_unmarked() -> None:
    snapshot = make_snapshot(2, 2)
    nasty = StopReason(StopKind.ERROR, "[red]KeyError[/red]: [/nothing]\nTraceback ...")
    trial = replace(snapshot.trials[0], state=TrialState.FAIL, values=None, reason=nasty)
    console = Console(file=io.StringIO(), width=40)
    with LiveTable(snapshot.study.goals, None, console) as live:
        play(live, snapshot, (trial,))
    (line,) = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "[red]KeyError[/red]: [/nothing]" in line
    assert "1 ended" in line


def test_the_table_shows_running_trials_counts_best_speed_and_time_left() -> None:
    snapshot = make_snapshot(1, 12)
    now = [0.0]
    live = LiveTable(snapshot.study.goals, 12, Console(file=io.StringIO()), clock=lambda: now[0])
    first, second = snapshot.trials[0], snapshot.trials[1]
    live.started(job(snapshot, first))
    for point in first.points:
        now[0] += 0.5
        live.reported(first.number, point)
    live.finished(first)
    live.started(job(snapshot, second))
    now[0] += 0.5
    live.reported(second.number, second.points[0])
    text = drawn(live)
    assert "1/20" in text
    assert f"{second.points[0].metrics['val_loss']:.4g}" in text
    assert "1 done" in text
    assert "1 running" in text
    assert "10 queued" in text
    assert f"best val_loss {first.values[0]:.4g} (trial 0)" in text  # type: ignore[index]
    assert "2 epochs/s" in text
    # One trial has 19 of its 20 epochs to go and ten have all: 219 epochs at 2 a second.
    assert "about 1 min 50 s left" in text


def test_several_goals_show_the_size_of_the_front() -> None:
    snapshot = make_snapshot(2, 12)
    live = LiveTable(snapshot.study.goals, 12, Console(file=io.StringIO()))
    play(live, snapshot, snapshot.trials)
    assert "front " in drawn(live)


def test_an_interrupted_trial_is_queued_again() -> None:
    snapshot = make_snapshot(1, 3)
    live = LiveTable(snapshot.study.goals, 3, Console(file=io.StringIO()))
    stopped = replace(snapshot.trials[0], state=TrialState.QUEUED, values=None)
    play(live, snapshot, (stopped,))
    assert "3 queued" in drawn(live)


def test_trials_of_earlier_launches_count() -> None:
    snapshot = make_snapshot(1, 12)
    live = LiveTable(snapshot.study.goals, 12, Console(file=io.StringIO()), done=5)
    assert "7 queued" in drawn(live)
    play(live, snapshot, snapshot.trials[5:6])
    assert "of this launch" in drawn(live)
    knowing = LiveTable(snapshot.study.goals, 12, Console(file=io.StringIO()), done=5, already=snapshot.trials[:5])
    assert "7 queued" in drawn(knowing)
    assert "best val_loss 0." in drawn(knowing)


def test_confirmation_runs_are_counted_apart() -> None:
    snapshot = make_snapshot(1, 12)
    console = Console(file=io.StringIO(), width=200)
    with LiveTable(snapshot.study.goals, 12, console) as live:
        play(live, snapshot, snapshot.trials)
        play(live, snapshot, snapshot.others["confirm"][:1], "confirm")
    last = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert last.startswith("confirm trial 0 done")
    assert "1 ended" in last


def test_on_a_terminal_a_table_is_drawn_and_left_behind() -> None:
    snapshot = make_snapshot(1, 3)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveTable(snapshot.study.goals, 3, console) as live:
        play(live, snapshot, snapshot.trials)
    assert "3 done" in console.file.getvalue()  # type: ignore[attr-defined]


def warned(kind: str, **details: object) -> Event:
    return Event(kind, "told in full elsewhere", details)


def with_warnings(trial: TrialRecord) -> TrialRecord:
    """Overfitting in its second epoch, then something good, then a recovery."""
    events = (warned("health", rule="overfitting", good=False), warned("health", rule="converged", good=True))
    points = [replace(trial.points[1], events=events), replace(trial.points[2], events=(warned("recovery"),))]
    return replace(trial, points=(trial.points[0], *points), last_step=3)


def test_a_running_trial_shows_its_newest_warning_and_the_counts_all_of_them() -> None:
    snapshot = make_snapshot(1, 12)
    live = LiveTable(snapshot.study.goals, 12, Console(file=io.StringIO()))
    trial = with_warnings(snapshot.trials[0])
    live.started(job(snapshot, trial))
    live.reported(trial.number, trial.points[0])
    assert "warning" not in drawn(live)
    live.reported(trial.number, trial.points[1])
    assert "overfitting (epoch 2)" in drawn(live)
    assert "1 warning (1 overfitting)" in drawn(live)
    live.reported(trial.number, trial.points[2])
    text = drawn(live)
    assert "recovery (epoch 3)" in text
    assert "2 warnings (1 overfitting, 1 recovery)" in text
    assert "converged" not in text


def test_the_line_of_an_ended_trial_names_its_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = make_snapshot(1, 12)
    with LiveTable(snapshot.study.goals, 12) as live:
        play(live, snapshot, (with_warnings(snapshot.trials[0]), snapshot.trials[1]))
    first, second = capsys.readouterr().err.splitlines()
    assert " · warned: overfitting, recovery · 1/12 ended" in first
    assert "warned" not in second


def test_importing_the_live_view_loads_no_rich() -> None:
    code = "import sys, hpo.reports.live; sys.exit(any(m in sys.modules for m in ('rich', 'plotly', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fresh_seeds_of_the_same_trials_are_no_front_and_have_no_best(capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = make_snapshot(2, 2)
    done = replace(snapshot.trials[0], state=TrialState.COMPLETE, values=(1.0, 2.0))
    with LiveTable(snapshot.study.goals, 2) as live:
        play(live, snapshot, (done,), "confirm")
    assert capsys.readouterr().err.rstrip().endswith("1 ended")


def test_a_long_reason_is_cut_between_words_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = make_snapshot(1, 1)
    pruned = StopReason(StopKind.PRUNED, "seven77 " * 40)
    with LiveTable(snapshot.study.goals, 1) as live:
        play(live, snapshot, (replace(snapshot.trials[0], state=TrialState.PRUNED, values=None, reason=pruned),))
    assert " seven77 … · " in capsys.readouterr().err
