"""New logos reach a shipped model as training's did, from every kind of file; what is refused on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from hpo.errors import BundleError, DataError
from objectives.prediction import Rows
from objectives.quality_regression.data import load
from objectives.quality_regression.preparation import LogoPreparation

FOUND = LogoPreparation.of({"features": "classical-1"})
COUNT = 5


def records(**changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(COUNT, 2048)).astype(np.float32)
    settings = rng.random((COUNT, 8), dtype=np.float32)
    return {
        "logo_id": np.array([f"logo-{i}" for i in range(COUNT)]),
        "features": features,
        "settings": settings,
    } | changes


def written(path: Path, found: dict[str, np.ndarray], note: str | None = None) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **found)  # type: ignore[arg-type]
    elif path.suffix == ".parquet":
        table = pa.table({name: list(column) for name, column in found.items()})
        parquet.write_table(table.replace_schema_metadata({"hpo": note} if note else None), path)
    else:
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            wide = [(name, i) for name in ("settings", "features") for i in range(found[name].shape[1])]
            rows.writerow(["logo_id", "other", *(f"{name}_{i}" for name, i in wide)])
            for row in range(COUNT):
                rows.writerow([found["logo_id"][row], "x", *(repr(float(found[name][row, i])) for name, i in wide)])
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv"])
def test_every_kind_of_file_gives_the_same_bits(suffix: str, tmp_path: Path) -> None:
    made = records()
    parts = list(FOUND.read(written(tmp_path / f"new{suffix}", made), 2))
    assert [list(part.ids) for part in parts] == [["logo-0", "logo-1"], ["logo-2", "logo-3"], ["logo-4"]]
    inputs = np.concatenate([part.inputs["features_and_settings"] for part in parts])
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, np.hstack([made["features"], made["settings"]]))


def test_a_file_of_training_needs_no_targets(small_data: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    data = small_data("quality_regression")
    known = load(data)
    bare = parquet.read_table(data["path"]).drop_columns(["ssim", "logo_type", "logo_id"])
    parquet.write_table(bare, tmp_path / "bare.parquet")
    for path in (Path(data["path"]), tmp_path / "bare.parquet"):
        (rows,) = FOUND.read(path, 100)
        np.testing.assert_array_equal(rows.inputs["features_and_settings"], known.inputs(np.arange(len(known))))
    assert list(rows.ids) == [str(i) for i in range(len(known))]


def spoiled(name: str, row: int, column: int, value: float) -> dict[str, np.ndarray]:
    made = records()
    made[name][row, column] = value
    return made


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (spoiled("features", 3, 7, np.nan), r"features must be finite; 1 of 1 records .* row 3 \(logo logo-3\)"),
        (spoiled("settings", 3, 2, 1.5), r"settings must be normalised to \[0, 1\]; .* row 3 \(logo logo-3\)"),
        (records(features=np.zeros((COUNT, 2047), np.float32)), "must have (shape|2048 values)"),
        ({k: v for k, v in records().items() if k != "settings"}, "missing settings"),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_what_cannot_be_used_is_refused_with_its_row(
    made: dict[str, np.ndarray], said: str, suffix: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        list(FOUND.read(written(tmp_path / f"new{suffix}", made), 1))


def test_a_csv_without_some_columns_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("logo_id,settings_0\nx,1\n")
    with pytest.raises(DataError, match=r"missing features_0, features_1, .* and 2050 more"):
        list(FOUND.read(tmp_path / "a.csv", 8))
    (tmp_path / "a.csv").write_text("logo_id;features_0\nx;1\n")
    with pytest.raises(DataError, match="header is a single column"):
        list(FOUND.read(tmp_path / "a.csv", 8))
    names = [f"features_{i}" for i in range(2048)] + [f"settings_{i}" for i in range(8)] + ["settings_3"]
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{','.join(['0.5'] * len(names))}\n")
    with pytest.raises(DataError, match="more than one column is called settings_3"):
        list(FOUND.read(tmp_path / "a.csv", 8))
    for suffix in (".parquet", ".npz", ".csv"):
        (tmp_path / f"b{suffix}").write_bytes(b"\xff\x00nothing of the kind\x00")
        with pytest.raises(DataError, match=f"b{suffix}"):
            list(FOUND.read(tmp_path / f"b{suffix}", 8))


def test_features_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", records(), json.dumps({"features": "resnet50"}))
    with pytest.raises(DataError, match="kind 'resnet50', and the model was trained on 'classical-1'"):
        next(FOUND.read(path, 8))
    written(path, records(), json.dumps({"features": "classical-1"}))
    assert len(next(FOUND.read(path, 8)).ids) == COUNT


def test_the_output_is_told_by_its_name() -> None:
    assert FOUND.tell(Rows(["a", "b"], {}), {"ssim": np.array([[0.5], [0.25]], np.float32)}) == [
        {"ssim": 0.5}, {"ssim": 0.25},
    ]  # fmt: skip
    with pytest.raises(BundleError, match="no 'features'"):
        LogoPreparation.of({})
