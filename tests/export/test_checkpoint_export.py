"""`hpo export --checkpoint`: a bundle from a checkpoint alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from hpo import service
from hpo.errors import DataError, ExportFailed, UnknownName, UserError
from hpo.export import formats
from hpo.spec import StudySpec
from hpo.training.checkpoints import read

LINE = "tests.run_objectives:Line"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial that trained three epochs, the first of which is the best."""
    folder = tmp_path_factory.mktemp("checkpoints")
    order = service.TrainOrder(LINE, {"grad_clip": 0.5}, {"sign": -1}, epochs=3, name="line")
    url = f"sqlite:///{folder / 'hpo.db'}"
    return service.train(order, storage=url, runs=folder / "runs", skip_preflight=True).folder


@pytest.mark.parametrize(("file", "epoch"), [("best.pt", 1), ("last.pt", 3)])
def test_a_bundle_has_the_checkpoints_weights_and_says_where_they_come_from(
    trial: Path, tmp_path: Path, file: str, epoch: int
) -> None:
    bundle = service.export_checkpoint(trial / file, tmp_path / "bundle", formats=["onnx"])
    manifest, state = bundle.manifest, read(trial / file)
    assert manifest.origin["checkpoint"] == file
    assert manifest.origin["checkpoint_sha256"] == hashlib.sha256((trial / file).read_bytes()).hexdigest()
    assert (manifest.origin["epoch"], manifest.origin["study"], manifest.objective) == (epoch, "line", LINE)
    assert (manifest.released, manifest.gates) == (False, ())
    assert "gates not evaluated" in manifest.release
    wanted = state["metrics"] if file == "best.pt" else state["history"][-1]
    assert json.loads((bundle.folder / "metrics.json").read_text()) == pytest.approx(wanted)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    model = state["model"]
    hidden = torch.relu(x @ model["0.weight"].T + model["0.bias"])
    expected = hidden @ model["3.weight"].T + model["3.bias"]
    predict = formats.find("onnx").load(bundle.folder / "formats" / "onnx")
    np.testing.assert_allclose(predict({"input": x.numpy()})["output"], expected.numpy(), atol=1e-5)


def test_the_study_file_in_the_bundle_trains_the_same_again(trial: Path, tmp_path: Path) -> None:
    bundle = service.export_checkpoint(trial / "best.pt", tmp_path / "bundle", formats=["safetensors"])
    spec = StudySpec.parse((bundle.folder / "config.yaml").read_text())
    assert isinstance(spec.search_space, dict)
    assert spec.search_space["width"]["choices"] == [8]
    assert (spec.objective, spec.data, spec.trainer.grad_clip, spec.budget.epochs) == (LINE, {"sign": -1}, 0.5, 3)


def test_the_command_writes_both_formats_where_nothing_else_is_said(
    trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(Path.cwd())
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["export", "--checkpoint", str(trial / "best.pt"), "--import-from", here])
    assert done.exit_code == 0, done.output
    assert "NOT RELEASED" in done.stdout
    manifest = json.loads((tmp_path / "bundles/line-search-00000-epoch-1/manifest.json").read_text())
    assert {name: entry["released"] for name, entry in manifest["formats"].items()} == {
        "onnx": True,
        "safetensors": True,
    }
    assert service.verify(tmp_path / "bundles/line-search-00000-epoch-1", Path(here)).is_good


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export"], "Give either a STUDY or --checkpoint CKPT; got neither"),
        (["export", "line", "--checkpoint", "x.pt"], "got both"),
        (["export", "line", "--import-from", "."], "--import-from belongs to --checkpoint"),
        (["export", "--checkpoint", "x.pt"], "There is no checkpoint x.pt"),
    ],
)
def test_a_wrong_command_is_told(words: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.app, words)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_a_checkpoint_that_cannot_be_exported_is_told_and_nothing_is_written(trial: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    state = read(trial / "last.pt")
    torch.save({key: value for key, value in state.items() if key != "job"}, tmp_path / "old.pt")
    torch.save({**state, "job": {**state["job"], "objective": "analytic"}}, tmp_path / "analytic.pt")
    torch.save({**state, "job": {**state["job"], "params": {**state["job"]["params"], "width": 4}}}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="does not say which trial it is of"):
        service.export_checkpoint(tmp_path / "old.pt", out)
    with pytest.raises(UserError, match="analytic trains no model"):
        service.export_checkpoint(tmp_path / "analytic.pt", out)
    with pytest.raises(ExportFailed, match=r"0\.weight"):
        service.export_checkpoint(tmp_path / "w.pt", out)
    with pytest.raises(UnknownName, match="Unknown export format"):
        service.export_checkpoint(trial / "last.pt", out, formats=["tape"])
    assert not out.exists()
