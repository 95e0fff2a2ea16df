"""export_model: what ships is the model, in every format that can prove it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_objectives as small
import torch
from small_objectives import noise, task_of, weights_of

import cli
from hpo.errors import BundleError, ExportFailed, UnknownName, UserError
from hpo.export import check_format
from hpo.export import formats as all_formats
from hpo.export.bundle import ModelBundle
from hpo.export.example import StoredExample
from hpo.export.formats import onnx as onnx_format
from hpo.export.formats import safetensors as safetensors_format
from hpo.export.manifest import Check
from hpo.export.release import export_model
from hpo.export.verify import verify_bundle
from hpo.printing.shipping import show_bundle

HERE = str(Path(__file__).parent)
WIDTHS = {"widths": [8, 4]}


def export(task: Any, out: Path, name: str, params: dict[str, Any] | None = None, **options: Any) -> ModelBundle:
    options = {"latency": False, "import_from": HERE, **options}
    objective = f"small_objectives:{name}"
    return export_model(task, weights_of(task), objective=objective, params=params or {}, out=out, **options)


def test_both_formats_of_an_mlp_are_released_with_their_figures(mlp: ModelBundle) -> None:
    assert set(mlp.manifest.formats) >= {"onnx", "safetensors"}
    for name in ("onnx", "safetensors"):
        entry = mlp.manifest.formats[name]
        assert entry.released, entry.reason
        assert entry.comparison is not None and entry.comparison.bound_share is not None
        assert entry.comparison.bound_share < 0.1
        assert entry.memory_mb is not None and 0 <= entry.memory_mb < 50
        assert [one.batch for one in entry.latency] == [1, 8, 64]
        for one in entry.latency:
            assert one.eager_p50_ms is not None and one.where == "a process of its own"
            assert 0 < one.p50_ms <= one.p95_ms
        files = sum((mlp.folder / file).stat().st_size for file in entry.files)
        assert entry.size_mb == pytest.approx(files / 2**20)


def test_the_table_has_a_row_for_each_batch_size_and_fits_a_terminal(
    mlp: ModelBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    show_bundle(mlp, as_json=False)
    table = capsys.readouterr().out.splitlines()[:8]
    assert max(map(len, table)) <= 100
    assert [(line.split()[0], line.split()[5]) for line in table[2:]] == [
        (name, batch) for name in ("onnx", "safetensors") for batch in ("1", "8", "64")
    ]


def test_the_manifest_says_names_dtypes_and_shapes(mlp: ModelBundle) -> None:
    (given,), (score,) = mlp.manifest.inputs, mlp.manifest.outputs
    assert (given.name, given.dtype, given.shape) == ("x", "float32", ("batch", 6))
    assert (score.name, score.dtype, score.shape) == ("score", "float32", ("batch",))
    assert mlp.manifest.facts == {"features": 6, "scaling": [1.0, 2.0]}
    assert mlp.manifest.origin == {"study": "demo", "trial": 7}
    assert mlp.metrics == {"test_loss": 0.5, "seeds": [{"seed": 1, "val_loss": None}]}


def test_the_onnx_file_stands_alone_with_an_open_batch_and_no_trace_of_this_machine(mlp: ModelBundle) -> None:
    path = mlp.folder / "formats/onnx/model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert b"small_objectives.py" not in path.read_bytes()
    assert b"site-packages" not in path.read_bytes()


def test_the_stored_outputs_are_those_of_the_model_in_eval_mode(mlp: ModelBundle) -> None:
    example = StoredExample.load(mlp.folder)
    model = small.mlp_task().model.eval()
    with torch.no_grad():
        expected = model(noise(70, 6)[:3]).numpy()
    assert np.array_equal(example.inputs["x"], noise(70, 6)[:64].numpy())
    assert np.allclose(example.outputs[3]["score"], expected, atol=1e-6)


def test_the_python_in_the_readme_runs_from_the_bundle_alone(mlp: ModelBundle) -> None:
    text = (mlp.folder / "README.md").read_text()
    code = text.split("### onnx")[1].split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 12
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=mlp.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "score float32 (64,)\n"
    assert "test_loss: 0.5" in text and "eager PyTorch" in text


def test_verify_works_from_the_files_alone(mlp: ModelBundle) -> None:
    report = verify_bundle(mlp.folder, import_from=HERE)
    assert report.is_good, report.lines
    assert set(report.checks) == {"onnx", "safetensors"}


def test_verify_says_where_onnx_differs_and_what_is_missing_to_load_the_rest(mlp: ModelBundle) -> None:
    report = mlp.verify(atol=0.0, rtol=1e-12)  # no tolerance to speak of, and no folder to find the objective in
    assert not report.is_good
    assert "onnx: Differs from PyTorch: output 'score' at batch" in report.lines[0]
    assert str(report.checks["safetensors"].reason).endswith(
        "no module named 'small_objectives'; give --import-from the folder of its module, if you trust it."
    )


def test_a_conv_net_keeps_its_running_statistics(tmp_path: Path) -> None:
    task = task_of(small.conv(3), noise(5, 1, 8, 8))  # fewer rows than a stored batch has
    task.model(noise(5, 1, 8, 8, seed=3) * 4 + 2)  # moves the running statistics
    bundle = export(task, tmp_path / "conv", "Conv", {"channels": 3})
    assert all(entry.released for entry in bundle.manifest.formats.values()), bundle.manifest.formats
    assert bundle.manifest.inputs[0].shape == ("batch", 1, 8, 8)


def test_two_inputs_and_a_dict_of_outputs_keep_their_names_and_order(tmp_path: Path) -> None:
    kinds = torch.arange(70) % 5
    task = task_of(small.TwoInputs(), noise(70, 4), kinds, outputs=("class", "value"))
    bundle = export(task, tmp_path / "both", "Both")
    assert all(entry.released for entry in bundle.manifest.formats.values()), bundle.manifest.formats
    assert [(o.name, o.dtype) for o in bundle.manifest.outputs] == [("class", "int64"), ("value", "float32")]
    graph = onnx.load(str(bundle.folder / "formats/onnx/model.onnx")).graph
    assert [i.name for i in graph.input] == ["in0", "in1"]
    assert [o.name for o in graph.output] == ["class", "value"]


def test_two_outputs_tied_weights_and_bf16_ship_in_fp32(tmp_path: Path) -> None:
    task = task_of(small.TwoOutputs().bfloat16(), noise(70, 4).bfloat16(), outputs=("back", "mean"))
    bundle = export(task, tmp_path / "tied", "Tied")
    assert all(entry.released for entry in bundle.manifest.formats.values()), bundle.manifest.formats
    assert [(o.dtype, o.shape) for o in bundle.manifest.outputs] == [("float32", ("batch", 4)), ("float32", ())]


@pytest.mark.slow
def test_a_transformer_encoder_ships_and_the_exporter_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = export(task_of(small.Encoder(), noise(70, 5, 8)), tmp_path / "encoder", "Attention")
    assert all(entry.released for entry in bundle.manifest.formats.values()), bundle.manifest.formats
    assert capfd.readouterr() == ("", "")


def test_an_objective_without_model_ships_onnx_and_is_told_why_not_safetensors(tmp_path: Path) -> None:
    bundle = export(small.mlp_task(), tmp_path / "b", "NoModel", WIDTHS, latency=True)
    assert bundle.manifest.formats["onnx"].released
    assert bundle.manifest.formats["onnx"].latency[0].where == "the exporting process"
    assert bundle.manifest.formats["onnx"].latency[0].eager_p50_ms is not None
    assert "model(" in str(bundle.manifest.formats["safetensors"].reason)
    assert not (bundle.folder / "formats/safetensors").exists()


@pytest.mark.slow
def test_a_format_that_differs_is_not_released_and_says_by_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_write = safetensors_format.write

    def write(subject: Any, folder: Path) -> None:
        true_write(subject, folder)
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        file = str(folder / "model.safetensors")
        state = load_file(file)
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        save_file({**state, "net.5.bias": state["net.5.bias"] + 0.5}, file, metadata=metadata)

    monkeypatch.setattr(safetensors_format, "write", write)
    bundle = export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS)
    entry = bundle.manifest.formats["safetensors"]
    assert not entry.released and entry.files == ()
    assert entry.comparison is not None and entry.comparison.difference == pytest.approx(0.5, abs=1e-5)
    assert "a difference of 0.5" in str(entry.reason)
    assert not (bundle.folder / "formats/safetensors").exists()
    assert bundle.manifest.formats["onnx"].released
    assert "not released" in (bundle.folder / "README.md").read_text()
    assert set(verify_bundle(bundle.folder).withheld) == {"safetensors"}


def test_a_failing_format_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(subject: Any, folder: Path) -> None:
        (folder / "half").write_bytes(b"written")
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_format, "write", write)
    bundle = export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS)
    assert bundle.manifest.formats["onnx"].reason == "Could not be written: RuntimeError: no such operator"
    assert bundle.manifest.formats["safetensors"].released
    assert not (bundle.folder / "formats/onnx").exists()


def test_a_model_that_fixes_its_batch_has_no_onnx_and_so_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="none could be released.*onnx"):
        export(task_of(small.FixedBatch(), noise(70, 4)), tmp_path / "b", "NoModel", formats=["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_the_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    task = small.mlp_task()
    weights = weights_of(task)
    weights["net.9.weight"] = weights.pop("net.0.weight")
    weights["mean"] = torch.zeros(3)
    options: dict[str, Any] = {"objective": "small_objectives:Mlp", "params": WIDTHS, "out": tmp_path / "b"}
    with pytest.raises(ExportFailed, match=r"missing: net.0.weight; unknown: net.9.weight; .*mean \(3,\) for \(6,\)"):
        export_model(task, weights, **options)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (replace(small.mlp_task(), outputs=("a", "b")), "one tensor for each of Task.outputs"),
        (replace(small.mlp_task(), inputs=("a", "b")), "a validation row has 1"),
        (replace(small.mlp_task(), facts={"scale": float("nan")}), "must be finite; facts.scale is nan"),
        (replace(small.mlp_task(), facts={"scaler": object()}), "facts.scaler is a object"),
        (small.mlp_task(mean=float("nan")), "'score' is NaN"),
        (small.mlp_task(rows=0), "validation split is empty"),
    ],
)
def test_what_cannot_ship_is_refused_before_anything_is_written(task: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=message):
        export(task, tmp_path / "b", "Mlp", WIDTHS)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_and_a_bad_tolerance_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="export format 'onx'.*Did you mean 'onnx'"):
        export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS, formats=["onx"])
    with pytest.raises(UserError, match="atol is nan"):
        export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS, atol=float("nan"))


def test_an_existing_folder_is_refused_before_the_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.export.release._write", lambda *_: pytest.fail("work was begun"))
    (tmp_path / "b").mkdir()
    with pytest.raises(BundleError, match="exists"):
        export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS)


def test_a_full_disk_ships_no_bundle_with_a_format_less(tmp_path: Path) -> None:
    """A file system of its own with room for everything but the weights."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mount)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        task = small.mlp_task(widths=(2000, 400))  # about 3 MB
        for formats in (["safetensors"], ["onnx"], ["onnx", "safetensors"]):
            with pytest.raises(BundleError, match="cannot be written: .*No space left on device"):
                export(task, mount / "mlp", "Mlp", {"widths": [2000, 400]}, formats=formats)
            assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_text_model_ships_with_an_open_length_and_says_what_rounding_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = ["onnx_int8", "torchscript"]
    bundle = export(small.text_task(), tmp_path / "b", "Tags", formats=formats)
    assert [entry.reason for entry in bundle.manifest.formats.values()] == [None, None]
    assert [fact.shape for fact in bundle.manifest.inputs] == [("batch", "sequence")] * 2
    assert [fact.shape for fact in bundle.manifest.outputs] == [("batch", "sequence", 6)]
    rounded = bundle.manifest.formats["onnx_int8"]
    assert rounded.comparison is None and rounded.relative_error is not None
    assert rounded.figures["largest_difference"] == rounded.relative_error.difference
    shift = rounded.metrics["val_loss"]
    assert shift.pytorch is not None and shift.rounded is not None
    assert 0 < abs(shift.pytorch - shift.rounded) < 0.1
    assert f"val_loss on the validation set: {shift.rounded:.6g}, PyTorch" in (bundle.folder / "README.md").read_text()
    lines = verify_bundle(bundle.folder, run_programs=True).lines
    assert [line.partition(";")[0] for line in lines[:2]] == ["onnx_int8: near PyTorch", "torchscript: equals PyTorch"]
    show_bundle(bundle, as_json=False)
    assert "What rounding to onnx_int8 does on the validation set:" in capsys.readouterr().out


def test_a_rounded_model_past_its_bound_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.export.release.check_apart", _in_this_process)
    monkeypatch.setattr("hpo.export.formats.onnx_int8.largest_error", 1e-6)
    bundle = export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS, formats=["onnx_int8", "safetensors"])
    entry = bundle.manifest.formats["onnx_int8"]
    assert not entry.released and entry.metrics == {} and "Too far from PyTorch" in str(entry.reason)
    assert not (bundle.folder / "formats/onnx_int8").exists()


def test_what_rounding_does_must_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.export.release.check_apart", _in_this_process)

    def broken(output: Any, target: Any) -> Any:
        raise KeyError("hidden")

    task = replace(small.mlp_task(), loss=broken)
    bundle = export(task, tmp_path / "b", "Mlp", WIDTHS, formats=["onnx_int8", "onnx"])
    assert bundle.manifest.formats["onnx"].released
    assert "Could not be judged on real data" in str(bundle.manifest.formats["onnx_int8"].reason)


def _in_this_process(folder: Path, name: str, **options: Any) -> Check:
    return check_format._check(folder, name, options["atol"], options["rtol"], False, None)


def test_what_cannot_be_run_here_ships_as_unverified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hpo.export.formats.onnx.unverified", "No such machine.")
    bundle = export(small.mlp_task(), tmp_path / "b", "Mlp", WIDTHS)
    entry = bundle.manifest.formats["onnx"]
    assert entry.released and entry.unverified == "No such machine."
    assert entry.comparison is None and entry.latency == () and entry.memory_mb is None
    report = verify_bundle(bundle.folder, import_from=HERE)
    assert report.is_good and set(report.checks) == {"safetensors"}
    assert "onnx: not verified here. No such machine." in report.lines
    show_bundle(bundle, as_json=False)
    assert "onnx is not verified. No such machine." in capsys.readouterr().out
    assert "No such machine." in (bundle.folder / "README.md").read_text()


@pytest.mark.slow
def test_every_program_stays_the_model_when_its_bundle_is_moved(tmp_path: Path) -> None:
    names = ["torch_export", "torchscript", "torchscript_script"]
    bundle = export(small.text_task(), tmp_path / "b", "Tags", formats=names)
    bundle.folder.rename(tmp_path / "elsewhere")
    report = verify_bundle(tmp_path / "elsewhere", run_programs=True)
    assert {name: check.reason for name, check in report.checks.items()} == dict.fromkeys(names)


@pytest.mark.slow
def test_a_language_model_ships_in_every_format(tmp_path: Path) -> None:
    task = small.text_task(small.LanguageModel, ("input_ids", "attention_mask"))
    bundle = export(task, tmp_path / "b", "Language", formats=all_formats.known(), latency=True)
    refused = {name: entry.reason for name, entry in bundle.manifest.formats.items() if not entry.released}
    assert set(refused) == {"torchscript_script", "coreml"}  # code that is no TorchScript, and an operator
    assert [fact.shape for fact in bundle.manifest.outputs] == [("batch", "sequence", 50)]
    assert verify_bundle(bundle.folder, import_from=HERE, run_programs=True).is_good
    for name in set(all_formats.known()) - set(refused):
        code = (
            (bundle.folder / "README.md").read_text().split(f"### {name}\n")[1].split("```python\n")[1].split("```")[0]
        )
        path = {"PYTHONPATH": f"{Path(cli.__file__).parent}:{HERE}", "PATH": "", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([sys.executable, "-c", code], cwd=bundle.folder, capture_output=True, text=True, env=path)
        assert done.stdout == "logits float32 (64, 12, 50)\n", (name, done.stderr)
