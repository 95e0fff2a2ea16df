"""What docs/adopt.md shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpo import service
from hpo.trial import StopKind
from objectives.function import GIVEN

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return next(text for text in blocks if containing in text)


def launch(folder: Path, url: str, module: str, code: str, study: str, trials: int = 7) -> service.Launched:
    (folder / f"{module}.py").write_text(code)
    study = re.sub(r"budget: {trials: \d+, epochs: (\d+)}", rf"budget: {{trials: {trials}, epochs: \1}}", study)
    study += "artifacts: {pictures: false}\n" + ("" if "retrain" in study else "retrain: {confirm: 0}\n")
    (folder / "study.yaml").write_text(study)
    return service.launch(folder / "study.yaml", storage=url, runs=folder / "runs")


def test_the_page_shows_the_example_whole() -> None:
    assert block("python", "EPOCHS = 12") == (ROOT / "examples/adopted_function.py").read_text()
    assert block("yaml", "adopted_function:train") == (ROOT / "examples/adopted-function.yaml").read_text()


def test_the_page_lists_what_a_function_may_ask_for() -> None:
    table = PAGE[PAGE.index("| argument | what it is |") :].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(GIVEN)


def test_a_script_that_knows_nothing_of_hpo_is_searched_unchanged(tmp_path: Path, sqlite_url: str) -> None:
    code, study = block("python", "EPOCHS = 12"), block("yaml", "adopted_function:train")
    assert "hpo" not in code.partition('"""\n')[2]
    study = study.replace("[0, 1, 2]", "[0], confirm: 0")
    trials = launch(tmp_path, sqlite_url, "adopted_function", code, study, trials=3).snapshot.trials
    assert [t.reason.kind for t in trials if t.reason] == [StopKind.FINISHED] * 3
    assert trials[0].metrics["val_accuracy"] > 0.9


@pytest.mark.slow
def test_the_lightning_module_of_the_page_is_searched(tmp_path: Path, sqlite_url: str) -> None:
    study = block("yaml", "digits_net:Digits")
    launched = launch(tmp_path, sqlite_url, "digits_net", block("python", "class DigitsNet"), study)
    assert max(t.metrics["val_accuracy"] for t in launched.snapshot.trials) > 0.9


@pytest.mark.slow
def test_the_trainer_of_the_page_is_searched(tmp_path: Path, sqlite_url: str) -> None:
    study = block("yaml", "digits_net:Digits").replace("digits_net:Digits", "tiny_classifier:Tiny")
    study = study.replace("watch: val_loss", "watch: eval_loss")
    launched = launch(tmp_path, sqlite_url, "tiny_classifier", block("python", "def make_trainer"), study)
    assert {t.reason.kind for t in launched.snapshot.trials if t.reason} <= {StopKind.FINISHED, StopKind.PRUNED}
    assert max(t.metrics["eval_accuracy"] for t in launched.snapshot.trials) > 0.6
