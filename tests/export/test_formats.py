"""What every export format must keep, over models of every kind; and what each has of its own."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_objectives as small
import torch
from small_objectives import noise, task_of, text_task, weights_of
from torch import Tensor, nn

from hpo.errors import ExportFailed
from hpo.export import formats
from hpo.export.compare import compare, compare_rounded
from hpo.export.example import StoredExample
from hpo.export.formats import Subject, aotinductor, onnx_int8
from hpo.export.release import _subject
from hpo.training.task import Task, build_model
from objectives import registry

HERE = str(Path(__file__).parent)
SPECIAL = ("huggingface", "aotinductor", "coreml")  # these need a model, a compiler, a library: tests of their own
ALONE = [name for name in formats.known() if name not in SPECIAL]


def categories() -> Task:
    return task_of(small.TwoInputs(), noise(70, 4), torch.arange(70) % 5, outputs=("value",))


def quality() -> Task:
    objective = registry.find("quality_regression")
    return task_of(build_model(lambda: objective.model(objective.default_params, {}), 1), noise(70, 2056))


def language() -> Task:
    return text_task(small.LanguageModel, ("input_ids", "attention_mask"))


# name -> the task, and its objective with parameters, to build its model again
TASKS: Mapping[str, tuple[Callable[[], Task], str, Mapping[str, Any]]] = {
    "numbers": (small.mlp_task, "small_objectives:Mlp", {"widths": [8, 4]}),
    "a tensor of several, whole numbers in": (categories, "small_objectives:Both", {}),
    "texts": (text_task, "small_objectives:Tags", {}),
    "quality_regression": (quality, "quality_regression", registry.find("quality_regression").default_params),
}


def subject_of(task: Task, objective: str = "", params: Mapping[str, Any] | None = None) -> tuple[Subject, Any, Any]:
    return _subject(task, weights_of(task), objective, params or {})


@pytest.fixture(scope="module", params=list(TASKS))
def subject(request: pytest.FixtureRequest) -> tuple[Subject, StoredExample]:
    make, objective, params = TASKS[request.param]
    found, example, _ = subject_of(make(), objective, params)
    return found, example


@pytest.fixture(scope="module", params=ALONE)
def written(
    request: pytest.FixtureRequest, subject: tuple[Subject, StoredExample], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, StoredExample]:
    folder = tmp_path_factory.mktemp("bundle")
    own = folder / "formats" / request.param
    own.mkdir(parents=True)
    formats.find(request.param).write(subject[0], own)
    subject[1].save(folder)
    return request.param, folder, subject[1]


def test_a_format_gives_the_numbers_of_pytorch_at_every_batch_size_and_length(
    written: tuple[str, Path, StoredExample],
) -> None:
    name, folder, example = written
    form = formats.find(name)
    predict = form.load(folder / "formats" / name)
    if form.largest_error is None:
        assert compare(predict, example, 1e-4, 1e-3).reason is None
    else:
        found = compare_rounded(predict, example, form.largest_error)
        assert found.reason is None
        assert found.relative_error is not None and found.relative_error.difference  # it is rounded indeed


def test_the_lines_for_the_readme_run_a_format(
    written: tuple[str, Path, StoredExample], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder, example = written
    (output,) = example.most.outputs
    monkeypatch.chdir(folder)
    lines = formats.find(name).usage(f"formats/{name}", list(example.inputs), [output])
    with np.load("example.npz") as stored, contextlib.redirect_stdout(io.StringIO()) as said:
        exec(lines, {"example": stored})
    assert said.getvalue().split()[:2] == [output, "float32"]


def test_a_format_holds_no_path_of_the_machine_it_was_made_on(written: tuple[str, Path, StoredExample]) -> None:
    name, folder, _ = written
    _assert_no_trace(folder / "formats" / name)


def _assert_no_trace(folder: Path) -> None:
    """No path of the machine and no line of the model's source, in a file or in what a file packs."""
    traces = [b"site-packages", HERE.encode(), tempfile.gettempdir().encode() + b"/", b"self.net(x", b"kept = hidden"]
    for file in (one for one in folder.rglob("*") if one.is_file()):
        parts = [file.read_bytes()]
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                parts += [archive.read(one) for one in archive.namelist() if not one.endswith("torch_script_code")]
        assert [trace for trace in traces for part in parts if trace in part] == [], file.name


def test_a_model_without_save_pretrained_has_no_folder_for_transformers(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"must offer save_pretrained\(folder\).*Scaled does not"):
        formats.find("huggingface").write(subject_of(small.mlp_task())[0], tmp_path)


def test_the_folder_for_transformers_is_the_model_again(tmp_path: Path) -> None:
    subject, example, _ = subject_of(language())
    form = formats.find("huggingface")
    form.write(subject, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}
    assert compare(form.load(tmp_path), example, 1e-4, 1e-3).reason is None
    assert b"site-packages" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_code_in_a_folder_for_transformers_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.find("huggingface").write(subject_of(language())[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **own}))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Theirs"}')
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    monkeypatch.setattr("builtins.input", lambda *question: "y")  # what transformers would ask
    with pytest.raises(ValueError, match="backend tokenizer"):
        formats.find("huggingface").load(tmp_path)
    assert not (tmp_path / "ran").exists()


class NoConfig(small.Tagger):
    def save_pretrained(self, folder: str) -> None:
        torch.save(self.state_dict(), Path(folder, "pytorch_model.bin"))


class Pickles(NoConfig):
    def save_pretrained(self, folder: str) -> None:
        Path(folder, "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
        super().save_pretrained(folder)


@pytest.mark.parametrize(("make", "message"), [(NoConfig, "names its architectures"), (Pickles, "as safetensors")])
def test_a_folder_that_transformers_could_not_read_safely_is_refused(
    make: type[nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportFailed, match=message):
        formats.find("huggingface").write(subject_of(text_task(make))[0], tmp_path)


def test_onnx_names_the_axes_that_are_open(tmp_path: Path) -> None:
    formats.find("onnx").write(subject_of(text_task())[0], tmp_path)
    graph = onnx.load(str(tmp_path / "model.onnx")).graph
    for value in (*graph.input, *graph.output):
        first, second, *_ = value.type.tensor_type.shape.dim
        assert (first.dim_param, second.dim_param) == ("batch", "sequence")


def test_onnx_says_which_axis_the_model_fixes(tmp_path: Path) -> None:
    task = task_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), noise(70, 4, 3))
    subject = replace(subject_of(task)[0], axes=({0: "batch", 1: "rows"},))
    with pytest.raises(ExportFailed, match="an axis that must be open, .* is fixed to 4 by the model"):
        formats.find("onnx").write(subject, tmp_path)


def test_a_length_that_tracing_fixed_is_found_and_onnx_leaves_it_open(tmp_path: Path) -> None:
    task = task_of(small.Averaged(), noise(70, 6, 3), open_axes=({1: "steps"},))
    subject, example, _ = subject_of(task)
    for name in ("torchscript", "onnx"):
        formats.find(name).write(subject, tmp_path)
    assert compare(formats.find("onnx").load(tmp_path), example, 1e-4, 1e-3).reason is None
    found = compare(formats.find("torchscript").load(tmp_path), example, 1e-4, 1e-3)
    assert found.comparison is not None and found.comparison.lengths == {"steps": 3}
    assert "output 'output' at batch 3, steps 3, index" in str(found.reason)


@pytest.mark.slow
def test_int8_makes_the_file_a_quarter_and_leaves_convolutions_alone(tmp_path: Path) -> None:
    subject, *_ = subject_of(quality())
    sizes = {}
    for name in ("onnx", "onnx_int8"):
        (tmp_path / name).mkdir()
        formats.find(name).write(subject, tmp_path / name)
        sizes[name] = (tmp_path / name / "model.onnx").stat().st_size
    assert sizes["onnx_int8"] == pytest.approx(sizes["onnx"] / 4, rel=0.05)
    onnx_int8.write(subject_of(task_of(small.conv(3), noise(70, 1, 8, 8)))[0], tmp_path)
    assert "Conv" in {node.op_type for node in onnx.load(str(tmp_path / "model.onnx")).graph.node}


def test_a_model_without_products_has_no_int8(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ExportFailed, match="this model has none"):
        onnx_int8.write(subject_of(task_of(model, noise(70, 1, 8, 8)))[0], tmp_path)


class Branches(nn.Module):
    """Doubles what is positive as a whole, and takes the rest apart: it decides by values."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            return x * 2
        return x - 1


def test_a_forward_that_decides_by_values_is_scripted_and_nothing_else(tmp_path: Path) -> None:
    subject, example, _ = subject_of(task_of(Branches(), noise(70, 4)))
    with pytest.raises(ExportFailed, match="keeps one way.*Ship torchscript_script"):
        formats.find("torchscript").write(subject, tmp_path)
    for name in ("torch_export", "onnx"):
        with pytest.raises(ExportFailed, match="cannot follow a forward that decides by the values"):
            formats.find(name).write(subject, tmp_path)
    script = formats.find("torchscript_script")
    script.write(subject, tmp_path)
    predict = script.load(tmp_path)
    assert compare(predict, example, 1e-4, 1e-3).reason is None
    for sign, expected in ((1, 2), (-1, -2)):
        assert predict({"in0": np.full((2, 4), sign, np.float32)})["output"].tolist() == [[expected] * 4] * 2


def test_a_size_that_a_trace_asks_for_is_no_decision_by_values(tmp_path: Path) -> None:
    formats.find("torchscript").write(subject_of(task_of(small.FixedBatch(), noise(70, 4)))[0], tmp_path)


def test_what_no_script_can_hold_is_told_with_its_line(tmp_path: Path) -> None:
    class Formats(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return {str(k): v for k, v in {1: x}.items()}.pop(f"{1!r}", x)

    with pytest.raises(ExportFailed, match=r"TorchScript's part of Python; .*Ship torchscript or torch_export"):
        formats.find("torchscript_script").write(subject_of(task_of(Formats(), noise(70, 4)))[0], tmp_path)


def test_an_exported_program_is_captured_once_and_holds_no_pickle(tmp_path: Path) -> None:
    subject, *_ = subject_of(text_task())
    formats.find("torch_export").write(subject, tmp_path)
    program = subject.shared["exported program"]
    formats.find("onnx").write(subject, tmp_path)
    assert subject.shared["exported program"] is program
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert parts["data/sample_inputs/model.pt"] == b""
    assert b'"use_pickle": true' not in b"".join(content for name, content in parts.items() if name.endswith(".json"))
    graph = json.loads(parts["models/model.json"])["graph_module"]["graph"]
    assert {"stack_trace", "nn_module_stack"}.isdisjoint(key for node in graph["nodes"] for key in node["metadata"])


def test_without_a_compiler_there_is_no_aotinductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ExportFailed, match="'no-such-compiler' is not there. Install g"):
        aotinductor.write(subject_of(small.mlp_task())[0], tmp_path)


def test_a_compilation_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aotinductor, "TIMEOUT_S", 0.01)
    monkeypatch.setenv("CXX", "true")
    with pytest.raises(ExportFailed, match=r"must end within 0.01 s"):
        aotinductor.write(subject_of(small.mlp_task())[0], tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_aotinductor_is_the_model_at_every_length(tmp_path: Path) -> None:
    subject, example, _ = subject_of(text_task())
    aotinductor.write(subject, tmp_path)
    assert compare(aotinductor.load(tmp_path), example, 1e-4, 1e-3).reason is None
    _assert_no_trace(tmp_path)


def test_without_coremltools_there_is_no_coreml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(ExportFailed, match=r"pip install 'hpo\[coreml\]'"):
        formats.find("coreml").write(subject_of(small.mlp_task())[0], tmp_path)


@pytest.mark.slow
def test_core_ml_has_the_names_and_open_lengths_of_the_task(tmp_path: Path) -> None:
    coremltools = pytest.importorskip("coremltools")
    formats.find("coreml").write(subject_of(categories())[0], tmp_path)
    model = coremltools.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True)
    description = model.get_spec().description
    assert [feature.name for feature in description.input] == ["in0", "in1"]
    assert [feature.name for feature in description.output] == ["value"]
    rows, columns = description.input[0].type.multiArrayType.shapeRange.sizeRanges
    assert (columns.lowerBound, columns.upperBound) == (4, 4) and rows.lowerBound == 1 and rows.upperBound > 2**30
    _assert_no_trace(tmp_path)
    with pytest.raises(ExportFailed, match="Apple's systems only"):
        formats.find("coreml").load(tmp_path)
