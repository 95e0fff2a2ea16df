"""Launching from Python: a file or a dictionary, objectives of a script's own, interrupts, and what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

import hpo
from hpo.notebook import progress
from hpo.notebook.document import objective_name, written
from hpo.spec import StudySpec
from hpo.trial import Direction
from objectives.base import Objective
from search_spaces import Choice, Float, Int, SearchSpace
from tests.studies import BRANIN, rows, write

WAIT_S = 300  # for what takes seconds, where the machine is busy with something else

SCRIPT = """
import sys, time
import hpo
from hpo.trial import Metric, Outcome, StopKind, StopReason
from objectives.base import Objective
from search_spaces import Float, SearchSpace

class Slope(Objective):
    summary = "a line"
    metrics = {"loss": Metric()}
    default_goals = ("loss",)
    space = SearchSpace({"x": Float(0.0, 1.0)})

    def run(self, job, context):
        for step in range(job.reported + 1, job.epochs + 1):
            context.report(step, loss=job.params["x"] / step)
            while sys.argv[1] == "until stopped" and step == 3 and not context.stop_requested:
                time.sleep(0.01)
        return Outcome(StopReason(StopKind.FINISHED, "done"))

STUDY = {"name": "slope", "objective": Slope, "budget": {"trials": 3, "epochs": 40}, "retrain": {"confirm": 0}}
"""


def python(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(SCRIPT + code)
    return subprocess.Popen(
        [sys.executable, str(path), *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work in an empty folder, on its own database, which the environment names."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'here.db'}"
    monkeypatch.setenv("HPO_STORAGE", url)
    return url


def test_a_file_is_launched_on_the_storage_of_the_environment_and_resumed(here: str, tmp_path: Path) -> None:
    study = hpo.launch(write(tmp_path))
    assert study.name == "branin" and rows(here, "SELECT count(*) FROM hpo_trials") == [(8,)]
    assert (tmp_path / "runs" / "branin").is_dir()
    more = hpo.launch(str(write(tmp_path, budget={"trials": 9, "epochs": 4})))
    assert len(more.trials()) == 9 and rows(here, "SELECT count(*) FROM hpo_launches") == [(2,)]


def test_a_dictionary_is_kept_as_a_study_file_that_says_the_same(here: str) -> None:
    hpo.launch(BRANIN)
    ((text, folder),) = rows(here, "SELECT spec_yaml, import_from FROM hpo_studies")
    assert YAML(typ="safe", pure=True).load(text) == BRANIN
    assert Path(folder) == Path.cwd()
    hpo.launch(dict(reversed(BRANIN.items())))
    assert rows(here, "SELECT spec_yaml FROM hpo_studies") == [(text,)]


def test_what_python_has_and_yaml_has_not_is_written_in_words_of_a_study_file() -> None:
    text = written(
        {
            "budget": {"epochs": np.int64(4), "trials": 2},
            "goals": [{"metric": np.str_("f1"), "direction": Direction.MAXIMIZE}],
            "search_space": {"lr": Float(1e-5, 0.1, log=True), "n": Int(1, 3), "o": Choice(("a", "1e-5")),
                             "m": Float(0.0, 1.0, when={"o": "a"})},
            "data": {"path": Path("x") / "y", "noise": np.float64(1e-9), "odd": ("no", None, True)},
            "objective": "analytic", "name": "on",
        }
    ).text  # fmt: skip
    spec = StudySpec.parse(text)
    assert list(YAML(typ="safe", pure=True).load(text))[:3] == ["name", "objective", "data"]
    assert spec.name == "on" and spec.budget.epochs == 4
    assert spec.goals is not None and spec.goals[0].direction == "maximize"
    assert spec.data == {"path": "x/y", "noise": 1e-9, "odd": ["no", None, True]}
    assert isinstance(spec.search_space, dict)
    assert SearchSpace.from_dict(spec.search_space) == SearchSpace(
        {"lr": Float(1e-5, 0.1, log=True), "n": Int(1, 3), "o": Choice(("a", "1e-5")),
         "m": Float(0.0, 1.0, when={"o": "a"})}
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_stops_with_what_was_reported_and_the_same_launch_goes_on(tmp_path: Path) -> None:
    """With an objective of the script's own, which runs in its process."""
    code = (
        "try:\n    study = hpo.launch(STUDY)\n    print(study.best().number, len(study.curves()))\n"
        "except KeyboardInterrupt as stopped:\n"
        "    print(isinstance(stopped, hpo.Interrupted), stopped.study.name, stopped)\n"
    )
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    running = python(tmp_path, code, "until stopped")
    end = time.monotonic() + WAIT_S
    while running.poll() is None and time.monotonic() < end:  # until a trial has reported
        if (tmp_path / "hpo.db").exists() and count(url, "hpo_points") > 2:
            break
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=WAIT_S)
    assert running.returncode == 0, err
    assert out.startswith("True slope Study 'slope' was interrupted; nothing is lost.")
    assert "Stopping as soon as a checkpoint is kept" in err
    assert rows(url, "SELECT ended_how FROM hpo_launches") == [("interrupted",)]
    assert ("queued",) in rows(url, "SELECT state FROM hpo_trials")
    out, err = python(tmp_path, code, "to the end").communicate(timeout=WAIT_S)
    best = rows(url, "SELECT number FROM hpo_trials ORDER BY json_extract(params, '$.x') LIMIT 1")
    assert out.split() == [str(best[0][0]), "120"], err
    assert "trial 2 done after 40 epochs" in err  # no terminal: a line per trial


def count(url: str, table: str) -> int:
    from sqlalchemy.exc import OperationalError

    try:
        return int(rows(url, f"SELECT count(*) FROM {table}")[0][0])
    except OperationalError:  # not made yet
        return 0


def test_a_thread_that_hears_no_signals_launches_all_the_same(here: str, tmp_path: Path) -> None:
    done: list[hpo.StudyView] = []
    thread = threading.Thread(target=lambda: done.append(hpo.launch(write(tmp_path))))
    thread.start()
    thread.join(WAIT_S)
    assert len(done[0].trials()) == 8


def test_an_objective_of_a_script_that_is_gone_says_where_it_was(here: str) -> None:
    with pytest.raises(hpo.UserError, match=r"'__main__:Gone' was defined in a notebook or script.* into a module"):
        hpo.launch({**BRANIN, "objective": "__main__:Gone"})


class NoGoals(Objective):
    summary = "says nothing"

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"x": Float(0.0, 1.0)})

    def run(self, job: Any, context: Any) -> Any: ...


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgett": {"trials": 1}}, r"the study: Unknown field 'budgett'\..* Did you mean 'budget'"),
        ({"objective": dict}, r"objective: give a name, .* got <class 'dict'>"),
        ({"objective": NoGoals}, r"the class NoGoals does not define metrics, default_goals"),
        ({"objective": NoGoals()}, r"objective: give a name, .* got <.*NoGoals object"),
        ({"objective": "analytik"}, r"Unknown objective 'analytik'.* Did you mean 'analytic'"),
        ({"data": {"function": object()}}, r"the study: data.function: object has no place in a study file"),
        ({"search_space": {"x0": Float(0.0, 1.0), "x1": {}}}, r"the study: search_space.x0: Float has no place"),
        ({"name": "a/b"}, r"the study: name: a study's name is also a folder's"),
    ],
)  # fmt: skip
def test_a_dictionary_with_something_wrong_is_refused_in_one_line(
    here: str, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(hpo.UserError, match=message) as refused:
        hpo.launch({**BRANIN, **change})
    assert "\n" not in str(refused.value)
    assert refused.value._render_traceback_() == [f"hpo: {refused.value}"]
    assert list(tmp_path.iterdir()) == []


ADOPTED = hpo.adopt(lambda params, report: None, goals={"loss": "minimize"})


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (NoGoals, f"{__name__}:NoGoals"),
        (python, f"{__name__}:python"),
        (ADOPTED, f"{__name__}:ADOPTED"),
        (Objective, "objectives.base:Objective"),  # its own module's, not one that imports it
    ],
)
def test_an_objective_is_named_by_where_it_stands(monkeypatch: pytest.MonkeyPatch, given: object, name: str) -> None:
    monkeypatch.setitem(sys.modules, "__mp_main__", sys.modules[__name__])  # as multiprocessing does
    assert objective_name(given) == name


def test_a_function_without_a_name_of_its_own_is_refused() -> None:
    with pytest.raises(hpo.UserError, match="must have a name at the top of its module or cell"):
        objective_name(lambda params, report: None)


def test_a_dictionary_that_holds_itself_is_refused(here: str) -> None:
    round_: dict[str, Any] = {}
    round_["again"] = round_
    with pytest.raises(hpo.UserError, match="holds itself"):
        hpo.launch({**BRANIN, "data": round_})


def test_workers_and_runners_that_cannot_be_are_refused(here: str, tmp_path: Path) -> None:
    with pytest.raises(hpo.UserError, match="between 1 and the study's concurrency .1.; got 0"):
        hpo.launch(BRANIN, workers=0)
    with pytest.raises(hpo.UserError, match="Unknown runner 'rai'"):
        hpo.launch(BRANIN, runner="rai")
    with pytest.raises(hpo.UserError, match="path of a study file, or a mapping.*; got 7"):
        hpo.launch(7)  # type: ignore[arg-type]
    with pytest.raises(hpo.UserError, match=r"Cannot read the study file none\.yaml"):
        hpo.launch("none.yaml")
    assert list(tmp_path.iterdir()) == []


def test_an_objective_of_the_script_itself_is_refused_where_other_processes_would_run_it(tmp_path: Path) -> None:
    ways = "({'runner': 'ray'}, {'ray_address': 'auto'})"
    code = f"for more in {ways}:\n    try:\n        hpo.launch(STUDY, **more)\n    except hpo.UserError as error:\n"
    code += "        print(error)\ntry:\n    hpo.launch({**STUDY, 'runner': 'ray'})\nexcept hpo.UserError as error:\n"
    out, err = python(tmp_path, code + "    print(error)\n", "to the end").communicate(timeout=WAIT_S)
    lines = out.splitlines()
    assert len(lines) == 3, err
    assert all(line.startswith("objective: Slope is defined in this notebook or script") for line in lines)
    assert all("runner 'ray'" in line and "Put it into a module" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_what_is_not_there_is_named_with_what_is(here: str, tmp_path: Path) -> None:
    with pytest.raises(hpo.UserError, match=r"here\.db"):
        hpo.open_study("branin")
    with pytest.raises(hpo.UserError, match=r"here\.db"):
        hpo.studies()
    hpo.launch(BRANIN)
    with pytest.raises(hpo.UserError, match="Unknown study 'brannin'.* Did you mean 'branin'"):
        hpo.open_study("brannin")
    study = hpo.open_study("branin")
    with pytest.raises(hpo.UserError, match="Unknown view 'f2'. Known: f1 against epochs, f1 against t"):
        study.plot_history("f2")
    with pytest.raises(hpo.UserError, match="Unknown pick policy 'f2'"):
        study.best(pick="f2")
    with pytest.raises(hpo.UserError, match="No completed trial has f1 < -1"):
        study.best(where="f1 < -1")
    (tmp_path / "here.db").unlink()
    assert repr(study).startswith("StudyView('branin'): ") and set(study._repr_mimebundle_()) == {"text/plain"}


def test_a_second_interrupt_is_pythons_own_and_afterwards_so_is_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with progress.shown() as shown:
        signal.raise_signal(signal.SIGINT)
        assert shown.interrupt.requested and shown.interrupt.how == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("Stopping as soon as a checkpoint is kept") == 1
