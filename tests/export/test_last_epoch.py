"""From study to bundle: the weights that ship are those that the manifest names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from hpo import service
from hpo.export.evidence import Evidence
from hpo.training import checkpoints

STUDY = {
    "name": "worse",
    "objective": "small_objectives:Worsening",
    "goals": [{"metric": "val_loss"}],
    "sampler": {"name": "random"},
    "search_space": {"lr": {"type": "float", "low": 0.02, "high": 0.05}},
    "trainer": {"batch_size": 16, "threads": 1},
    "budget": {"trials": 1, "epochs": 3},
    "retrain": {"confirm": 0, "pick": "val_loss", "seeds": [0]},
    "export": {"formats": ["safetensors"]},
}


@pytest.mark.slow
@pytest.mark.parametrize(("report", "epoch"), [("best", 1), ("last", 3)])
def test_the_weights_that_ship_are_of_the_epoch_that_gave_the_value(
    tmp_path: Path, sqlite_url: str, report: str, epoch: int
) -> None:
    shutil.copy(Path(__file__).with_name("small_objectives.py"), tmp_path)
    path = tmp_path / "worse.yaml"
    path.write_text(json.dumps({**STUDY, "report": report}))
    launched = service.launch(path, storage=sqlite_url, runs=tmp_path / "runs", skip_preflight=True)
    assert launched.snapshot.trials[0].best_step == epoch
    retrained = service.retrain(sqlite_url, "worse")
    assert retrained is not None
    (run,) = retrained.runs
    bundle = service.export(sqlite_url, "worse", tmp_path / "bundle")
    assert bundle.manifest.origin["best_epoch"] == epoch
    shipped = load_file(bundle.folder / "formats/safetensors/model.safetensors")
    output = (shipped["weight"] + shipped["bias"]).item()
    # loss = (output + 1)² on both the validation and the test set, whose input is 1 and target -1
    assert run.metrics["val_loss"] == pytest.approx((output + 1) ** 2, rel=1e-5)
    assert run.metrics["test_loss"] == pytest.approx((output + 1) ** 2, rel=1e-5)
    kept, said = Evidence.read(bundle.folder), np.load(tmp_path / "runs/worse/retrain-00000/test_predictions.npz")
    assert bundle.manifest.origin["evidence"] == "test.npz: 64 test samples"
    assert kept is not None and np.array_equal(kept.outputs, said["outputs"])
    assert kept.outputs == pytest.approx(np.full((64, 1), output), rel=1e-5)
    last = checkpoints.read(tmp_path / "runs/worse/retrain-00000/last.pt")["model"]
    other = service.export(sqlite_url, "worse", tmp_path / "other", formats=["torchscript"])
    assert list(other.manifest.formats) == ["torchscript"]  # instead of the study file's
    assert ((last["weight"] + last["bias"]).item() == pytest.approx(output)) == (report == "last")
