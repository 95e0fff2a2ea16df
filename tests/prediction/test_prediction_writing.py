"""Predictions as files: the same rows in every form, whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from hpo.errors import DataError, UserError
from hpo.prediction.running import Answer
from hpo.prediction.writing import save
from objectives.prediction import Rows

TOLD: list[dict[str, Any]] = [
    {"class": 'ö, "a"', "chance": 0.5, "all": {"a": 0.5, "b": 0.5}, "list": [1, 2]},
    {"class": "b", "chance": float("nan"), "all": {"b": 1.0}, "list": []},
    {"class": "c", "chance": None, "all": {}, "list": [3]},
]
EXPECTED = [{"id": f"row {i}", **told} for i, told in enumerate(TOLD)]
EXPECTED[1]["chance"] = None


def answers() -> Iterator[Answer]:
    outputs = np.arange(6, dtype=np.float32).reshape(3, 2)
    for rows in (slice(0, 2), slice(2, 3)):
        ids = [f"row {i}" for i in range(3)][rows]
        yield Answer(Rows(ids, {}), {"y": outputs[rows], "z": outputs[rows, 0].astype(np.int64)}, TOLD[rows])


def test_json_lines_are_the_rows(tmp_path: Path) -> None:
    assert save(answers(), tmp_path / "a.jsonl") == 3
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()] == EXPECTED


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_hold_lists_and_mappings_as_json(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    assert save(answers(), path) == 3
    if suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{**row, "chance": float(row["chance"]) if row["chance"] else None} for row in csv.DictReader(file)]
    else:
        rows = parquet.read_table(path).to_pylist()
    assert [{**row, "all": json.loads(row["all"]), "list": json.loads(row["list"])} for row in rows] == EXPECTED


def test_an_npz_holds_the_models_own_outputs_with_ids(tmp_path: Path) -> None:
    assert save(answers(), tmp_path / "a.npz") == 3
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file.files) == {"y", "z", "ids"}
        assert file["ids"].tolist() == ["row 0", "row 1", "row 2"]
        assert file["y"].dtype == np.float32 and file["y"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert file["z"].dtype == np.int64 and file["z"].tolist() == [0, 2, 4]


def broken() -> Iterator[Answer]:
    yield next(answers())
    raise DataError("row 7 is bad")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".npz"])
def test_what_breaks_on_the_way_leaves_what_was_there(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(DataError, match="row 7"):
        save(broken(), path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with pytest.raises(UserError, match="exists; use --overwrite"):
        save(answers(), path)
    with pytest.raises(DataError, match="row 7"):
        save(broken(), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_text() == "old"
    assert save(answers(), path, overwrite=True) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".npz"])
def test_a_full_disk_leaves_nothing_half_written(suffix: str, small_disk: Path) -> None:
    def many() -> Iterator[Answer]:
        rng = np.random.default_rng(1)
        for _ in range(60):
            value = rng.random((1000, 20))
            yield Answer(Rows(["x"] * 1000, {}), {"y": value}, [{"y": row} for row in value.tolist()])

    with pytest.raises(UserError, match="cannot be written: .*No space left on device"):
        save(many(), small_disk / f"a{suffix}")
    assert list(small_disk.iterdir()) == []


def test_rows_that_no_table_holds_are_refused(tmp_path: Path) -> None:
    def told(*rows: dict[str, Any]) -> Iterator[Answer]:
        for i, row in enumerate(rows):
            yield Answer(Rows([str(i)], {}), {"y": np.zeros((1, 2 + i))}, [row])

    with pytest.raises(DataError, match="same columns in every row; 1 has id, b"):
        save(told({"a": 1}, {"b": 1}), tmp_path / "a.csv")
    with pytest.raises(DataError, match="one type for each column; from row 1 on"):
        save(told({"a": 1}, {"a": "b"}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'y' is \(3,\) in row 1 and \(2,\) in the first"):
        save(told({"a": 1}, {"a": 1}), tmp_path / "a.npz")


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for name, said in (("a.xlsx", "are written as .csv, .parquet, .jsonl, .npz"), ("no/a.csv", "No such file")):
        with pytest.raises(UserError, match=said):
            save(answers(), tmp_path / name)
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        save(answers(), tmp_path / "b.csv", overwrite=True)
