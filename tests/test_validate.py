"""``hpo validate`` for real: which rows each fold is judged on, what a killed one costs, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from hpo import service
from hpo.errors import StudyFileError, UnknownName, UserError
from hpo.interrupt import Interrupt
from hpo.trial import derive_seed
from tests import studies
from tests.fold_objectives import SECRET
from tests.processes import PATIENCE_S, kill, wait_until
from tests.studies import StopAfter, rows

ROOT = Path(cli.__file__).parent
STUDY: dict[str, Any] = {
    "name": "folded",
    "objective": "tests.fold_objectives:Folded",
    "data": None,
    "goals": [{"metric": "val_mae"}],
    "budget": {"trials": 2, "epochs": 1},
    "trainer": {"batch_size": 16},
    "validation": {"folds": 4, "epochs": 2},
    "retrain": {"confirm": 0, "pick": "val_mae", "seeds": [0, 1]},
    "export": {"formats": ["safetensors"]},
}
RUNS = (
    "SELECT number, state, fold, folds, subject, epochs, attempts FROM hpo_trials "
    "WHERE series = 'validate' ORDER BY number"
)


def launch(folder: Path, url: str, **fields: Any) -> service.Launched:
    path = studies.write(folder, **{**STUDY, **fields})
    return service.launch(path, storage=url, runs=folder / f"runs-{Path(url).stem}", skip_preflight=True)


def mean_target(fold: int, folds: int) -> float:
    judged = range(fold, 60, folds)
    return sum(judged) / len(judged)


@pytest.mark.parametrize("runner", ["inline", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_every_fold_is_judged_on_its_own_rows_and_kept_with_its_number(
    tmp_path: Path, sqlite_url: str, runner: str
) -> None:
    launch(tmp_path, sqlite_url, concurrency=2)
    validated = service.validate(sqlite_url, "folded", trial=1, runner=runner, workers=2)
    assert validated is not None
    summary = validated.summary
    assert (summary.subject, summary.folds, summary.epochs, summary.is_complete) == (1, 4, 2, True)
    # Folds 0 to 3 of 60 rows are judged on targets 0, 4, ..., 56; 1, 5, ..., 57; ...: means 28, 29, 30, 31.
    assert summary.metrics["val_mean_target"].values == (28.0, 29.0, 30.0, 31.0)
    assert summary.metrics["val_mean_target"].mean == 29.5
    assert summary.metrics["val_mean_target"].std == pytest.approx((5 / 3) ** 0.5)
    assert summary.metrics["val_mae_even"].values == summary.metrics["val_mae"].values[::2]
    assert [run.final_epoch for run in summary.runs] == [2, 2, 2, 2]
    assert not [name for name in summary.metrics if name.startswith("test_")]
    assert SECRET not in [run.final["val_mean_target"] for run in summary.runs]
    found = sorted(rows(sqlite_url, RUNS), key=lambda row: row[2])
    assert [row[1:] for row in found] == [("complete", fold, 4, 1, 2, 1) for fold in range(4)]
    seeds = dict(rows(sqlite_url, "SELECT fold, seed FROM hpo_trials WHERE series = 'validate'"))
    assert seeds == {fold: derive_seed(3, 1, "fold", fold) for fold in range(4)}


def test_what_has_been_run_is_not_run_again_and_other_folds_or_epochs_are_other_runs(
    tmp_path: Path, sqlite_url: str
) -> None:
    launch(tmp_path, sqlite_url)
    first = service.validate(sqlite_url, "folded", trial=0)
    again = service.validate(sqlite_url, "folded", trial=0)
    assert first is not None and again is not None and first.summary == again.summary
    assert len(rows(sqlite_url, RUNS)) == 4
    other = service.validate(sqlite_url, "folded", trial=0, folds=2, epochs=1)
    assert other is not None
    assert other.summary.metrics["val_mean_target"].values == (mean_target(0, 2), mean_target(1, 2))
    assert len(rows(sqlite_url, RUNS)) == 6
    service.validate(sqlite_url, "folded", trial=0, epochs=1)
    assert len(rows(sqlite_url, RUNS)) == 10


def test_parameters_by_hand_stand_for_themselves(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    one = service.validate(sqlite_url, "folded", params={"lr": 0.9}, folds=2)
    assert one is not None and one.summary.subject is None and one.params == {"lr": 0.9}
    service.validate(sqlite_url, "folded", params={"lr": 0.9}, folds=2)
    assert len(rows(sqlite_url, RUNS)) == 2
    two = service.validate(sqlite_url, "folded", params={"lr": 0.002}, folds=2)
    assert two is not None and len(rows(sqlite_url, RUNS)) == 4
    assert one.summary.metrics["val_mae"].mean != two.summary.metrics["val_mae"].mean


def test_an_interrupted_validation_goes_on_as_if_it_never_stopped(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url)
    interrupt = Interrupt()
    stopped = service.validate(
        sqlite_url, "folded", trial=0, interrupt=interrupt, listeners=lambda plan, ended: [StopAfter(interrupt, 3)]
    )
    assert stopped is None
    resumed = service.validate(sqlite_url, "folded", trial=0)
    assert resumed is not None
    assert [(fold, attempts) for _, _, fold, _, _, _, attempts in rows(sqlite_url, RUNS)] == [
        (0, 1), (1, 2), (2, 1), (3, 1),
    ]  # fmt: skip
    whole_url = f"sqlite:///{tmp_path / 'whole.db'}"
    launch(tmp_path, whole_url)
    whole = service.validate(whole_url, "folded", trial=0)
    assert whole is not None
    assert [(f.best["val_mae"], f.final["val_mae"]) for f in resumed.summary.runs] == [
        (f.best["val_mae"], f.final["val_mae"]) for f in whole.summary.runs
    ]


def start(folder: Path, url: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli", "validate", "folded", "--trial", "0", "--storage", url, *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
def test_a_killed_validation_loses_no_finished_fold_and_runs_none_twice(tmp_path: Path, sqlite_url: str) -> None:
    go = tmp_path / "go"
    launch(tmp_path, sqlite_url, data={"waits_for": str(go)}, validation={"folds": 3, "epochs": 6})
    process = start(tmp_path, sqlite_url)
    reported = "SELECT count(*) FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial WHERE t.fold = 1"
    wait_until(lambda: rows(sqlite_url, reported)[0][0] >= 2, process)
    kill(process)
    go.touch()
    assert process.returncode == -signal.SIGKILL, "the validation ended before it could be killed"
    before = rows(sqlite_url, RUNS)
    assert [(row[2], row[1]) for row in before] == [(0, "complete"), (1, "running")]
    again = start(tmp_path, sqlite_url, "--json")
    out, error = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, error
    found = json.loads(out)["summary"]
    assert [run["state"] for run in found["runs"]] == ["complete"] * 3
    assert found["metrics"]["val_mean_target"]["values"] == [mean_target(fold, 3) for fold in range(3)]
    attempts = [(fold, attempts) for _, state, fold, _, _, _, attempts in rows(sqlite_url, RUNS) if state == "complete"]
    assert attempts == [(0, 1), (1, 2), (2, 1)]


def test_a_fold_that_fails_is_told_and_the_command_ends_with_1(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(tmp_path, sqlite_url, data={"fails": 2})
    with pytest.raises(SystemExit) as ended:
        cli.app(["validate", "folded", "--trial", "0", "--storage", sqlite_url], prog_name="hpo")
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "Fold 2 did not complete: " in out and "this fold cannot be judged" in out
    assert [(row[2], row[1]) for row in rows(sqlite_url, RUNS)] == [
        (0, "complete"), (1, "complete"), (2, "fail"), (3, "complete"),
    ]  # fmt: skip


def test_patience_is_the_validations_own(tmp_path: Path, sqlite_url: str) -> None:
    stopping = {"metric": "val_mean_target", "direction": "maximize", "patience": 8}  # which never changes
    launch(
        tmp_path, sqlite_url, trainer={"early_stopping": stopping}, validation={"folds": 2, "epochs": 9, "patience": 3}
    )
    validated = service.validate(sqlite_url, "folded", trial=0)
    assert validated is not None
    # The first epoch is the best of equal ones; three more without a gain end it.
    assert [(run.best_epoch, run.final_epoch) for run in validated.summary.runs] == [(1, 4), (1, 4)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"trial": 7}, UserError, "there is no 7"),
        ({"trial": 0, "folds": 1}, UserError, "at least 2 folds; got 1"),
        ({"trial": 0, "params": {"lr": 0.1}}, UserError, "leave --trial and --pick out"),
        ({"params": {"lrr": 0.1}}, UnknownName, "lrr.*lr"),
        ({"params": {"lr": -1.0}}, UserError, "--params: lr should be greater than 0; got -1.0"),
    ],
)
def test_what_cannot_be_validated_is_told_before_anything_runs(
    tmp_path: Path, sqlite_url: str, options: dict[str, Any], error: type[UserError], message: str
) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 1, "epochs": 1})
    launches = rows(sqlite_url, "SELECT count(*) FROM hpo_launches")
    with pytest.raises(error, match=message):
        service.validate(sqlite_url, "folded", **options)
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_launches") == launches


def test_an_objective_without_folds_says_what_it_would_take(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, objective="tests.fold_objectives:Unfolded", budget={"trials": 1, "epochs": 1})
    with pytest.raises(UserError, match=r"knows no folds.*job\.fold.*folds = True"):
        service.validate(sqlite_url, "folded", trial=0)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"metric": "maee", "at_most": 1}, r"gates\[0\]: .*maee.*mae"),
        ({"metric": "mae_even", "over": "groups", "at_most": 1}, r"gates\[0\]: .*mae_even"),
        ({"metric": "minutes", "over": "run", "at_most": 1}, r"gates\[0\]: .*minutes.*training_minutes"),
        ({"metric": "mb", "over": "export", "at_most": 1}, r"gates\[0\]: .*mb.*file_mb"),
        ({"metric": "mae", "at_most": 1, "at_least": 1}, "either at_least or at_most"),
    ],
)
def test_a_gate_that_could_never_be_measured_is_told_at_check(
    tmp_path: Path, gate: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyFileError, match=message):
        service.check(studies.write(tmp_path, **{**STUDY, "gates": [gate]}))


def test_gates_over_what_an_objective_does_not_have_are_told_at_check(tmp_path: Path) -> None:
    folds = {"metric": "mae", "over": "folds", "at_most": 1}
    with pytest.raises(StudyFileError, match="knows no folds"):
        service.check(
            studies.write(tmp_path, **{**STUDY, "objective": "tests.fold_objectives:Unfolded", "gates": [folds]})
        )
    for gate, message in (
        ({"metric": "f1", "over": "groups", "at_most": 1}, "no metrics of groups"),
        ({"metric": "file_mb", "over": "export", "at_most": 1}, "nothing of it is exported"),
    ):
        with pytest.raises(StudyFileError, match=message):
            service.check(studies.write(tmp_path, gates=[gate]))
    with pytest.raises(StudyFileError, match="baseline.*none.*zero"):
        service.check(studies.write(tmp_path, **{**STUDY, "baselines": ["none"]}))


GATES = [
    {"metric": "mae", "at_most": 1000, "name": "good enough"},
    {"metric": "mae", "over": "groups", "at_most": 1000},
    {"metric": "mae", "over": "folds", "at_most": 1000, "statistic": "max"},
    {"metric": "training_minutes", "over": "run", "at_most": 30},
    {"metric": "file_mb", "over": "export", "at_most": 100},
]


def test_a_model_is_released_when_every_gate_is_measured_and_met(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpo import printing
    from hpo.export.manifest import Check

    # Loading formats back takes seconds and is tested elsewhere.
    monkeypatch.setattr("hpo.export.release.check_apart", lambda *args, **options: Check())
    monkeypatch.setattr("hpo.export.verify.check_apart", lambda *args, **options: Check())
    launch(tmp_path, sqlite_url, gates=GATES)
    retrained = service.retrain(sqlite_url, "folded", trial=0)
    assert retrained is not None
    assert [verdict.met for verdict in retrained.verdicts] == [True, True, None, True, None]
    assert retrained.verdicts[0].value == retrained.shipped.metrics["test_mae"]
    assert "hpo validate folded --trial 0" in retrained.verdicts[2].why
    assert {gain.baseline: gain.reference for gain in retrained.gains["test"]["mae"]} == {"zero": 1.0, "middle": 31.0}
    printing.show_retrained(retrained, as_json=False)
    told = capsys.readouterr().out
    assert "good enough: mae ≤ 1000" in told and "not measured" in told and " better" in told

    # Every test target is odd (-1), so there is no even row to judge; of a rare one there is none anywhere.
    assert retrained.verdicts[1].why == "worst group: odd; too small to judge: even, rare"
    bundle = service.export(sqlite_url, "folded", tmp_path / "one")
    assert not bundle.manifest.released
    assert "NOT RELEASED: 1 of 5" in (bundle.folder / "README.md").read_text().split("## ")[0]

    service.validate(sqlite_url, "folded", trial=0, folds=2)  # softer than the study file says
    bundle = service.export(sqlite_url, "folded", tmp_path / "two")
    assert [gate.met for gate in bundle.manifest.gates] == [True, True, None, True, True]
    service.validate(sqlite_url, "folded", trial=0)
    bundle = service.export(sqlite_url, "folded", tmp_path / "three")
    assert bundle.manifest.released and all(gate.met for gate in bundle.manifest.gates)
    assert "Released: every gate is met." in (bundle.folder / "README.md").read_text().split("## ")[0]
    assert "Released: every gate is met." in service.verify(bundle.folder).lines


def test_baselines_are_remembered_by_part_and_computed_again_for_new_names(tmp_path: Path, sqlite_url: str) -> None:
    events = "SELECT count(*) FROM hpo_events WHERE kind = 'baselines'"
    launch(tmp_path, sqlite_url, baselines=["zero"])
    assert rows(sqlite_url, events) == [(1,)]  # on the validation part, at the end of the launch
    first = service.retrain(sqlite_url, "folded", trial=0)
    assert first is not None and list(first.baselines) == ["zero"]
    assert rows(sqlite_url, events) == [(2,)]
    again = service.retrain(sqlite_url, "folded", trial=0)
    assert again is not None and again.baselines == first.baselines
    assert rows(sqlite_url, events) == [(2,)]
    launch(tmp_path, sqlite_url)
    more = service.retrain(sqlite_url, "folded", trial=0)
    assert more is not None and list(more.baselines) == ["zero", "middle"]
    assert rows(sqlite_url, events) == [(4,)]


def test_the_shipped_models_test_figures_come_with_intervals_that_are_computed_once(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpo import printing
    from hpo.export.manifest import Check

    monkeypatch.setattr("hpo.export.release.check_apart", lambda *args, **options: Check())
    launch(tmp_path, sqlite_url)
    first = service.retrain(sqlite_url, "folded", trial=0)
    assert first is not None
    mae = first.intervals["test_mae"]
    assert mae.low < first.shipped.metrics["test_mae"] < mae.high and mae.level == 0.95
    # Every target is the same, so every resample's mean target is, too.
    assert (first.intervals["test_mean_target"].low, first.intervals["test_mean_target"].high) == (SECRET, SECRET)
    again = service.retrain(sqlite_url, "folded", trial=0)
    assert again is not None and again.intervals == first.intervals
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_events WHERE kind = 'intervals'") == [(1,)]
    printing.show_retrained(again, as_json=False)
    assert f"{mae.low:.4g} to {mae.high:.4g}" in capsys.readouterr().out
    assert service.export(sqlite_url, "folded", tmp_path / "b").metrics["intervals"]["test_mae"]["low"] == mae.low
