"""What commands print: columns, tables and sentences."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from hpo import printing, service
from hpo.export.retrain import luck
from hpo.pareto import ParetoFront
from hpo.printing import studies as printed
from hpo.printing.tables import interval_text, show
from hpo.service import Launched
from hpo.trial import Goal, StopKind, StopReason, TrialRecord, TrialState
from storage.records import EventRecord, Snapshot, StudyRecord
from tests.studies import launch

LOSS = Goal("loss")
STUDY = StudyRecord("s", "analytic", "", "", (LOSS,), LOSS, "", "2026-01-01T00:00:00+00:00")


def trial(number: int, loss: float, **fields: object) -> TrialRecord:
    record = TrialRecord(number, TrialState.COMPLETE, {}, number, values=(loss,), metrics={"loss": loss}, best_step=3)
    return replace(record, **fields)  # type: ignore[arg-type]


def test_a_parameter_named_like_a_column_gets_a_column_of_its_own() -> None:
    params = {"loss": "mse", "trial": 7, "best epoch": 9, "param.trial": 8, "lr": 0.1}
    (row,) = printing.front_rows(Snapshot(STUDY, (trial(0, 0.25, params=params),)))
    assert row == {
        "trial": 0,
        "loss": 0.25,
        "best epoch": 3,
        "param.loss": "mse",
        "param.param.trial": 7,
        "param.best epoch": 9,
        "param.trial": 8,
        "lr": 0.1,
    }


def test_a_table_shows_the_first_line_of_a_reason_and_json_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    reason = StopReason(StopKind.ERROR, "out of memory\nTraceback: here\nand there")
    failed = trial(0, 0.5, state=TrialState.FAIL, values=None, reason=reason)
    snapshot = Snapshot(STUDY, (failed,))
    printing.show_study(snapshot, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # the study, the names, the rule, the trial
    assert lines[-1].endswith("out of memory")
    printing.show_study(snapshot, as_json=True)
    assert "and there" in capsys.readouterr().out
    summary = printing.launch_summary(Launched("s", "done", snapshot), "hpo launch s.yaml")
    assert "The first: out of memory\nNext:" in summary


def sentence(promised: float, *got: float) -> str:
    runs = [trial(i, value) for i, value in enumerate(got)]
    return printed._luck(luck([trial(7, promised)], runs, dict.fromkeys(range(len(got)), 7), [LOSS]), LOSS)


def test_an_interval_without_numbers_is_none() -> None:
    assert interval_text(0.25, 2.0) == "0.25 to 2"
    assert interval_text(math.nan, math.nan) is interval_text(None, None) is None


def test_luck_is_a_share_up_to_the_whole_promise_and_a_gap_beyond() -> None:
    assert sentence(0.8, 0.9, 1.1).endswith("is 1: 25 % of it was luck.")
    assert sentence(0.001, 0.02).endswith("is 0.02: 0.019 worse.")  # and not 1.9e+03 %
    assert sentence(0.0, 0.5).endswith("is 0.5: 0.5 worse.")


def test_rounding_is_no_luck() -> None:
    assert sentence(0.3, 0.1 + 0.2).endswith("none of it was luck.")


def test_the_summary_prints_the_choice_that_the_launch_made(tmp_path: Path, sqlite_url: str) -> None:
    launched = launch(tmp_path, sqlite_url)
    assert launched.choice is not None
    assert f"Picked: trial {launched.choice.number} (f1 " in printing.launch_summary(launched, "hpo launch s.yaml")
    other = next(t.number for t in launched.snapshot.trials if t.number != launched.choice.number)
    changed = replace(launched, choice=replace(launched.choice, number=other))
    assert f"Picked: trial {other} (f1 " in printing.launch_summary(changed, "hpo launch s.yaml")
    assert "Picked" not in printing.launch_summary(replace(launched, choice=None), "hpo launch s.yaml")
    assert isinstance(launched.choice.front, ParetoFront)


def test_a_report_reads_the_study_once(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(tmp_path, sqlite_url)
    read, calls = service.snapshot, []

    def counted(storage: str, name: str) -> Snapshot:
        calls.append(name)
        return read(storage, name)

    monkeypatch.setattr("hpo.service.looking.snapshot", counted)
    monkeypatch.setattr("hpo.reports.page.write_report", lambda found, out, chosen, runs: [out / str(chosen)])
    (page,) = service.report(sqlite_url, "branin", tmp_path)
    assert page.name.isdigit()
    assert calls == ["branin"]


def test_the_trials_list_counts_the_warnings_of_each_rule_once(capsys: pytest.CaptureFixture[str]) -> None:
    def warned(number: int, rule: str, series: str = "search", **details: object) -> EventRecord:
        return EventRecord("2026-01-01T00:00:00+00:00", series, number, "health", "", {"rule": rule, **details})

    events = (
        warned(0, "overfitting"), warned(0, "unstable"), warned(0, "overfitting"), warned(0, "converged", good=True),
        warned(1, "unstable", series="retrain"), EventRecord("", "search", None, "health_flags", ""),
    )  # fmt: skip
    snapshot = Snapshot(STUDY, (trial(0, 0.5), trial(1, 0.6)), events=events)
    printing.show_study(snapshot, as_json=True)
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [row["warnings"] for row in trials] == [["overfitting", "unstable"], []]
    printing.show_study(snapshot, as_json=False)
    head, _, first, second = capsys.readouterr().out.splitlines()[1:]
    column = head.index("warnings") + len("warnings") - 1
    assert (first[column], second[column]) == ("2", "0")


def test_on_a_terminal_prose_in_the_last_column_is_wrapped_under_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"check": "time", "what": "word " * 20 + "end"}, {"check": "task", "what": "short"}]
    printing.show(rows)
    assert len(capsys.readouterr().out.splitlines()) == 4  # a pipe gets whole lines
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    printing.show(rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 60
    assert lines[3] == "       " + "word " * 10 + "end"
    assert lines[4] == "task   short"
    monkeypatch.setenv("COLUMNS", "30")  # too narrow for prose: left to the terminal
    printing.show(rows)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_sentence_counts_one_trial_and_says_failed() -> None:
    assert printed.counted([trial(0, 0.1, state=TrialState.FAIL, values=None)]) == "1 trial: 1 failed"
    assert printed.counted([trial(0, 0.1), trial(1, 0.2)]) == "2 trials: 2 complete"


def test_no_cell_of_a_table_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"model": "ours\x1b[2J\x07", "of": None}])
    assert "ours\ufffd[2J\ufffd" in capsys.readouterr().out
