"""What a study file may say of trackers, and what is refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hpo import service, tracking
from hpo.errors import StudyFileError, UserError
from hpo.resolve import resolve
from hpo.spec import Named, StudySpec
from tests import studies

BASE = "name: s\nobjective: analytic\nbudget: {trials: 1, epochs: 2}\ntracking: "


def refused(text: str) -> str:
    with pytest.raises(StudyFileError) as caught:
        resolve(StudySpec.parse(BASE + text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["mlflow", "[mlflow, tensorboard]", "{name: wandb, project: logos}", "[]"])
def test_a_name_a_mapping_or_a_list_of_them_is_taken(text: str) -> None:
    resolve(StudySpec.parse(BASE + text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mlfow", "tracking: Unknown tracker 'mlfow'. Known: mlflow, tensorboard, wandb. Did you mean 'mlflow'?"),
        (
            "{name: mlflow, url: x}",
            "tracking: Unknown option of mlflow 'url'. Known: experiment, uri. Did you mean 'uri'?",
        ),
        ("{name: tensorboard, folder: 5}", "tracking: tensorboard: folder: should be a valid string; got 5."),
        ("{name: wandb, mode: shared}", "tracking: wandb: mode: should be 'online' or 'offline'; got 'shared'."),
        ("[mlflow, mlflow]", "tracking: mlflow stands there twice."),
        ("{name: mlflow, uri: 'file:///tmp/mlruns'}", "tracking: mlflow: uri: must be a URL such as"),
        ("{name: mlflow, uri: mlruns}", "tracking: mlflow: uri: must be a URL such as"),
        ("{name: mlflow, uri: 'https://me:hunter22@host'}", "https://me:***@host has a secret in it"),
    ],
)
def test_what_cannot_be_is_one_line(text: str, said: str) -> None:
    message = refused(text)
    assert said in message and "hunter22" not in message


def test_check_and_launch_name_the_package_that_is_missing(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    path = studies.write(tmp_path, tracking="wandb")
    for call in (lambda: service.check(path), lambda: service.launch(path, storage=sqlite_url, runs=tmp_path)):
        with pytest.raises(UserError, match=r"^tracking: wandb needs the package wandb: pip install 'hpo\[wandb\]'\.$"):
            call()
    assert not (tmp_path / "hpo.db").exists()


def test_an_address_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    named = [Named(name="mlflow", uri="$OUR_MLFLOW")]
    monkeypatch.delenv("OUR_MLFLOW", raising=False)
    with pytest.raises(UserError, match="^tracking: mlflow: uri: the environment variable 'OUR_MLFLOW' is not set"):
        tracking.require(named)
    monkeypatch.setenv("OUR_MLFLOW", "https://me:hunter22@host")
    tracking.require(named)
    hidden = tracking.options(named[0]).hide("API request to https://me:hunter22@host/api failed")
    assert hidden == "API request to https://me:***@host/api failed"


@pytest.mark.parametrize(
    ("environment", "option", "mode"),
    [
        ({}, None, "offline"),
        ({"WANDB_API_KEY": "k" * 40}, None, "online"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}, None, "offline"),
        ({"WANDB_API_KEY": "k" * 40}, "offline", "offline"),
        ({"NETRC": "here"}, None, "online"),
    ],
)
def test_wandb_is_online_only_where_a_key_is(
    environment: dict[str, str], option: Any, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").write_text("machine api.wandb.ai login user password " + "k" * 40)
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", "absent")
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    options: Any = tracking.options(Named(name="wandb", **({} if option is None else {"mode": option})))
    assert options.settled_mode() == mode
    options.check_here()


def test_wandb_without_a_key_cannot_be_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no key is here; log in"):
        tracking.require([Named(name="wandb", mode="online")])
