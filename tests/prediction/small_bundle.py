"""A bundle written by hand, without PyTorch: value = x · (1, 2, 3) + the sum of k, of any length; doubled = 2 x."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from hpo.export.bundle import ModelBundle
from hpo.export.example import StoredExample
from hpo.export.manifest import FormatEntry, Manifest, TensorFacts
from hpo.export.plain import to_json

X = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
K = np.array([[0, 0], [1, 2], [3, -4], [10, 0]], np.int64)
VALUE = [1.0, 5.0, 2.0, 16.0]  # by hand

OBJECTIVE = """
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from hpo.errors import DataError
from hpo.trial import Direction, Metric
from objectives.base import TrainingObjective
from objectives.prediction import Rows
from search_spaces import Float, SearchSpace


@dataclass(frozen=True)
class Reading:
    unit: str
    suffixes: tuple = (".txt",)
    accepts: str = "three numbers a line"

    def read(self, path, rows):
        lines = path.read_text().splitlines()
        for start in range(0, len(lines), rows):
            some = lines[start : start + rows]
            x = np.array([[float(word) for word in line.split()] for line in some])
            yield Rows([f"line {start + i}" for i in range(len(some))], {"x": x, "k": np.zeros((len(some), 1), int)})

    def tell(self, rows, outputs):
        return [{f"value_{self.unit}": float(v), "parts": {"a": float(v), "b": 1.0}} for v in outputs["value"]]


class Small(TrainingObjective):
    summary = "for tests"
    space = SearchSpace({"lr": Float(1e-4, 1e-1)})

    def task(self, job):
        raise NotImplementedError

    def preparation(self, params, facts, assets):
        return Reading((assets / "unit.txt").read_text())


class Mute(Small):
    preparation = TrainingObjective.preparation
"""


def model() -> onnx.ModelProto:
    def tensor(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["dot"]),
        helper.make_node("Cast", ["k"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["dot", "sum"], ["value"]),
        helper.make_node("Add", ["x", "x"], ["doubled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [tensor("x", TensorProto.FLOAT, "batch", 3), tensor("k", TensorProto.INT64, "batch", "sequence")],
        [tensor("value", TensorProto.FLOAT, "batch"), tensor("doubled", TensorProto.FLOAT, "batch", 3)],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(found, full_check=True)
    return found


def bundle(folder: Path, *, objective: str = "nobody", formats: dict[str, str] | None = None) -> ModelBundle:
    """``formats``: name -> the package it needs; each file holds the graph, whatever it is called."""
    given = {"onnx": "onnxruntime"} if formats is None else formats

    def fill(staged: Path) -> None:
        entries = {}
        for name, package in given.items():
            file = staged / "formats" / name / "model.onnx"
            file.parent.mkdir(parents=True)
            onnx.save(model(), str(file))
            files = (f"formats/{name}/model.onnx",)
            entries[name] = FormatEntry(released=True, files=files, packages={package: "1"})
        entries["torchscript"] = FormatEntry(released=False, reason="It differs.")
        facts: dict[str, Any] = {
            "created_at": "2026-01-01T00:00:00+00:00", "objective": objective, "params": {}, "facts": {}, "atol": 1e-4,
            "rtol": 1e-3, "environment": {}, "origin": {}, "formats": entries,
        }  # fmt: skip
        manifest = Manifest(
            inputs=(
                TensorFacts(name="x", dtype="float32", shape=("batch", 3)),
                TensorFacts(name="k", dtype="int64", shape=("batch", "sequence")),
            ),
            outputs=(
                TensorFacts(name="value", dtype="float32", shape=("batch",)),
                TensorFacts(name="doubled", dtype="float32", shape=("batch", 3)),
            ),
            **facts,
        )
        (staged / "manifest.json").write_text(to_json(manifest, "manifest"))
        (staged / "metrics.json").write_text("{}")
        (staged / "config.yaml").write_text("name: demo\n")
        (staged / "README.md").write_text("# demo\n")
        (staged / "assets").mkdir()
        (staged / "assets" / "unit.txt").write_text("m")
        StoredExample({"x": X, "k": K}, {4: {"value": np.array(VALUE, np.float32), "doubled": 2 * X}}).save(staged)

    return ModelBundle.write(folder, fill)
