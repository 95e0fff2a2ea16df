"""Each system's example studies from their data to a published model's predictions, as people type it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from objectives import registry
from objectives.base import TrainingObjective

ROOT = Path(__file__).parent.parent
yaml = YAML(typ="safe")


def studies() -> list[Path]:
    """The example studies of the built-in objectives that train."""
    found = []
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        name = yaml.load(path)["objective"]
        if ":" not in name and isinstance(registry.find(name), TrainingObjective):
            found.append(path)
    return found


STUDIES = studies()
# One study a system for the quick run; tests/objectives holds that no system is forgotten.
# Another seed than theirs makes other records: at which path, with which options.
FRESH = {
    "language_modeling": ("fresh/stdlib.jsonl", ["--records", "40"]),
    "multimodal": ("fresh/planets", ["--records", "40"]),
    "quality_regression": ("fresh/logos.parquet", ["--records", "20"]),
    "rf_localization": ("fresh/rf", ["--records", "30", "--set", "samples=16000"]),
}
FEW = 200  # records, for the quick run
ONE_EACH = [ROOT / "examples" / f"{name}.yaml" for name in ("image", "language", "logo-quality", "multimodal", "rf")]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("systems")


def hpo(work: Path, *words: str) -> str:
    """Run a command in ``work``; what it prints."""
    env = {
        **os.environ,
        "HPO_STORAGE": f"sqlite:///{work}/hpo.db",
        "HPO_RUNS": str(work / "runs"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *words], cwd=work, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"hpo {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_data(path: Path, work: Path, most: int | None = None) -> None:
    """Run the ``hpo make-data`` of the file's first lines, for ``most`` records, unless another study did."""
    commands = re.findall(r"^#.*?\bhpo (make-data .*)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands, f"{path.name} must say in its first lines how its data is made"
    for words in map(shlex.split, commands):
        if most is not None and "--records" in words:
            words[words.index("--records") + 1] = str(most)
        if not (work / words[words.index("--out") + 1]).exists():
            hpo(work, *words)
    if most is not None:
        images = sorted(work.glob("data/digits/**/*.png"))  # which come all or none
        for image in set(images) - set(images[:: max(1, len(images) // most)]):
            image.unlink()


def smallest(study: dict[str, Any]) -> dict[str, Any]:
    """The same study with three epochs for each of two trials, one seed, few records, and no baseline computed."""
    if study["objective"] == "quality_regression":
        study["data"]["min_records"] = FEW
    study["budget"] = {"trials": 2, "epochs": 3}
    study["retrain"] = {**study.get("retrain", {}), "seeds": [0], "epochs": 3, "confirm": 0}
    return {**study, "runner": "inline", "pruner": {"name": "none"}, "baselines": []}


def fresh_input(objective: str, work: Path) -> Path:
    """A file or folder that no study of ``objective`` has seen."""
    if objective == "image_classification":  # the digits are all that its maker has
        digit = Image.open(next((work / "data" / "digits").rglob("*.png")))
        digit.convert("RGB").resize((57, 43)).save(work / "digit.jpg")
        return work / "digit.jpg"
    out, options = FRESH[objective]
    if not (work / out).exists():
        hpo(work, "make-data", objective, "--seed", "99", *options, "--out", out)
    return work / out


def from_data_to_predictions(study: dict[str, Any], work: Path) -> None:
    name = study["name"]
    with (work / f"{name}.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(study, file)
    hpo(work, "launch", f"{name}.yaml")
    front = json.loads(hpo(work, "front", name, "--json"))
    assert front
    hpo(work, "retrain", name)
    hpo(work, "export", name, "--out", f"bundles/{name}")
    said = hpo(work, "verify", f"bundles/{name}")
    assert "onnx: equals PyTorch" in said
    hpo(work, "report", name, "--out", f"reports/{name}")
    page = (work / "reports" / name / "index.html").read_text(encoding="utf-8")
    assert name in page
    hpo(work, "publish", f"bundles/{name}", "--as", name, "--force", "made by a test")
    fresh = fresh_input(study["objective"], work)
    said = hpo(work, "predict", f"{name}@latest", str(fresh), "--limit", "3", "--json")
    assert all(json.loads(line) for line in said.splitlines())
    assert len(said.splitlines()) == (1 if fresh.suffix == ".jpg" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("path", ONE_EACH, ids=lambda path: path.stem)
def test_a_system_goes_from_data_to_predictions_in_two_short_trials(path: Path, work: Path) -> None:
    folder = work / "short"
    folder.mkdir(exist_ok=True)
    make_data(path, folder, most=FEW)
    from_data_to_predictions(smallest(yaml.load(path)), folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_an_example_study_does_as_it_stands(path: Path, work: Path) -> None:
    make_data(path, work)
    from_data_to_predictions(yaml.load(path), work)
