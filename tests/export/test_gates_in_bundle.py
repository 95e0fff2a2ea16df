"""A bundle says whether its model is released: in its manifest, its README, and when it is verified."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small_objectives as small
from small_objectives import weights_of

from hpo.evaluation.gates import Verdict, evaluate
from hpo.export import bundle as module
from hpo.export.bundle import CHECKSUMS, MANIFEST, README, ModelBundle
from hpo.export.manifest import Check
from hpo.export.release import export_model
from hpo.export.verify import verify_bundle
from hpo.spec import GateSpec

HERE = str(Path(__file__).parent)
R = GateSpec(metric="r", at_least=0.9, name="good enough")
SMALL = GateSpec(metric="file_mb", over="export", at_most=1)


def export(out: Path, gates: list[GateSpec], r: float = 0.95, **options: Any) -> ModelBundle:
    def judge(figures: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
        return evaluate(gates, {"test": {"r": r}, "export": figures}, "demo")

    task = small.mlp_task()
    return export_model(
        task, weights_of(task), objective="small_objectives:Mlp", params={"widths": [8, 4]}, out=out,
        formats=["safetensors"], latency=False, import_from=HERE, **{"judge": judge, **options},
    )  # fmt: skip


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats are taken at their word: loading them back is another test's business, and takes seconds."""
    for module_name in ("release", "verify"):
        monkeypatch.setattr(f"hpo.export.{module_name}.check_apart", lambda *args, **options: Check())


def first_lines(bundle: ModelBundle) -> str:
    return (bundle.folder / README).read_text().split("\n## ")[0]


@pytest.mark.usefixtures("unchecked")
def test_a_model_that_meets_every_gate_is_released_with_its_figures(tmp_path: Path) -> None:
    made = export(tmp_path / "b", [R, SMALL])
    size = made.manifest.formats["safetensors"].size_mb
    assert made.manifest.released
    assert [(gate.name, gate.value, gate.met) for gate in made.manifest.gates] == [
        ("good enough", 0.95, True),
        ("file_mb ≤ 1", size, True),
    ]
    assert "**Released: every gate is met.**" in first_lines(made)
    assert "- good enough: r ≥ 0.9: 0.95, met" in (made.folder / README).read_text()
    assert verify_bundle(made.folder, import_from=None).lines[-1] == "Released: every gate is met."


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("r", [0.85, math.nan])
def test_a_model_that_misses_one_is_written_and_marked_not_released(tmp_path: Path, r: float) -> None:
    made = export(tmp_path / "b", [R, SMALL], r)
    assert not made.manifest.released
    assert "**NOT RELEASED: 1 of 2 gates not met.**" in first_lines(made)
    assert json.loads((made.folder / MANIFEST).read_text())["gates"][0]["met"] is False
    found = verify_bundle(made.folder, import_from=None)
    assert "NOT RELEASED: 1 of 2 gates not met." in found.lines
    assert "good enough: r ≥ 0.9" in found.lines[-1] and "NOT MET" in found.lines[-1]


@pytest.mark.usefixtures("unchecked")
def test_what_was_not_measured_releases_nothing(tmp_path: Path) -> None:
    made = export(tmp_path / "b", [GateSpec(metric="r", over="folds", at_least=0.9)])
    assert (made.manifest.released, made.manifest.gates[0].met) == (False, None)
    assert "not measured (measured by hpo validate demo)" in made.manifest.gates[0].line


@pytest.mark.usefixtures("unchecked")
def test_without_gates_nothing_is_in_the_way_and_the_readme_says_so(tmp_path: Path) -> None:
    made = export(tmp_path / "b", [])
    assert made.manifest.released
    assert "**Released: no gates were set.**" in first_lines(made)


def test_a_bundle_of_before_there_were_gates_opens_and_verifies(tmp_path: Path) -> None:
    made = export(tmp_path / "b", [])
    content = json.loads((made.folder / MANIFEST).read_text())
    del content["gates"], content["released"]
    (made.folder / MANIFEST).write_text(json.dumps(content | {"version": 1}))
    (made.folder / CHECKSUMS).unlink()
    module._seal(made.folder)
    assert ModelBundle.open(made.folder).manifest.gates == ()
    found = verify_bundle(made.folder, import_from=HERE)
    assert found.is_good and found.lines[-1] == "Released: no gates were set."
