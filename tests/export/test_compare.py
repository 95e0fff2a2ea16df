"""The bound between a format and PyTorch, by hand."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.export import formats, verify
from hpo.export.compare import compare, compare_rounded, measure
from hpo.export.example import StoredExample
from hpo.export.verify import check_apart


def stored(values: Any, dtype: str = "float32") -> StoredExample:
    expected = np.array(values, dtype)
    return StoredExample({"x": np.zeros((len(expected), 1), "float32")}, {len(expected): {"y": expected}})


def check(got: Any, expected: Any, dtype: str = "float32", atol: float = 1e-4, rtol: float = 1e-3) -> Any:
    return compare(lambda _: {"y": np.array(got, dtype)}, stored(expected, dtype), atol, rtol)


def test_the_bound_is_absolute_plus_relative() -> None:
    # at 10 the bound is 0.0001 + 0.01 = 0.0101
    assert check([10.01], [10.0], "float64").reason is None
    assert check([10.01], [10.0], "float64").comparison.bound_share == pytest.approx(0.01 / 0.0101)
    assert "a difference of 0.011 where 0.0101 is allowed" in check([10.011], [10.0], "float64").reason


def test_the_worst_place_is_the_one_nearest_to_its_own_bound_not_the_largest_difference() -> None:
    worst = check([100.05, 0.0002], [100.0, 0.0], "float64").comparison
    assert worst.index == (1,) and worst.difference == pytest.approx(2e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_past_every_bound(bad: float) -> None:
    found = check([1.0, bad], [1.0, 1.0], atol=1e30)
    assert "not finite" in found.reason and found.comparison.index == (1,)


def test_equal_infinities_are_equal_and_opposite_ones_are_not() -> None:
    assert check([float("-inf")], [float("-inf")]).reason is None
    assert check([float("inf")], [float("-inf")]).reason is not None
    assert check([1.0], [float("inf")]).reason is not None


def test_classes_and_flags_must_be_equal_whatever_the_tolerance() -> None:
    assert check([5001], [5000], "int64").reason is not None
    assert check([5000], [5000], "int64").reason is None
    assert check([True], [False], "bool", atol=10.0).reason is not None


def test_no_tolerance_at_all_passes_what_is_equal() -> None:
    assert check([1.5], [1.5], atol=0.0, rtol=0.0).reason is None


def test_another_shape_dtype_or_name_is_told_as_such() -> None:
    example = stored([1.0, 2.0])
    assert "(2, 1)" in str(compare(lambda _: {"y": np.ones((2, 1), "float32")}, example, 1, 1).reason)
    assert "float64" in str(compare(lambda _: {"y": np.ones(2)}, example, 1, 1).reason)
    assert "['z']" in str(compare(lambda _: {"z": np.ones(2)}, example, 1, 1).reason)


def test_latency_is_measured_at_three_batch_sizes_with_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    ticks = itertools.count()  # a clock that no busy machine holds up: a call takes a microsecond
    monkeypatch.setattr("hpo.export.compare.perf_counter", lambda: next(ticks) * 1e-6)
    example = StoredExample({"x": np.zeros((64, 1), "float32")}, {64: {}})

    def say(name: str) -> Any:
        def predict(inputs: Any) -> Any:
            seen.append(f"{name}{len(inputs['x'])}")
            return {}

        return predict

    found = measure(say("a"), say("b"), example)
    assert [one.batch for one in found] == [1, 8, 64] and all(one.calls >= 200 for one in found)
    assert seen.count("a1") == seen.count("b1") and seen[6:17] == ["a1"] * 10 + ["b1"]


def test_formats_are_the_files_of_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stone.py").write_text("packages = ('chisel',)\n")
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    torch_alone = ["torch_export", "torchscript", "torchscript_script"]
    others = ["aotinductor", "coreml", "huggingface", "onnx", "onnx_int8", "safetensors", "stone"]
    assert formats.known() == [*others, *torch_alone]
    assert set(formats.DEFAULT) <= set(formats.known())
    assert formats.find("stone").packages == ("chisel",)
    sys.modules.pop("hpo.export.formats.stone")


def test_a_process_that_hangs_or_dies_is_a_reason_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(script: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    monkeypatch.setattr(verify.sys, "executable", fake("exec sleep 60"))
    hung = check_apart(tmp_path, "onnx", 1e-4, 1e-3, latency=False, timeout_s=0.3)
    assert "must end within 0.3 s" in str(hung.reason)
    monkeypatch.setattr(verify.sys, "executable", fake("echo Killed >&2; kill -9 $$"))
    assert "-9" in str(check_apart(tmp_path, "onnx", 1e-4, 1e-3, latency=False).reason)


def rounded(got: Any, expected: Any, dtype: str = "float32", most: float = 0.1) -> Any:
    return compare_rounded(lambda _: {"y": np.array(got, dtype)}, stored(expected, dtype), most)


def test_a_relative_error_is_the_difference_over_the_spread() -> None:
    # the spread of 0 and 2 is 1; differences of 0.03 and 0.04 have a root mean square of sqrt(0.00125)
    found = rounded([0.03, 2.04], [0.0, 2.0], "float64").relative_error
    assert found.error == pytest.approx(0.00125**0.5) and found.difference == pytest.approx(0.04)


def test_a_rounded_format_fails_past_its_own_bound_and_says_by_how_much() -> None:
    assert rounded([0.1, 2.1], [0.0, 2.0], "float64", most=0.1001).reason is None
    failed = rounded([0.1, 2.1], [0.0, 2.0], "float64", most=0.0999)
    assert "relative error of output 'y' is 0.1 where 0.0999 is allowed" in failed.reason


def test_rounded_classes_differ_by_their_share() -> None:
    assert rounded([1, 2, 3, 9], [1, 2, 3, 4], "int64", most=0.3).relative_error.error == 0.25
    assert rounded([1, 2, 3, 9], [1, 2, 3, 4], "int64", most=0.2).reason is not None


@pytest.mark.parametrize(("got", "expected"), [([float("nan"), 1.0], [0.0, 1.0]), ([1.0, 1.1], [1.0, 1.0])])
def test_a_rounded_number_that_is_none_or_a_constant_that_moved_is_past_every_bound(got: Any, expected: Any) -> None:
    found = rounded(got, expected, most=1e30)
    assert "not finite" in found.reason and found.relative_error.error is None


def test_equal_outputs_without_spread_are_no_error() -> None:
    assert rounded([1.0, 1.0], [1.0, 1.0]).relative_error.error == 0.0


def test_what_cannot_be_run_is_told_with_the_case() -> None:
    def broken(inputs: Any) -> Any:
        raise RuntimeError("no such length")

    assert compare(broken, stored([1.0]), 1, 1).reason == "Cannot be run at batch 1: RuntimeError: no such length"
    assert compare_rounded(broken, stored([1.0]), 1).reason is not None
