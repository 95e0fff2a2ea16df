"""``hpo predict`` as a person meets it: rows, files, and one line for every mistake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundle import VALUE, K, X, bundle

import cli
from tests.pages import ROOT

Predict = Callable[..., tuple[int, str, str]]
READING = "small_reading:Small"


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Predict:
    """Run the command in an empty folder: its exit code, stdout and stderr."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpo", "predict", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_the_bundles_own_example_is_predicted_without_its_objective(small: Path, predict: Predict) -> None:
    code, out, _ = predict(small, small / "example.npz", "--json")
    assert code == 0
    assert lines(out) == [
        {"id": str(i), "value": value, "doubled": (2 * X[i]).tolist()} for i, value in enumerate(VALUE)
    ]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_arrays_by_name_are_cast_and_run_in_batches(batch: int, small: Path, predict: Predict) -> None:
    np.savez("new.npz", x=X.astype(np.float64), k=K.astype(np.int32), other=np.zeros(2))
    _, out, _ = predict(small, "new.npz", "--json", "--batch", batch)
    assert [row["value"] for row in lines(out)] == VALUE
    _, out, _ = predict(small, "new.npz", "--json", "--batch", batch, "--limit", 2)
    assert [row["value"] for row in lines(out)] == VALUE[:2]


def test_a_table_shows_the_first_rows_and_says_that_there_are_more(small: Path, predict: Predict) -> None:
    np.savez("new.npz", x=np.tile(X, (10, 1)), k=np.tile(K, (10, 1)))
    _, out, _ = predict(small, "new.npz")
    assert len(out.splitlines()) == 2 + 20 + 1 and "The first 20 rows. All of them: --json, or --out FILE." in out
    _, out, _ = predict(small, "new.npz", "--limit", 3)
    assert len(out.splitlines()) == 2 + 3


def test_outputs_go_to_a_file(small: Path, predict: Predict) -> None:
    example = small / "example.npz"
    assert predict(small, example, "--out", "a.npz")[:2] == (0, "Predictions of 4 rows: a.npz\n")
    with np.load("a.npz") as file:
        assert file["value"].tolist() == VALUE
    code, _, err = predict(small, example, "--out", "a.npz")
    assert code == 2 and "a.npz exists; use --overwrite" in err
    assert json.loads(predict(small, example, "--out", "a.npz", "--overwrite", "--json")[1]) == {
        "path": "a.npz", "rows": 4,
    }  # fmt: skip
    code, _, err = predict(small, example, "--out", small / "new.csv")
    assert code == 2 and "lies in the bundle, whose files never change" in err
    assert predict(small, example)[0] == 0


def test_files_go_through_the_objectives_preparation(tmp_path: Path, code: Path, predict: Predict) -> None:
    folder = bundle(tmp_path / "own", objective=READING).folder
    Path("new.txt").write_text("1 2 3\n0 0 1\n")
    status, _, err = predict(folder, "new.txt")
    assert status == 2 and "no module named 'small_reading'. Give --import-from" in err
    _, out, _ = predict(folder, "new.txt", "--json", "--import-from", code)
    assert lines(out) == [
        {"id": "line 0", "value_m": 14.0, "parts": {"a": 14.0, "b": 1.0}},
        {"id": "line 1", "value_m": 3.0, "parts": {"a": 3.0, "b": 1.0}},
    ]
    _, out, _ = predict(folder, folder / "example.npz", "--json", "--import-from", code)
    assert [row["value_m"] for row in lines(out)] == VALUE
    status, _, err = predict(folder, "new.txt", "--import-from", folder / "assets")
    assert status == 2 and "may not choose what code runs" in err
    evil = bundle(tmp_path / "evil", objective="evil.assets.unit:Small").folder
    (evil / "assets" / "unit.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    _sealed(evil)
    status, _, err = predict(evil, "new.txt", "--import-from", tmp_path)
    assert status == 2 and "lies in the bundle, which may not choose what code runs" in err
    assert not (tmp_path / "ran").exists()
    Path("new.xlsx").write_text("x")
    status, _, err = predict(folder, "new.xlsx", "--import-from", code)
    assert status == 2 and "reads files that end in .txt, .npz (three numbers a line; or an .npz" in err
    folder = bundle(tmp_path / "mute", objective="small_reading:Mute").folder
    status, _, err = predict(folder, "new.txt", "--import-from", code)
    assert status == 2 and "Mute reads no files" in err


def test_another_format_that_onnxruntime_runs_is_taken_where_there_is_no_onnx(tmp_path: Path, predict: Predict) -> None:
    folder = bundle(tmp_path / "int8", formats={"onnx_int8": "onnxruntime"}).folder
    assert [row["value"] for row in lines(predict(folder, folder / "example.npz", "--json")[1])] == VALUE
    folder = bundle(tmp_path / "heavy", formats={"safetensors": "torch"}).folder
    code, _, err = predict(folder, folder / "example.npz")
    assert code == 2 and "no format that onnxruntime runs; it has safetensors. Name one with --format" in err
    folder = bundle(tmp_path / "program", formats={"aotinductor": "torch"}).folder
    refused(
        predict(folder, folder / "example.npz", "--format", "aotinductor"), "aotinductor is not loaded. It is a program"
    )


def _sealed(folder: Path) -> None:
    """Make the checksums right again."""
    from hpo.export import bundle as module

    (folder / "checksums.sha256").unlink()
    module._seal(folder)


def _changed(folder: Path) -> None:
    file = folder / "formats/onnx/model.onnx"
    file.write_bytes(file.read_bytes() + b" ")


def _newer(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, "version": content["version"] + 1}))
    _sealed(folder)


def _outside(folder: Path) -> None:
    sums = (folder / "checksums.sha256").read_text().replace("assets/unit.txt", "../code/unit.txt")
    (folder / "checksums.sha256").write_text("".join(sorted(sums.splitlines(True), key=lambda line: line[66:])))


def _not_onnx(folder: Path) -> None:
    (folder / "formats/onnx/model.onnx").write_bytes(b"no graph")
    _sealed(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_changed, "formats/onnx/model.onnx has changed"),
        (lambda folder: (folder / "metrics.json").unlink(), "metrics.json is missing"),
        (lambda folder: (folder / "new.txt").write_text("x"), "new.txt is not listed"),
        (_newer, "install a newer hpo"),
        (_outside, "../code/unit.txt lies outside the bundle's folder"),
        (_not_onnx, "onnx cannot be loaded here"),
        (shutil.rmtree, "Unknown bundle's folder or model|there is none at"),
    ],
)
def test_a_damaged_bundle_is_one_line(spoil: Callable[[Path], Any], said: str, small: Path, predict: Predict) -> None:
    np.savez("new.npz", x=X, k=K)
    spoil(small)
    refused(predict(small, "new.npz"), said)


def refused(answer: tuple[int, str, str], said: str) -> None:
    code, out, err = answer
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert any(part in err for part in said.split("|")), err


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"xx": X, "k": K}, "input 'x' is not in it; it has 'k', 'xx'. Did you mean it by 'xx'?"),
        ({"x": X[:, :2], "k": K}, "'x' must have the shape (batch, 3); got (4, 2)"),
        ({"x": X, "k": K[:2]}, "same number of rows; got {'x': 4, 'k': 2}"),
        ({"x": X, "k": K + 0.5}, "'k' must be int64; got float64"),
        (
            {"x": np.where(X == 1, np.nan, X), "k": K},
            "'x' must be finite; 6 of 12 values, in 4 of 4 rows, break that: row 0 at [0]",
        ),
        ({"x": X[:0], "k": K[:0]}, "there is nothing in it to predict"),
        ({"something": X}, "input 'x' is not in it; it has 'something'"),
        ({"x": X.astype(object), "k": K}, "holds Python objects, which would need pickle"),
    ],
)
def test_wrong_arrays_are_one_line(arrays: dict[str, Any], said: str, small: Path, predict: Predict) -> None:
    np.savez("new.npz", **arrays)
    refused(predict(small, "new.npz", "--json"), said)


def test_other_mistakes_are_one_line(small: Path, predict: Predict, tmp_path: Path) -> None:
    example = small / "example.npz"
    refused(predict(small, "nothing.npz"), "nothing.npz: No such file or directory")
    Path("empty.npz").touch()
    refused(predict(small, "empty.npz"), "empty.npz is empty; there is nothing in it to predict")
    Path("text.npz").write_text("no zip")
    refused(predict(small, "text.npz"), "text.npz cannot be read as an .npz")
    refused(predict(small, example, "--format", "onx"), "Did you mean 'onnx'?")
    refused(predict(small, example, "--format", "torchscript"), "torchscript did not ship. It differs.")
    refused(predict(small, example, "--out", "a.doc"), "written as .csv, .parquet, .jsonl, .npz; got 'a.doc'")
    refused(predict("nobody@v1.0.0", example, "--storage", f"sqlite:///{tmp_path}/none.db"), "nobody")
    refused(predict(small, tmp_path), "Unknown objective 'nobody'")


def test_a_place_without_permission_is_one_line(small: Path, tmp_path: Path) -> None:
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*bound, sys.executable, "-P", "-m", "cli", "predict"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    shutil.copy(small / "example.npz", tmp_path / "example.npz")

    def run(*words: Path | str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *map(str, words)], cwd=tmp_path, env=env, capture_output=True, text=True)

    small.chmod(0o000)
    closed = run(small, "example.npz")
    small.chmod(0o555)  # nothing is written into a bundle
    read_only = run(small, "example.npz", "--limit", "1")
    (tmp_path / "example.npz").chmod(0o000)
    unreadable = run(small, "example.npz")
    small.chmod(0o755)
    assert (read_only.returncode, read_only.stderr) == (0, "")
    for done in (closed, unreadable):
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "ermission denied" in done.stderr


LOADED = """
import sys
sys.argv = ["hpo", "predict", *sys.argv[1:]]
import cli
try:
    cli.main()
finally:
    heavy = {"torch", "transformers", "ray", "optuna", "pandas", "onnx", "sklearn", "scipy"}
    print(sorted(heavy & set(sys.modules)), "onnxruntime" in sys.modules, file=sys.stderr)
"""


def test_onnxruntime_alone_is_loaded(small: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(small), str(small / "example.npz")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "[] True"
