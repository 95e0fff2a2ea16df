"""`hpo train`: one run, recorded like a study of one trial; resumed, tried out, and refused where it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import cli
from hpo import service
from hpo.errors import UserError
from hpo.interrupt import Interrupt
from hpo.oneoff import default_point, study_text
from hpo.service import Trained, TrainOrder
from hpo.spec import StudySpec
from hpo.training.checkpoints import read
from hpo.trial import TrialState
from objectives import registry
from tests.processes import wait_until
from tests.studies import StopAfter, rows

LINE = "tests.run_objectives:Line"


class Kit:
    """Runs in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder / 'hpo.db'}"
        self.runs = folder / "runs"

    def train(self, name: str, stop_after: int | None = None, **order: Any) -> Trained:
        interrupt = Interrupt()
        watcher = StopAfter(interrupt, stop_after or 10**9)
        order = {"objective": LINE, "epochs": 5, **order}
        return service.train(
            TrainOrder(name=name, **order),
            storage=self.url,
            runs=self.runs,
            interrupt=interrupt,
            listeners=lambda plan, ended: [watcher],
            skip_preflight=True,  # a process of its own each time; it has tests of its own
        )

    def file(self, name: str, file: str = "last.pt") -> Path:
        return self.runs / name / "search-00000" / file

    def command(self, *words: str) -> Any:
        where = ("--storage", self.url, "--runs", str(self.runs))
        return CliRunner().invoke(cli.app, [*words, *where])

    def is_empty(self) -> bool:
        return not self.runs.exists() and not (self.folder / "hpo.db").exists()


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


def same_weights(one: Path, other: Path) -> bool:
    a, b = read(one)["model"], read(other)["model"]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_is_a_study_of_one_trial_that_other_commands_read(kit: Kit) -> None:
    done = kit.command("train", LINE, "--set", "lr=1e-2", "--set", "grad_clip=0.5", "--epochs", "3", "--name", "one")
    assert done.exit_code == 0, done.output
    assert "Run one: all 3 epochs done." in done.stdout
    assert "dropout=0.25: the middle of each range" in done.stdout
    assert str(kit.file("one").parent) in done.stdout
    shown = json.loads(CliRunner().invoke(cli.app, ["show", "one", "--json", "--storage", kit.url]).stdout)
    assert [(t["state"], t["epochs"]) for t in shown["trials"]] == [("complete", 3)]
    assert shown["trials"][0]["params"] == {"lr": 0.01, "width": 8, "dropout": 0.25}
    spec = StudySpec.parse(rows(kit.url, "SELECT spec_yaml FROM hpo_studies")[0][0])
    assert (spec.trainer.grad_clip, spec.budget.trials, spec.retrain.confirm) == (0.5, 1, 0)
    assert read(kit.file("one"))["settings"]["grad_clip"] == 0.5


@pytest.mark.slow
def test_json_tells_the_same(kit: Kit) -> None:
    done = kit.command("train", LINE, "--epochs", "2", "--name", "one", "--json")
    told = json.loads(done.stdout)
    assert (told["study"], told["state"], told["epochs"], told["assumed"]) == ("one", "complete", 2, ["dropout"])
    assert told["values"]["val_loss"] == pytest.approx(min(h["val_loss"] for h in read(kit.file("one"))["history"]))


def test_a_resumed_run_has_the_weights_of_an_unbroken_one_bit_for_bit(kit: Kit) -> None:
    whole = kit.train("whole", seed=3)
    kit.train("half", seed=3, stop_after=2)
    assert read(kit.file("half"))["epoch"] == 2
    rest = kit.train("rest", objective=None, resume=kit.file("half"))
    assert same_weights(kit.file("whole"), kit.file("rest"))
    assert same_weights(kit.file("whole", "best.pt"), kit.file("rest", "best.pt"))
    assert whole.trial is not None and rest.trial is not None
    assert (rest.trial.state, rest.trial.values) == (TrialState.COMPLETE, whole.trial.values)
    assert [p.metrics["val_loss"] for p in rest.trial.points] == [p.metrics["val_loss"] for p in whole.trial.points]
    assert "half search 0 at epoch 2" in rows(kit.url, "SELECT message FROM hpo_events WHERE kind = 'taken_up'")[0][0]


def test_the_same_command_goes_on_after_an_interrupt(kit: Kit) -> None:
    whole = kit.train("whole")
    assert kit.train("broken", stop_after=2).how == "interrupted"
    done = kit.train("broken")
    assert done.how == "done" and done.trial is not None and whole.trial is not None
    assert (done.trial.attempts, done.trial.values) == (2, whole.trial.values)
    assert same_weights(kit.file("whole"), kit.file("broken"))


@pytest.mark.slow
def test_a_resumed_run_that_is_interrupted_goes_on_with_its_own_checkpoint(kit: Kit) -> None:
    kit.train("whole")
    kit.train("half", stop_after=2)
    kit.train("rest", resume=kit.file("half"), stop_after=4)
    kit.train("rest", resume=kit.file("half"))
    assert same_weights(kit.file("whole"), kit.file("rest"))
    assert len(rows(kit.url, "SELECT * FROM hpo_events WHERE kind = 'taken_up'")) == 1


def test_a_name_of_another_run_is_refused(kit: Kit) -> None:
    kit.train("one", epochs=2)
    with pytest.raises(UserError, match=r"another description.*\n.*seed: was 0, is 4"):
        kit.train("one", epochs=2, seed=4)


def test_a_finished_run_goes_further_in_a_new_study(kit: Kit) -> None:
    kit.train("short", epochs=2)
    longer = kit.train("longer", epochs=4, resume=kit.file("short"), params={"lr": 1e-4})
    assert longer.trial is not None
    assert (longer.trial.last_step, longer.trial.params["lr"]) == (4, 1e-4)
    # Only the learning rate of the new epochs is the new one.
    assert [round(p.metrics["lr"], 6) for p in longer.trial.points] == [0.01, 0.01, 1e-4, 1e-4]


def test_the_best_epoch_before_the_checkpoint_counts_where_its_weights_lie_beside_it(kit: Kit) -> None:
    kit.train("first", epochs=3, data={"sign": -1})
    assert read(kit.file("first", "best.pt"))["epoch"] == 1
    longer = kit.train("longer", epochs=5, resume=kit.file("first"))
    assert longer.trial is not None and longer.trial.best_step == 1
    assert same_weights(kit.file("first", "best.pt"), kit.file("longer", "best.pt"))


def test_the_best_epoch_counts_anew_where_its_weights_are_gone(kit: Kit, tmp_path: Path) -> None:
    kit.train("first", epochs=3, data={"sign": -1})
    moved = tmp_path / "alone.pt"
    kit.file("first").rename(moved)
    longer = kit.train("longer", epochs=5, resume=moved)
    assert longer.trial is not None and longer.trial.best_step == 3
    assert [point.metrics for point in longer.trial.points][:2] == [{}, {}]
    assert "do not lie beside alone.pt" in rows(kit.url, "SELECT message FROM hpo_events WHERE kind = 'taken_up'")[0][0]


def test_a_smoke_run_is_one_epoch_on_a_few_batches(kit: Kit) -> None:
    done = kit.command("train", LINE, "--smoke", "--set", "batch_size=2")
    assert done.exit_code == 0, done.output
    (name,) = [row[0] for row in rows(kit.url, "SELECT name FROM hpo_studies")]
    assert name.startswith("smoke-Line-")
    state = read(kit.file(name))
    assert (state["epoch"], state["settings"]["limit_batches"]) == (1, 4)
    # 48 samples in batches of 2 would be 24 updates.
    assert {int(s["step"]) for s in state["optimizer"]["state"].values()} == {4}


def test_an_objective_without_the_shared_trainer_trains_too(kit: Kit) -> None:
    done = kit.command("train", "analytic", "--epochs", "2", "--set", "x0=1.5", "--name", "sphere")
    assert done.exit_code == 0, done.output
    assert rows(kit.url, "SELECT count(*) FROM hpo_trials")[0] == (1,)
    assert "f1 2.25" in done.stdout  # 1.5² and zeros


def test_a_failing_run_exits_with_1(kit: Kit) -> None:
    kit.train("one", epochs=2)
    done = kit.command("train", "--resume", str(kit.file("one")), "--epochs", "4", "--set", "width=4", "--name", "two")
    assert done.exit_code == 1
    assert "is a checkpoint of another model" in done.stdout
    assert "0.weight (8, 3) for (4, 3)" in done.stdout


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"objective": "tests.run_objectives:Nobody"}, "Unknown objective or function"),
        ({"objective": None}, "Say what to train"),
        ({"params": {"with": 3}}, r"Unknown parameter or trainer setting 'with'.*Did you mean 'width'"),
        ({"params": {"grad_clip": -1}}, "grad_clip: should be greater than 0; got -1"),
        ({"params": {"width": [1, 2]}}, "a choice is text, a number"),
        ({"objective": "analytic", "params": {"batch_size": 2}}, "Unknown parameter or trainer setting 'batch_size'"),
        ({"objective": "analytic", "devices": 2}, "does not train with the shared trainer"),
        ({"objective": "analytic", "data": {"function": "nobody"}}, "Unknown function 'nobody'|function"),
        ({"accelerator": "tpu"}, "Unknown accelerator 'tpu'"),
        ({"devices": 1000}, "--devices: at most"),
        ({"runner": "slurm"}, "runner"),
        ({"name": "a/b"}, "a study's name is also a folder's"),
        ({"resume": Path("nowhere.pt")}, "There is no checkpoint nowhere.pt"),
        ({"resume": Path("tests")}, "tests is a folder; give a checkpoint in it"),
        ({"resume": Path("README.md")}, "README.md is no intact checkpoint"),
    ],
)
def test_a_wrong_order_is_told_and_nothing_is_written(kit: Kit, order: dict[str, Any], message: str) -> None:
    name = order.pop("name", "one")
    with pytest.raises(UserError, match=message):
        kit.train(name, **order)
    assert kit.is_empty()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_written(kit: Kit) -> None:
    done = kit.command("train", LINE, "--accelerator", "gpu")
    assert isinstance(done.exception, UserError) and "torch sees no GPU here" in str(done.exception)
    assert kit.is_empty()


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"epochs": 3}, "has 3 epochs behind it; --epochs must be above that, got 3"),
        ({"epochs": None}, "has 3 epochs behind it; --epochs must be above that, got 3"),
        ({"objective": "tests.run_objectives:Other"}, "is a checkpoint of tests.run_objectives:Line, not of"),
        ({"seed": 8}, "would split the data anew"),
        ({"epochs": 4, "params": {"early_stopping": {"metric": "val_r_text"}}}, "Unknown metric 'val_r_text'"),
        ({"file": "best.pt"}, "holds weights without what training needs to go on"),
        ({"cut": 1000}, "is no intact checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told_and_nothing_is_written(
    tmp_path: Path, order: dict[str, Any], message: str
) -> None:
    first = Kit(tmp_path / "first")
    first.folder.mkdir()
    first.train("one", epochs=3)
    path = first.file("one", order.pop("file", "last.pt"))
    if cut := order.pop("cut", None):
        path.write_bytes(path.read_bytes()[:-cut])
    kit = Kit(tmp_path)
    with pytest.raises(UserError, match=message):
        kit.train("two", resume=path, **order)
    assert kit.is_empty()


@pytest.mark.slow
def test_the_same_command_goes_on_after_kill_9(kit: Kit) -> None:
    data = {"sign": 1, "waits_for": str(kit.folder / "go")}
    words = ["train", LINE, "--epochs", "10", "--name", "killed", "--storage", kit.url, "--runs", str(kit.runs)]
    words += ["--skip-preflight", *(word for name, value in data.items() for word in ("--data", f"{name}={value}"))]
    with subprocess.Popen([sys.executable, "-m", "cli", *words], stdout=subprocess.DEVNULL, text=True) as process:
        wait_until(kit.file("killed").exists, process)
        process.kill()
    assert rows(kit.url, "SELECT state FROM hpo_trials") == [("running",)]
    (kit.folder / "go").touch()
    kit.train("whole", epochs=10, data=data)
    done = kit.train("killed", epochs=10, data=data)
    assert done.trial is not None and done.trial.attempts == 2
    assert same_weights(kit.file("whole"), kit.file("killed"))


def test_the_study_file_says_what_was_meant() -> None:
    objective = registry.find("quality_regression")
    given = {"lr": 1e-5, "warmup_steps": 10, "early_stopping": None, "squash": True, "activation": "no"}
    point = default_point(objective, {}, given)
    text = study_text("x", "quality_regression", point, data={"path": "a: b # c"}, epochs=2, seed=7, gpus=2)
    spec = StudySpec.parse(text)
    assert isinstance(spec.search_space, dict)
    assert {name: entry["choices"] for name, entry in spec.search_space.items()} == {
        name: [value] for name, value in {**objective.default_params, "lr": 1e-5, "squash": True}.items()
    } | {"activation": ["no"]}
    assert spec.data == {"path": "a: b # c"}
    # The objective's own three warm-up epochs give way.
    assert spec.trainer.model_dump(include=spec.trainer.model_fields_set) == {
        "warmup_epochs": None,
        "warmup_steps": 10,
        "early_stopping": None,
    }
    assert (spec.budget.epochs, spec.seed, spec.resources.gpus) == (2, 7, 2)
