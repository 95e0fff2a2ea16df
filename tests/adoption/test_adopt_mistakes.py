"""What is wrong with adopted code is one message, before a trial begins wherever that can be."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
import hpo
from hpo import resolve
from hpo.errors import DataError, StudyFileError, TrialFailed, UserError
from hpo.spec import StudySpec
from hpo.trial import Direction, Goal
from tests.adoption.trial_kit import Line, make_job, run_here

NUMBERS = itertools.count()
GOALS = "goals: [{metric: val_loss, direction: minimize}]\n"
SPACE = "search_space: {lr: {type: float, low: 0.1, high: 1.0}}\n"
TRAIN = """
def train(params, report):
    for epoch in range(3):
        report(epoch, val_loss=params["lr"], acc=0.5)

def helper(x): ...

number = 3
"""


def plan(folder: Path, more: str, target: str = "train") -> Any:
    module = f"mistaken_{next(NUMBERS)}"
    (folder / f"{module}.py").write_text(TRAIN)
    base = f"name: s\nobjective: {module}:{target}\nbudget: {{trials: 1, epochs: 3}}\n"
    return resolve.resolve(StudySpec.parse(base + more), "study.yaml", str(folder))


def test_a_study_file_says_what_a_plain_function_cannot(tmp_path: Path) -> None:
    found = plan(tmp_path, GOALS + SPACE + "pruner: {name: median, watch: acc}\nconstraints: ['acc >= 0.4']\n")
    assert found.goals == (Goal("val_loss", Direction.MINIMIZE),)
    assert list(found.space) == ["lr"]


@pytest.mark.parametrize(
    ("more", "target", "message"),
    [
        (SPACE, "train", "goals: mistaken_.*:train is a function that names none; write goals"),
        ("goals: [{metric: val_loss}]\n" + SPACE, "train", "goals: val_loss needs its direction, minimize or maximize"),
        (GOALS, "train", "search_space: train brings none along; write it into the study file"),
        (GOALS + SPACE + "data: {path: x}\n", "train", "data: train has no argument named data"),
        (GOALS + SPACE + "trainer: {lr: 0.1}\n", "train", "does not train with the shared trainer"),
        (GOALS + SPACE, "trian", "Unknown objective or function in .* Known: helper, train. Did you mean 'train'"),
        (GOALS + SPACE, "helper", r"its first two arguments must be params and report; it is helper\(x\)"),
        (GOALS + SPACE, "number", "or a function train.*got int"),
    ],
)
def test_what_a_study_file_leaves_out_is_named(more: str, target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        plan(tmp_path, more, target)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothere.py:train"], "There is no file nothere.py."),
        (["mine.py"], "Name a function as FILE.py:function, such as train.py:train; got 'mine.py'."),
        (["mine.py:trian"], "Did you mean 'train'?"),
        (["mine.py:helper"], "its first two arguments must be params and report"),
        (["broken.py:train"], "no module named 'nothing_like_that'"),
        (["json.py:train"], "Python knows another module called 'json'"),
        (["mine.py:train", "--out", "elsewhere/study.yaml"], "A study file lies beside its module: write it into"),
        (["mine.py:train", "--out", "mine.py"], "mine.py exists already; hpo never overwrites a study file."),
    ],
)
def test_the_command_refuses_with_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, broken = f"mine_{next(NUMBERS)}", f"broken_{next(NUMBERS)}"
    for name, code in {module: TRAIN, broken: "import nothing_like_that\n", "json": TRAIN}.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    words = [word.replace("mine", module).replace("broken", broken) for word in words]
    done = CliRunner().invoke(cli.app, ["adopt", *words])
    said = str(done.exception) if isinstance(done.exception, UserError) else done.stderr
    assert message.replace("mine", module) in said
    assert said.count("\n") <= 1


def test_the_command_writes_a_study_that_can_be_checked(tmp_path: Path) -> None:
    module = f"mine_{next(NUMBERS)}"
    (tmp_path / f"{module}.py").write_text(TRAIN)
    out = tmp_path / "study.yaml"
    done = CliRunner().invoke(cli.app, ["adopt", f"{tmp_path / module}.py:train", "--out", str(out)])
    assert done.exit_code == 0, done.output
    spec, text = StudySpec.load(out)
    found = resolve.resolve(spec, str(out), str(tmp_path))
    assert found.goals == (Goal("val_loss", Direction.MINIMIZE),)
    assert (list(found.space), spec.budget.epochs) == (["lr"], 3)
    assert text.count("a guess") == 1 and "guessed by its name" in text and "others: acc" in text


class Net:
    def __init__(self, lr: float, width: int = 8) -> None: ...


class Data:
    def __init__(self, path: str, batch_size: int = 8) -> None: ...


def adopted(**options: Any) -> Any:
    fields: dict[str, Any] = {"module": Net, "data": Data, "goals": {"val_loss": "minimize"}, **options}
    return hpo.adopt_lightning(fields.pop("module"), fields.pop("data"), **fields)


def test_parameters_and_data_go_to_who_takes_them() -> None:
    objective = adopted(space={"lr": {"type": "float", "low": 0, "high": 1}})
    assert objective.needs({}) == {"lr", "path"}
    assert objective.needs({"path": "x"}) == {"lr"}
    assert adopted(module=functools.partial(Net, lr=0.1)).needs({"path": "x"}) == set()


def test_a_parameter_that_no_constructor_takes_is_refused() -> None:
    with pytest.raises(UserError, match="adopt Net: Unknown constructor argument 'rl'. Known: batch_size, lr, path"):
        adopted(space={"rl": {"type": "float", "low": 0, "high": 1}})
    with pytest.raises(DataError, match="Unknown constructor argument 'colour'"):
        adopted().check_data({"colour": "red"})


def test_a_setting_that_is_hpos_is_refused() -> None:
    with pytest.raises(UserError, match="trainer: max_epochs is set by hpo, from the study file"):
        adopted(trainer={"max_epochs": 3})


def test_what_is_no_lightning_module_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="adopt_lightning takes a LightningModule; got a Net"):
        run_here(adopted(), make_job(tmp_path, {"lr": 0.1}, data={"path": "x"}), Line())


def test_a_study_without_a_needed_argument_is_refused() -> None:
    text = f"name: s\nobjective: {__name__}:NEEDY\nbudget: {{trials: 1, epochs: 1}}\n"
    with pytest.raises(StudyFileError, match="needs the parameter 'path'; the space has not"):
        resolve.resolve(StudySpec.parse(text))


NEEDY = adopted(space={"lr": {"type": "float", "low": 0, "high": 1}})


@pytest.mark.slow
def test_a_trainer_that_does_not_take_what_hpo_decides_is_refused(tmp_path: Path) -> None:
    def forgets(params: Any, arguments: Any) -> Any:
        from transformers import Trainer, TrainingArguments

        from tests.adoption.brought_trainer import ROWS, Net

        args = TrainingArguments(**{**arguments, "num_train_epochs": 9})
        return Trainer(model=Net(), args=args, train_dataset=ROWS, eval_dataset=ROWS)

    def gives_nothing(params: Any, arguments: Any) -> None: ...

    for make, message in (
        (forgets, r"must pass \*\*arguments on to TrainingArguments: num_train_epochs must be 4; it is 9"),
        (gives_nothing, r"must return a transformers.Trainer; it returned None"),
    ):
        objective = hpo.adopt_trainer(make, goals={"eval_loss": "minimize"})
        with pytest.raises(TrialFailed, match=message):
            run_here(objective, make_job(tmp_path), Line())
