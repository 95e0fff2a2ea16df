"""Loading, refusing and splitting records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpo.errors import DataError
from objectives.quality_regression import OBJECTIVE
from objectives.quality_regression.data import TYPES, load, split, split_ids

Columns = dict[str, Any]


def columns(logos: int = 100, per_logo: int = 1) -> Columns:
    rng = np.random.default_rng(0)
    rows = logos * per_logo
    logo = np.arange(rows) // per_logo
    return {
        "logo_id": [f"logo{i}" for i in logo],
        "features": list(rng.random((rows, 2048), dtype=np.float32)),
        "settings": list(rng.random((rows, 8), dtype=np.float32)),
        "ssim": rng.random(rows, dtype=np.float32),
        "logo_type": [TYPES[i % 4] for i in logo],
    }


def parquet(path: Path, table: Columns, note: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"hpo": json.dumps(note)} if note else None
    pq.write_table(pa.table(table).replace_schema_metadata(metadata), path)
    return {"path": str(path), "min_records": 50}


def test_parquet_and_npz_of_the_same_records_are_the_same_data(tmp_path: Path) -> None:
    made = columns()
    note = {"features": "resnet50"}
    np.savez(tmp_path / "a.npz", hpo=json.dumps(note), **{k: np.array(v) for k, v in made.items()})
    first = OBJECTIVE().check_data(parquet(tmp_path / "a.parquet", made, note))
    second = OBJECTIVE().check_data({"path": str(tmp_path / "a.npz"), "min_records": 50})
    assert first == second
    assert first.counts == {"records": 100, "logos": 100, **dict.fromkeys(TYPES, 25)}
    records = load({"path": tmp_path / "a.npz", "min_records": 1})
    assert records.feature_kind == "resnet50"
    np.testing.assert_array_equal(records.features, np.array(made["features"]))


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    made = columns()
    first = OBJECTIVE().check_data(parquet(tmp_path / "a.parquet", made)).fingerprint
    made["ssim"][3] += 1e-3
    assert OBJECTIVE().check_data(parquet(tmp_path / "a.parquet", made)).fingerprint != first


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    made = columns()
    data = parquet(tmp_path / "a.parquet", made)
    assert load(data) is load(data)
    before = load(data)
    made["ssim"] = made["ssim"][::-1]
    parquet(tmp_path / "b.parquet", made)
    (tmp_path / "b.parquet").replace(tmp_path / "a.parquet")
    assert load(data) is not before


def bad_ssim(table: Columns) -> None:
    table["ssim"] = [1.5 if i in (2, 7) else (float("nan") if i == 9 else 0.5) for i in range(100)]


def short_features(table: Columns) -> None:
    table["features"][4] = table["features"][4][:2047]


def unknown_types(table: Columns) -> None:
    table["logo_type"] = ["photo"] * 8 + table["logo_type"][8:]


def nan_features(table: Columns) -> None:
    table["features"][11][5] = np.nan


def wide_settings(table: Columns) -> None:
    table["settings"][3][0] = 8.0


def seven_settings(table: Columns) -> None:
    table["settings"] = [row[:7] for row in table["settings"]]


def two_types(table: Columns) -> None:
    table["logo_id"][1] = "logo0"


def no_ssim(table: Columns) -> None:
    del table["ssim"], table["logo_id"]


def missing_ssim(table: Columns) -> None:
    table["ssim"] = [None, *table["ssim"][1:]]


def no_ids(table: Columns) -> None:
    table["logo_id"][6] = None


def text_ssim(table: Columns) -> None:
    table["ssim"] = ["good"] * 100


def text_features(table: Columns) -> None:
    table["features"] = ["many"] * 100


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (bad_ssim, r"ssim must be in \[0, 1\]; 3 of 100 .* row 2 \(logo logo2\): 1.5, .* row 9 \(logo logo9\): nan"),
        (short_features, r"features must have 2048 values; 1 of 100 .* row 4 \(logo logo4\): 2047"),
        (unknown_types, r"one of simple, text, gradient, complex; 8 of 100 .*: photo, .* and 3 more"),
        (nan_features, r"features must be finite; 1 of 100 .* row 11"),
        (wide_settings, r"settings must be normalised to \[0, 1\]; 1 of 100 .* row 3"),
        (seven_settings, r"settings must have 8 values; 100 of 100 .* and 95 more"),
        (two_types, r"one logo_type; 1 of 100 .* row 1 \(logo logo0\)"),
        (no_ssim, r"missing logo_id, ssim"),
        (missing_ssim, r"ssim must be in \[0, 1\]; 1 of 100 .* row 0"),
        (no_ids, r"logo_id must not be empty; 1 of 100 .* row 6"),
        (text_ssim, r"ssim must hold numbers: could not convert string to float: 'good'"),
        (text_features, r"features must be a list of 2048 numbers; it is string"),
    ],
)
def test_unusable_records_are_refused_with_their_count_and_first_offenders(
    tmp_path: Path, spoil: Callable[[Columns], None], message: str
) -> None:
    table = columns()
    spoil(table)
    with pytest.raises(DataError, match=message):
        OBJECTIVE().check_data(parquet(tmp_path / "a.parquet", table))


def test_too_few_records_are_refused_and_the_minimum_can_be_lowered(tmp_path: Path) -> None:
    data = parquet(tmp_path / "a.parquet", columns(20))
    with pytest.raises(DataError, match="has 20 records; at least 1000 are needed"):
        OBJECTIVE().check_data({"path": data["path"]})
    assert OBJECTIVE().check_data({**data, "min_records": 20}).counts["records"] == 20


def test_files_that_are_not_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("hello")
    (tmp_path / "a.npz").write_text("hello")
    np.savez(tmp_path / "object.npz", logo_id=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "flat.npz", **{**{k: np.array(v) for k, v in columns().items()}, "features": np.zeros(100)})
    np.savez(tmp_path / "uneven.npz", ssim=np.zeros(3), logo_id=np.zeros(4))
    np.savez(tmp_path / "single.npz", ssim=np.float32(0.5), logo_id=np.zeros(4))
    np.savez(tmp_path / "complex.npz", **{**{k: np.array(v) for k, v in columns().items()}, "ssim": np.full(100, 0.5j)})
    (tmp_path / "a.csv").write_text("logo_id,ssim\na,0.5\n")
    for name, message in {
        "a.parquet": "cannot be read as a Parquet file",
        "a.npz": "cannot be read as an npz file",
        "object.npz": "cannot be read as an npz file",
        "flat.npz": r"features must have shape \(records, 2048\); got \(100,\)",
        "uneven.npz": "equally long",
        "single.npz": "ssim must have a row for each record; it is a single value",
        "complex.npz": "ssim must hold numbers: they are complex128",
        "a.csv": "records to learn from are a Parquet or npz file; a CSV is for `hpo predict` alone",
        "none.parquet": "No such file.*make-data",
        ".": "cannot be read as a Parquet file",
    }.items():
        with pytest.raises(DataError, match=message):
            OBJECTIVE().check_data({"path": str(tmp_path / name)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"path": "x", "min_record": 5}, "Unknown field 'min_record'.*Did you mean 'min_records'"),
        ({"path": "x", "min_records": 0}, "min_records must be a whole number of at least 1; got 0"),
        ({}, "path must name a Parquet or npz file; got None"),
    ],
)
def test_fields_that_make_no_sense_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        OBJECTIVE().check_data(data)


def test_no_logo_stands_on_two_sides_and_types_are_alike(tmp_path: Path) -> None:
    records = load(parquet(tmp_path / "a.parquet", columns(200, 5)))
    ids = split_ids(records, 3)
    assert len(set(ids["train"]) | set(ids["validation"]) | set(ids["test"])) == 200
    assert sum(map(len, ids.values())) == 200
    parts = split(records, 3)
    assert len(parts.train) / 1000 == pytest.approx(0.68, abs=0.02)
    assert len(parts.test) / 1000 == pytest.approx(0.15, abs=0.02)
    for rows in (parts.train, parts.validation, parts.test):
        for kind in TYPES:
            assert np.mean(records.logo_types[rows] == kind) == pytest.approx(0.25, abs=0.03)
