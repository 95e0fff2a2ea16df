"""The README's own model, run as it stands; and the example studies are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpo import service
from hpo.spec import StudySpec
from hpo.trial import TrialState

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_readme_shows_the_example_whole() -> None:
    assert block("python", "class Digits") == (ROOT / "examples/my_digits.py").read_text()
    assert block("yaml", "my_digits:Digits") == (ROOT / "examples/my-digits.yaml").read_text()


@pytest.mark.slow
def test_ones_own_model_goes_from_study_to_verified_bundle(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "my_digits.py").write_text(block("python", "class Digits"))
    study = block("yaml", "my_digits:Digits").replace("trials: 20, epochs: 15", "trials: 4, epochs: 6")
    study = study.replace("retrain: {", "retrain: {confirm: 1, ").replace("seeds: [0, 1, 2]", "seeds: [0, 1]")
    (tmp_path / "study.yaml").write_text(study)
    launched = service.launch(tmp_path / "study.yaml", storage=sqlite_url, runs=tmp_path / "runs")
    assert [t.state for t in launched.snapshot.trials] == [TrialState.COMPLETE] * 4
    retrained = service.retrain(sqlite_url, "my-digits")
    assert retrained is not None
    assert retrained.summary.spreads["test_accuracy"].mean > 0.85
    bundle = service.export(sqlite_url, "my-digits", tmp_path / "bundle")
    assert {name: entry.released for name, entry in bundle.manifest.formats.items()} == {
        "onnx": True,
        "safetensors": True,
    }
    assert service.verify(tmp_path / "bundle", tmp_path).is_good
    (model,) = service.snapshot(sqlite_url, "my-digits").models
    assert model.manifest["digest"] == bundle.digest
    assert service.report(sqlite_url, "my-digits", tmp_path / "report")[0].name == "index.html"


def test_the_first_study_of_the_readme_is_a_study() -> None:
    spec = StudySpec.parse(block("yaml", "name: logo-quality"))
    assert spec.budget.timeout == 1800


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_is_a_study(path: Path) -> None:
    spec, _ = StudySpec.load(path)
    if "path" not in (spec.data or {}):  # which would have to be made first
        assert service.check(path).name == spec.name


def test_every_page_that_the_readme_links_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
