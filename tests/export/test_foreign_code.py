"""A bundle that brings code of its own: verifying it runs none of that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import small_objectives as small
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import cli
from hpo.errors import BundleError
from hpo.export.bundle import ModelBundle
from hpo.export.release import export_model
from hpo.export.verify import verify_bundle

HERE = str(Path(__file__).parent)


@pytest.fixture
def hostile(mlp: ModelBundle, tmp_path: Path) -> ModelBundle:
    """A bundle that brings its own objective, with checksums that are right: loading it leaves a file."""
    mark = tmp_path / "ran"
    code = Path(HERE, "small_objectives.py").read_text() + f"\nopen({str(mark)!r}, 'w').close()\n"

    def fill(folder: Path) -> None:
        shutil.copytree(mlp.folder, folder, dirs_exist_ok=True)
        (folder / "checksums.sha256").unlink()
        (folder / "small_objectives.py").write_text(code)

    return ModelBundle.write(tmp_path / "hostile", fill)


def test_verify_inside_a_bundle_runs_no_code_of_it(hostile: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile.folder)
    done = CliRunner().invoke(cli.app, ["verify", "."])
    assert done.exit_code == 1
    assert "if you trust it" in done.stdout
    assert not (hostile.folder.parent / "ran").exists()


@pytest.mark.parametrize("place", [".", "formats", "../hostile", "../link"])
def test_a_folder_of_the_bundle_is_no_place_to_import_from(
    hostile: ModelBundle, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hostile.folder.parent / "link").symlink_to(hostile.folder)
    monkeypatch.chdir(hostile.folder)
    with pytest.raises(BundleError, match="may not choose what code runs"):
        verify_bundle(hostile.folder, import_from=place)
    assert not (hostile.folder.parent / "ran").exists()


@pytest.mark.parametrize("is_package", [False, True])
def test_a_bundle_is_no_package_of_the_folder_above_it(hostile: ModelBundle, is_package: bool, tmp_path: Path) -> None:
    """``--import-from`` the folder above is allowed, and Python would find the module 'hostile.small_objectives'."""

    def fill(folder: Path) -> None:
        shutil.copytree(hostile.folder, folder, dirs_exist_ok=True)
        (folder / "checksums.sha256").unlink()
        if is_package:
            (folder / "__init__.py").write_text("from hostile.small_objectives import Mlp\n")
        subject_module = "hostile" if is_package else "hostile.small_objectives"
        _rename_objective(folder / "formats/safetensors/model.safetensors", f"{subject_module}:Mlp")

    bundle = ModelBundle.write(hostile.folder, fill, overwrite=True)
    report = verify_bundle(bundle.folder, import_from=str(tmp_path))
    assert "lies in the bundle, which may not choose what code runs" in str(report.checks["safetensors"].reason)
    assert not (tmp_path / "ran").exists()


def _rename_objective(path: Path, name: str) -> None:
    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["hpo"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 it is no dict
    save_file(tensors, str(path), metadata={"format": "pt", "hpo": json.dumps({**header, "objective": name})})


class Writes(torch.nn.Module):
    """What TorchScript can do beside arithmetic."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.mark)
        return x


def test_a_format_that_is_a_program_runs_only_when_asked(tmp_path: Path) -> None:
    task = small.mlp_task()
    options: dict[str, Any] = {"objective": "small_objectives:Mlp", "params": {"widths": [8, 4]}, "latency": False}
    bundle = export_model(task, small.weights_of(task), out=tmp_path / "b", formats=["torchscript", "onnx"], **options)

    def fill(folder: Path) -> None:
        shutil.copytree(bundle.folder, folder, dirs_exist_ok=True)
        (folder / "checksums.sha256").unlink()
        names = {"hpo.json": json.dumps({"inputs": ["x"], "outputs": ["score"]})}
        model = torch.jit.script(Writes(str(tmp_path / "ran")))
        torch.jit.save(model, str(folder / "formats/torchscript/model.pt"), _extra_files=names)

    hostile = ModelBundle.write(tmp_path / "hostile", fill)
    report = verify_bundle(hostile.folder)
    assert set(report.checks) == {"onnx"} and report.is_good
    assert "torchscript: not verified here. It is a program" in "\n".join(report.lines)
    assert not (tmp_path / "ran").exists()
    assert not verify_bundle(hostile.folder, run_programs=True).is_good
    assert (tmp_path / "ran").exists()
