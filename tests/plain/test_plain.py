"""The lines of a bundle's README, cut out and run in an environment that has onnxruntime and NumPy alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpo.export.bundle import ModelBundle
from hpo.export.release import export_model
from tests.pages import ROOT

sys.path.append(str(ROOT / "tests" / "export"))
import small_objectives as small

PYTHON = Path(os.environ["HPO_PLAIN_PYTHON"]).absolute()
# After the README's lines: every output is what PyTorch gave for all stored rows.
COMPARED = """
rows = max(int(key.split(".")[1]) for key in example.files if key.startswith("outputs."))
for name, value in zip(names, results):
    np.testing.assert_allclose(value, example[f"outputs.{rows}.{name}"], rtol=1e-3, atol=1e-4)
"""


@pytest.fixture(scope="module", params=["numbers", "texts"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    task, name = (small.mlp_task(), "Mlp") if request.param == "numbers" else (small.text_task(), "Text")
    return export_model(
        task, small.weights_of(task), objective=f"small_objectives:{name}", params={}, formats=["onnx"], latency=False,
        out=tmp_path_factory.mktemp("plain") / "bundle", config_yaml="name: demo\n", metrics={}, manifest_facts={},
    )  # fmt: skip


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in ``folder``, with nothing of ours within reach."""
    return subprocess.run([PYTHON, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def blocks(bundle: ModelBundle) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (bundle.folder / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("module", ["torch", "hpo", "objectives", "onnx", "transformers", "pydantic"])
def test_the_environment_is_plain(module: str, tmp_path: Path) -> None:
    done = python(f"import onnxruntime, numpy\nimport {module}", tmp_path)
    assert f"ModuleNotFoundError: No module named '{module}'" in done.stderr


def test_the_readmes_lines_predict_what_pytorch_did(bundle: ModelBundle) -> None:
    (lines,) = [block for block in blocks(bundle) if "onnxruntime" in block]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 10
    done = python(lines + COMPARED, bundle.folder)
    assert done.returncode == 0, done.stderr
    with np.load(bundle.folder / "example.npz") as example:
        rows = max(int(key.split(".")[1]) for key in example.files if key.startswith("outputs."))
        expected = [example[f"outputs.{rows}.{tensor.name}"] for tensor in bundle.manifest.outputs]
    assert done.stdout.splitlines() == [
        f"{tensor.name} {value.dtype} {value.shape}"
        for tensor, value in zip(bundle.manifest.outputs, expected, strict=True)
    ]


def test_the_readmes_check_finds_a_changed_byte(bundle: ModelBundle) -> None:
    (lines,) = [block for block in blocks(bundle) if "hashlib" in block]
    assert python(lines, bundle.folder).returncode == 0
    file = bundle.folder / "metrics.json"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole + b" ")
        assert "AssertionError: metrics.json" in python(lines, bundle.folder).stderr
    finally:
        file.write_bytes(whole)


def test_a_bundle_runs_from_a_folder_that_nobody_may_write_to(bundle: ModelBundle) -> None:
    (lines,) = [block for block in blocks(bundle) if "onnxruntime" in block]
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    folders = [bundle.folder, *(path for path in bundle.folder.rglob("*") if path.is_dir())]
    try:
        for folder in folders:
            folder.chmod(0o555)
        done = subprocess.run([*bound, PYTHON, "-I", "-c", lines], cwd=bundle.folder, capture_output=True, text=True)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
