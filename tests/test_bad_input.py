"""Every mistake a person can make in a study file or a command: one message, exit code 2, nothing written."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli

GOOD: dict[str, Any] = {
    "name": "good",
    "objective": "analytic",
    "data": {"function": "zdt1"},
    "goals": [{"metric": "f1"}, {"metric": "f2", "direction": "minimize"}],
    "search_space": {
        "x0": {"type": "float", "low": 0.0, "high": 1.0},
        **{f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(1, 6)},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "extra": {"type": "int", "low": 1, "high": 8, "log": True, "when": {"kind": "b"}},
    },
    "sampler": {"name": "tpe"},
    "pruner": {"name": "median", "watch": "f1"},
    "budget": {"trials": 2, "epochs": 2},
    "enqueue": [{"x0": 0.5}],
    "retrain": {"pick": "knee", "confirm": 0},
}
DELETE = "(left out)"


def changed(path: str, value: Any) -> str:
    """GOOD with the field at ``path`` (a.b.0.c) replaced, as JSON, which is YAML."""
    spec = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    inner: Any = spec
    for part in parents:
        inner = inner[int(part) if isinstance(inner, list) else part]
    if value is DELETE:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return json.dumps(spec)


FIELDS: list[tuple[str, Any, str]] = [
    ("nmae", "x", "Unknown field 'nmae'. Known: .*Did you mean 'name'"),
    ("goals.0.metrc", "f1", "goals.*Unknown field 'metrc'.*Did you mean 'metric'"),
    ("budget.trails", 3, "budget: Unknown field 'trails'.*Did you mean 'trials'"),
    ("trainer", {"early_stoping": {}}, "trainer: Unknown field 'early_stoping'.*Did you mean 'early_stopping'"),
    ("resources", {"gpu": 1}, "resources: Unknown field 'gpu'.*Did you mean 'gpus'"),
    ("name", DELETE, "name is missing"),
    ("objective", DELETE, "objective is missing"),
    ("budget", DELETE, "budget is missing"),
    ("name", "a/b", "name: a study's name is also a folder's.*got 'a/b'"),
    ("name", "..", "name: a study's name"),
    ("name", "", "name: a study's name"),
    ("name", "x" * 101, "name: a study's name"),
    ("name", "line\nbreak", "name: a study's name"),
    ("name", 7, "name: should be a valid string; got 7"),
    ("objective", "analitic", "Unknown objective 'analitic'.*Did you mean 'analytic'"),
    ("objective", "no_such_module:Thing", "no module named 'no_such_module'"),
    ("objective", "json:Thing", "Unknown objective or function in json 'Thing'"),
    ("objective", "json:JSONDecoder", "must be an objectives.base.Objective"),
    ("data", {"function": "zdt9"}, "Unknown function 'zdt9'"),
    ("data", {"function": "zdt1\0"}, "data: 'zdt1.x00' has a character that no path"),
    ("data", {"function": "zdt1\ud800"}, "data: 'zdt1.ud800' has a character that no path"),
    ("data", {"functoin": "zdt1"}, "Unknown field 'functoin'.*Did you mean 'function'"),
    ("data", {"function": "zdt1", "noise": -1}, "noise must be a number of 0 or more; got -1"),
    ("data", {"function": "branin", "dims": 5}, "branin has exactly 2 dimensions; got 5"),
    ("data", [1], "data: should be a valid dictionary"),
    ("budget", 30, "budget should be a mapping of fields; got 30."),
    ("goals", [], "goals: List should have at least 1 item"),
    ("goals", [{"metric": "f1"}, {"metric": "f1"}], "'f1' stands there twice"),
    ("goals.0.metric", "f9", "analytic does not report it. Unknown metric 'f9'"),
    ("goals.1.direction", "down", "direction: should be 'minimize' or 'maximize'; got 'down'"),
    ("search_space", "zdt", "Unknown search space 'zdt'"),
    ("search_space", {}, "at least one parameter"),
    ("search_space.x0.low", 1.0, "x0: low must be below high; got low 1.0, high 1.0"),
    ("search_space.x0.low", 2.0, "x0: low must be below high"),
    ("search_space.x0.low", float("nan"), "x0: low must be a finite number; got nan"),
    ("search_space.x0.high", float("inf"), "x0: high must be a finite number; got inf"),
    ("search_space.x0.low", "zero", "x0: low must be a finite number; got 'zero'"),
    ("search_space.x0.log", True, "x0: log needs low above 0; got low 0.0"),
    ("search_space.x1", {"type": "float", "low": 1, "high": 10, "log": True, "step": 1}, "x1: log and step exclude"),
    ("search_space.x3", DELETE, "analytic needs the parameter 'x3'"),
    ("retrain.seeds", [2**32], "retrain.seeds"),
    ("retrain.seeds", [-1], "retrain.seeds"),
    ("name", "_x", "name: a study's name"),
    ("search_space.x0.log", "yes", "x0: log is true or false"),
    ("search_space.x0.step", 0, "x0: step must be a finite number above 0"),
    ("search_space.x0.type", "real", "x0: Unknown type 'real'"),
    ("search_space.x0.lwo", 0.0, "x0: Unknown field 'lwo'"),
    ("search_space.x0", {"type": "float", "low": 0.0}, "x0: a float parameter needs high"),
    ("search_space.x0", 0.5, "x0: write a parameter as"),
    ("search_space.extra.low", 1.5, "extra: low of an int must be a whole number; got 1.5"),
    ("search_space.kind.choices", [], "kind: choices must not be empty"),
    ("search_space.kind.choices", "ab", "kind: choices must be a list; got 'ab'"),
    ("search_space.kind.choices", ["a", "a", "b"], "'a' stands there twice"),
    ("search_space.kind.choices", [[1], "b"], "a choice is text, a number"),
    ("search_space.extra.when", {"knid": "b"}, "when names an unknown parameter.*Did you mean 'kind'"),
    ("search_space.extra.when", {"kind": "c"}, "when kind is 'c', but kind is one of 'a', 'b'"),
    ("search_space.extra.when", {"extra": 2}, "conditions of extra form a circle"),
    ("search_space.kind.when", {"extra": 2}, "conditions of extra, kind form a circle"),
    ("search_space.extra.when", "kind", "write when as"),
    ("sampler", {"name": "tpee"}, "Unknown sampler 'tpee'.*Did you mean 'tpe'"),
    ("sampler", {"name": "tpe", "popsize": 3}, "Unknown option of sampler tpe 'popsize'"),
    ("sampler", {"name": "grid"}, "no end of them"),
    ("sampler", "tpe", "sampler should be a mapping of fields, such as {name: ...}; got 'tpe'"),
    ("pruner", {"name": "medan"}, "Unknown pruner 'medan'.*Did you mean 'median'"),
    ("pruner", {"name": "median", "watch": "f7"}, "pruner.watch: Unknown metric 'f7'"),
    ("pruner", {"name": "percentile"}, "needs the option 'percentile'"),
    ("pruner", {"name": "hopeless", "watch": "f1"}, "pruner.watch: hopeless judges all goals"),
    ("pruner", {"name": "any", "of": [{"name": "median", "warmup": 1}]}, "of\\[0\\].*Did you mean 'warmup_steps'"),
    ("budget", {"trials": 0}, "budget.trials: should be greater than or equal to 1; got 0"),
    ("budget", {"trials": -3}, "budget.trials: should be greater than or equal to 1; got -3"),
    ("budget", {"trials": 2.5}, "budget.trials: must be a whole number; got 2.5"),
    ("budget", {"trials": True}, "budget.trials: must be a whole number"),
    ("budget", {"epochs": 3}, "a budget needs trials, a timeout, or both"),
    ("budget", {"trials": 2, "timeout": "soon"}, "a duration is a number of seconds, or text"),
    ("budget", {"trials": 2, "timeout": 0}, "budget.timeout: should be greater than 0"),
    ("seed", -1, "seed: should be greater than or equal to 0"),
    ("concurrency", 0, "concurrency: should be greater than or equal to 1"),
    ("runner", "rya", "Unknown runner 'rya'.*Did you mean 'ray'"),
    ("resources", {"cpus": 0}, "resources.cpus: should be greater than 0"),
    ("trainer", {"lr": 0.1}, "analytic does not train with the shared trainer"),
    ("trainer", {"precision": "fp8"}, "trainer.precision: should be 'auto'"),
    ("enqueue", [{"x0": 1.5}], r"enqueue\[0\]: x0 must be float in \[0, 1\]; got 1.5"),
    ("enqueue", [{"x9": 0.5}], r"enqueue\[0\]: Unknown parameter 'x9'"),
    ("enqueue", [{"extra": 2}], r"enqueue\[0\]: extra depends on kind, so the point must give kind, too"),
    ("enqueue", [{"kind": "a", "extra": 2}], r"enqueue\[0\]: extra exists only when kind is 'b'"),
    ("retrain.pick", "best", "Unknown pick policy 'best'"),
    ("retrain.pick", {"f3": 1.0}, "Unknown goal 'f3'"),
    ("retrain.pick", {"f1": 0.0}, "at least one weight must be above 0"),
    ("retrain.seeds", [1, 1], "seeds must differ"),
    ("retrain.seeds", [], "retrain.seeds"),
    ("export", {"formats": ["onxx"]}, "Unknown format 'onxx'.*Did you mean 'onnx'"),
    ("export", {"atol": -1}, "export.atol: should be greater than or equal to 0"),
    ("report", "middle", "report: should be 'best' or 'last'"),
]  # fmt: skip

TEXTS: list[tuple[str, str, str]] = [
    ("empty", "", "a study file is a mapping.*got nothing"),
    ("list", "- a\n- b\n", "a study file is a mapping.*got a list"),
    ("text", "just words", "a study file is a mapping.*got plain text"),
    ("tag", "name: !!python/object/apply:os.system ['touch pwned']\n", "line 1: not usable as YAML: .*tag"),
    ("twice", "name: a\nname: b\n", "line 2: not usable as YAML: found duplicate key"),
    ("twice inside", "name: a\nbudget: {trials: 1, trials: 2}\n", "found duplicate key"),
    ("unclosed", "name: [a\n", "not usable as YAML"),
    ("tab", "name:\n\t- a\n", "not usable as YAML"),
    (
        "itself",
        "name: a\nobjective: analytic\nbudget: {trials: 1}\ndata: &d {x: *d}\n",
        "refers to itself|Unknown field|not usable",
    ),
]  # fmt: skip


def hpo(folder: Path, *arguments: str) -> Any:
    here = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(cli.app, list(arguments))
    finally:
        os.chdir(here)


def refuses(folder: Path, *arguments: str) -> str:
    """The one message of a refused command, run as a person runs it (but in this process)."""
    import contextlib
    import io

    here, argv, error = Path.cwd(), sys.argv, io.StringIO()
    os.chdir(folder)
    sys.argv = ["hpo", *arguments]
    try:
        with contextlib.redirect_stderr(error), pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        os.chdir(here)
        sys.argv = argv
    assert left.value.code == 2, error.getvalue()
    message = error.getvalue()
    assert "Traceback" not in message
    return message


def nothing_written(folder: Path, *but: str) -> bool:
    # Python itself keeps a user's compiled module beside it, unless it is told not to.
    return sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == sorted(but)


@pytest.mark.parametrize(("field", "value", "message"), FIELDS, ids=[f"{f}={v!r}"[:60] for f, v, _ in FIELDS])
def test_a_wrong_field_is_one_message_and_nothing_is_written(
    tmp_path: Path, field: str, value: Any, message: str
) -> None:
    (tmp_path / "study.yaml").write_text(changed(field, value).replace("NaN", ".nan").replace("Infinity", ".inf"))
    error = refuses(tmp_path, "launch", "study.yaml")
    assert error.startswith("hpo: study.yaml")
    assert len(error.strip().splitlines()) <= 2
    import re

    assert re.search(message, error), error
    assert nothing_written(tmp_path, "study.yaml")


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS])
def test_a_file_that_is_no_study_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    import re

    (tmp_path / "study.yaml").write_text(text)
    assert re.search(message, refuses(tmp_path, "launch", "study.yaml"))
    assert nothing_written(tmp_path, "study.yaml")


def test_data_that_cannot_be_split_begins_no_study(tmp_path: Path) -> None:
    (tmp_path / "few_records.py").write_text(
        "from hpo.errors import DataError\n"
        "from objectives.analytic import Analytic\n"
        "class Few(Analytic):\n"
        "    def split_ids(self, data, data_seed):\n"
        "        raise DataError('too few different logos')\n"
    )
    (tmp_path / "study.yaml").write_text(changed("objective", "few_records:Few"))
    assert "too few different logos" in refuses(tmp_path, "launch", "study.yaml")
    assert nothing_written(tmp_path, "few_records.py", "study.yaml", "hpo.db")
    assert json.loads(hpo(tmp_path, "list", "--json").stdout) == []


def test_the_good_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(GOOD))
    assert hpo(tmp_path, "check", "study.yaml").exit_code == 0
    assert nothing_written(tmp_path, "study.yaml")


@pytest.mark.parametrize("command", ["launch", "check"])
def test_a_missing_file_is_named(tmp_path: Path, command: str) -> None:
    assert "Cannot read the study file none.yaml: No such file" in refuses(tmp_path, command, "none.yaml")
    assert nothing_written(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in refuses(tmp_path, "launch", "study.yaml")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "no database URL"),
        ("sqlite:///no/such/folder/x.db", "does not exist"),
        ("sqlite://", "outlives the process"),
        ("postgresql+psycopg://me:sesame@127.0.0.1:1/x", "failed"),
        ("oracle://me:sesame@h/x", "No driver"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path, url: str, message: str) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(GOOD))
    for command in (["launch", "study.yaml"], ["list"], ["show", "good"]):
        error = refuses(tmp_path, *command, "--storage", url)
        assert "sesame" not in error
        if command[0] == "launch":
            assert message in error
    assert nothing_written(tmp_path, "study.yaml")


@pytest.mark.parametrize(
    "command", ["show", "front", "best", "report", "retrain", "export", "delete", "dashboard", "list"]
)
def test_no_database_is_made_by_looking_for_one(tmp_path: Path, command: str) -> None:
    arguments = [command] if command in ("list", "dashboard") else [command, "x"]
    assert "There is no database sqlite:///hpo.db yet" in refuses(tmp_path, *arguments)
    assert nothing_written(tmp_path)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "hpo.db").write_text("something else entirely, and long enough to be looked at as a header")
    assert "file is not a database" in refuses(tmp_path, "list")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ran")
    (folder / "study.yaml").write_text(json.dumps(GOOD))
    assert hpo(folder, "launch", "study.yaml").exit_code == 0
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "goood"], "Unknown study 'goood'. Known: good. Did you mean 'good'?"),
        (["best", "good", "--where", "f1"], "'f1' is no comparison"),
        (["best", "good", "--where", "f1 = 3"], "is no comparison"),
        (["best", "good", "--where", "f1 < fast"], "orders by 'fast', which is no number"),
        (["best", "good", "--where", "f11 < 3"], "Unknown metric or parameter 'f11'"),
        (["best", "good", "--where", "f1 < -5"], "No completed trial has f1 < -5"),
        (["best", "good", "--pick", "kne"], "Unknown pick policy 'kne'"),
        (["best", "good", "--pick", "f1=a"], "write weights as METRIC=NUMBER"),
        (["best", "good", "--pick", "f1=-1"], "a weight is a number of 0 or more"),
        (["retrain", "good", "--trial", "99"], "has trials 0 to 1; there is no 99"),
        (["retrain", "good", "--workers", "9"], "between 1 and the study's concurrency (1); got 9"),
        (["retrain", "good", "--runner", "slurm"], "Unknown runner 'slurm'"),
        (["export", "good"], "retrain"),
        (["launch", "study.yaml", "--workers", "3"], "between 1 and the study's concurrency (1); got 3"),
        (["init", "analitic"], "Unknown objective 'analitic'"),
        (["make-data", "analytic", "--out", "x"], "makes no data"),
        (["make-data", "quality_regression", "--out", "x", "--set", "wrkers=2"], "Did you mean 'workers'"),
        (["make-data", "quality_regression", "--out", "x", "--set", "workers=two"], "write NAME=WHOLE NUMBER"),
        (["make-data", "quality_regression", "--out", "study.yaml/x.parquet", "--records", "2"], "study.yaml"),
        (["verify", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_argument_is_one_message(ran: Path, arguments: list[str], message: str) -> None:
    before = sorted(p.name for p in ran.iterdir())
    assert message in refuses(ran, *arguments)
    assert sorted(p.name for p in ran.iterdir()) == before


@pytest.mark.parametrize(
    "arguments", [["lanch"], ["launch"], ["show", "x", "--jsn"], ["launch", "x", "--workers", "0"]]
)
def test_a_wrong_command_line_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    refuses(tmp_path, *arguments)


def test_a_parameter_out_of_its_settings_bounds_is_refused(tmp_path: Path) -> None:
    spec = {
        "name": "x", "objective": "quality_regression", "budget": {"trials": 1}, "data": {"path": "none.parquet"},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(json.dumps(spec))
    assert "none.parquet" in refuses(tmp_path, "launch", "study.yaml")
    assert nothing_written(tmp_path, "study.yaml")


def test_the_installed_command_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(changed("sampler", {"name": "tpee"}))
    command = [sys.executable, "-m", "cli", "launch", "study.yaml"]
    root = str(Path(cli.__file__).parent)
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
